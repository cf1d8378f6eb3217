//! Templates of alert labels and annotations.
//!
//! Rendering is a pure function over data; a template that asks for a query which has not been
//! evaluated yet stops with [`Expansion::Needs`], and is rendered again with the answer.
//! Source: Prometheus `template/template.go`.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use weir_go::humanize::go_time;
use weir_go::parse_prometheus_duration;
use weir_go::template::{Functions, Template, TemplateError, Templates, Value};
use weir_model::{Labels, Timestamp};

/// Upstream's prelude; its line break is missing on purpose, so that line numbers stay.
const PRELUDE: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
                       {{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// Most queries that one text may ask.
pub(crate) const QUERIES_MAX: usize = 16;

/// One element of a query's answer.
pub type Element = (Labels, f64);

/// What a text may refer to beside its own data.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub external_labels: Labels,
    /// Without a slash at the end.
    pub external_url: String,
}

/// Result of one rendering.
#[derive(Debug, PartialEq)]
pub enum Expansion {
    Done(String),
    /// A query whose answer has to be known first.
    Needs(String),
    Failed(String),
}

struct Env {
    answers: BTreeMap<String, Vec<Element>>,
    asked: Mutex<Option<String>>,
    at: Timestamp,
    external_url: String,
}

static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| Templates::new(functions()));

/// Whether the text parses.
pub fn check(name: &str, text: &str) -> Result<(), TemplateError> {
    parse(name, text).map(|_| ())
}

fn parse(name: &str, text: &str) -> Result<Template, TemplateError> {
    TEMPLATES.parse(name, &format!("{PRELUDE}{text}"))
}

/// Renders `text` for one element of an alert's expression.
pub fn expand(
    name: &str,
    text: &str,
    element: &Element,
    surroundings: &Surroundings,
    answers: &BTreeMap<String, Vec<Element>>,
    at: Timestamp,
) -> Expansion {
    // Most texts are plain; no machinery for them.
    if !text.contains("{{") {
        return Expansion::Done(text.to_owned());
    }
    let template = match parse(name, text) {
        Ok(template) => template,
        Err(e) => return Expansion::Failed(e.to_string()),
    };
    let data = Value::map([
        ("Labels", labels_value(&element.0)),
        ("ExternalLabels", labels_value(&surroundings.external_labels)),
        ("ExternalURL", Value::from(&*surroundings.external_url)),
        ("Value", Value::Float(element.1)),
    ]);
    let env =
        Env { answers: answers.clone(), asked: Mutex::new(None), at, external_url: surroundings.external_url.clone() };
    let result = TEMPLATES.render_with(&template, &data, &env);
    let asked = env.asked.into_inner().unwrap_or_else(PoisonError::into_inner);
    match (result, asked) {
        (_, Some(query)) => Expansion::Needs(query),
        (Ok(text), None) => Expansion::Done(text),
        (Err(e), None) => Expansion::Failed(e.to_string()),
    }
}

fn labels_value(labels: &Labels) -> Value {
    Value::map(labels.iter().map(|l| (l.name.clone(), Value::Str(l.value.clone()))))
}

fn element_value((labels, value): &Element) -> Value {
    Value::map([("Labels", labels_value(labels)), ("Value", Value::Float(*value))])
}

fn functions() -> Functions {
    let mut f = Functions::builtin().with_common();
    f.register("query", |call, args| {
        let [Value::Str(query)] = args else { return Err("wants one query text".to_owned()) };
        let env = call.env.downcast_ref::<Env>().ok_or("no queries here")?;
        if let Some(answer) = env.answers.get(&**query) {
            return Ok(Value::list(answer.iter().map(element_value)));
        }
        *env.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(query.to_string());
        Err("not evaluated yet".to_owned())
    });
    f.register("first", |_, args| match args.first().map(Value::plain) {
        Some(Value::List(l)) if !l.is_empty() => Ok(l[0].clone()),
        _ => Err("first() called on vector with no elements".to_owned()),
    });
    f.register("label", |_, args| match args {
        [name, element] => Ok(member(&member(element, "Labels"), &name.text())),
        _ => Err("wants a name and an element".to_owned()),
    });
    f.register("value", |_, args| Ok(args.first().map(|e| member(e, "Value")).unwrap_or_default()));
    f.register("strvalue", |_, args| {
        Ok(args.first().map(|e| member(&member(e, "Labels"), "__value__")).unwrap_or_default())
    });
    f.register("args", |_, args| Ok(Value::map(args.iter().enumerate().map(|(i, v)| (format!("arg{i}"), v.clone())))));
    f.register("tmpl", |call, args| match args {
        [Value::Str(name), data] => call.render(name, data).map(Value::from),
        _ => Err("wants a template's name and its data".to_owned()),
    });
    f.register("sortByLabel", |_, args| match args {
        [Value::Str(name), Value::List(items)] => {
            let mut items: Vec<Value> = items.to_vec();
            items.sort_by_cached_key(|e| member(&member(e, "Labels"), name).text());
            Ok(Value::list(items))
        }
        _ => Err("wants a label name and a query's answer".to_owned()),
    });
    f.register("stripPort", |_, args| Ok(strip_port(&text(args)?).into()));
    f.register("stripDomain", |_, args| Ok(strip_domain(&text(args)?).into()));
    f.register("graphLink", |_, args| Ok(link(&text(args)?, 0).into()));
    f.register("tableLink", |_, args| Ok(link(&text(args)?, 1).into()));
    f.register("parseDuration", |_, args| {
        parse_prometheus_duration(&text(args)?).map(|d| Value::Float(d.as_secs_f64())).map_err(|e| e.to_string())
    });
    f.register("toTime", |_, args| match args.first() {
        Some(Value::Float(v)) => {
            let nanos = (v * 1e9) as i128;
            jiff::Timestamp::from_nanosecond(nanos).map(|t| go_time(t).into()).map_err(|e| e.to_string())
        }
        _ => Err("wants a number of seconds".to_owned()),
    });
    f.register("now", |call, _| {
        let env = call.env.downcast_ref::<Env>().ok_or("no time here")?;
        Ok(Value::Float(env.at.secs_f64()))
    });
    f.register("externalURL", |call, _| Ok(env_url(call.env).into()));
    f.register("pathPrefix", |call, _| {
        let url = env_url(call.env);
        let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| rest[at..].to_owned()));
        Ok(path.unwrap_or_default().into())
    });
    f
}

fn env_url(env: &dyn std::any::Any) -> String {
    env.downcast_ref::<Env>().map(|e| e.external_url.clone()).unwrap_or_default()
}

fn text(args: &[Value]) -> Result<String, String> {
    match args {
        [one] => Ok(one.text()),
        _ => Err(format!("wrong number of args: want 1 got {}", args.len())),
    }
}

fn member(value: &Value, name: &str) -> Value {
    match value {
        Value::Map(map) => map.get(name).cloned().unwrap_or_else(|| Value::from("")),
        _ => Value::from(""),
    }
}

fn strip_port(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name.trim_start_matches('[').trim_end_matches(']').to_owned()
        }
        _ => host.to_owned(),
    }
}

fn strip_domain(host: &str) -> String {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, format!(":{port}")),
        None => (host, String::new()),
    };
    if name.parse::<std::net::IpAddr>().is_ok() {
        return host.to_owned();
    }
    format!("{}{port}", name.split('.').next().unwrap_or(name))
}

/// A path of Prometheus' own page, which weir's page understands.
pub fn link(query: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", url_encoded(query))
}

pub fn url_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(b)),
            b' ' => encoded.push('+'),
            b => encoded.push_str(&format!("%{b:02X}")),
        }
    }
    encoded
}

/// The same data for every element of one evaluation.
pub type Answers = BTreeMap<String, Vec<Element>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, answers: &Answers) -> Expansion {
        let element = (Labels::from_pairs([("instance", "db-1.eu:9100"), ("job", "node")]), 0.25);
        let surroundings =
            Surroundings { external_labels: Labels::from_pairs([("dc", "x")]), external_url: "http://w/p".into() };
        expand("t", text, &element, &surroundings, answers, Timestamp(1_500))
    }

    #[test]
    fn texts_see_labels_value_and_queries() {
        let answer = vec![
            (Labels::from_pairs([("instance", "b")]), 2.0),
            (Labels::from_pairs([("instance", "a"), ("__value__", "s")]), 1.0),
        ];
        let answers = Answers::from([("up".to_owned(), answer), ("none".to_owned(), Vec::new())]);
        let check =
            |text: &str, want: &str| assert_eq!(run(text, &answers), Expansion::Done(want.to_owned()), "{text}");
        check("plain", "plain");
        check("{{ $labels.instance }} {{ $value }} {{ .Value | humanizePercentage }}", "db-1.eu:9100 0.25 25%");
        check(
            "{{ $labels.nope }}|{{ $externalLabels.dc }} {{ $externalURL }} {{ externalURL }} {{ pathPrefix }}",
            "|x http://w/p http://w/p /p",
        );
        check("{{ query \"up\" | first | value }}", "2");
        check("{{ with query \"none\" }}x{{ else }}nothing{{ end }}", "nothing");
        check(
            "{{ range query \"up\" | sortByLabel \"instance\" }}{{ .Labels.instance }}={{ .Value }};{{ end }}",
            "a=1;b=2;",
        );
        check("{{ query \"up\" | first | label \"instance\" }}", "b");
        check("{{ (index (query \"up\") 1) | strvalue }}", "s");
        check(
            "{{ define \"x\" }}{{ .arg0 }}-{{ .arg1 }}{{ end }}{{ template \"x\" (args 1 \"b\") }} {{ tmpl \"x\" (args 3 4) }}",
            "1-b 3-4",
        );
        check(
            "{{ stripPort \"a:80\" }} {{ stripPort \"[::1]:80\" }} {{ stripDomain \"a.b.c:80\" }} {{ stripDomain \"10.0.0.1\" }}",
            "a ::1 a:80 10.0.0.1",
        );
        check("{{ graphLink \"up == 1\" }}", "/graph?g0.expr=up+%3D%3D+1&g0.tab=0");
        check("{{ parseDuration \"1h30m\" }} {{ now }} {{ toTime 0.5 }}", "5400 1.5 1970-01-01 00:00:00.5 +0000 UTC");
        check("{{ $value | printf \"%.1f\" }}", "0.2");
    }

    #[test]
    fn an_unknown_answer_is_asked_for_and_failures_are_told() {
        assert_eq!(run("{{ query \"x\" | first | value }}", &Answers::new()), Expansion::Needs("x".into()));
        let failed = run("{{ index $labels 1 2 }}", &Answers::new());
        assert!(
            matches!(&failed, Expansion::Failed(e) if e.starts_with("template: t:1: error calling index")),
            "{failed:?}"
        );
    }
}
