//! What notification templates see, and the templates they start with.
//!
//! Names of data, functions and default templates are Alertmanager's; `.IncidentURL` and `.Cause`
//! are weir's own. Source: Alertmanager `template/template.go`, `template/default.tmpl`.

use std::sync::Arc;

use jiff::tz::TimeZone;
use weir_go::humanize::go_time;
use weir_go::template::{Functions, Object, Templates, Value};
use weir_model::{Labels, Timestamp};

use crate::CauseNote;

/// One alert of a notification.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertData {
    pub firing: bool,
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub generator_url: String,
    /// 16 hex digits.
    pub fingerprint: String,
    pub incident_url: String,
}

/// Everything a notification says.
#[derive(Clone, Debug)]
pub struct Notification {
    pub receiver: String,
    pub group_key: String,
    pub group_labels: Labels,
    pub alerts: Vec<AlertData>,
    pub external_url: String,
    pub reason: String,
    /// Of the first firing alert, else of the first.
    pub incident_url: String,
    pub cause: Option<CauseNote>,
}

impl Notification {
    pub fn firing(&self) -> bool {
        self.alerts.iter().any(|a| a.firing)
    }
    pub fn status(&self) -> &'static str {
        if self.firing() { "firing" } else { "resolved" }
    }
    pub fn common_labels(&self) -> Labels {
        common(self.alerts.iter().map(|a| &a.labels))
    }
    pub fn common_annotations(&self) -> Labels {
        common(self.alerts.iter().map(|a| &a.annotations))
    }

    /// As templates see it.
    pub fn value(&self) -> Value {
        let alerts: Arc<[Value]> = self.alerts.iter().cloned().map(Value::object).collect();
        let cause = match &self.cause {
            Some(note) => Value::map([
                ("Title", Value::from(&*note.title)),
                ("Lines", Value::list(note.lines.iter().map(|l| Value::from(&**l)))),
                ("Confidence", Value::Float(note.confidence)),
                ("URL", Value::from(&*note.url)),
            ]),
            None => Value::Nil,
        };
        Value::map([
            ("Receiver", Value::from(&*self.receiver)),
            ("Status", Value::from(self.status())),
            ("Alerts", Value::object(Alerts(alerts))),
            ("GroupLabels", Value::object(Kv(self.group_labels.clone()))),
            ("CommonLabels", Value::object(Kv(self.common_labels()))),
            ("CommonAnnotations", Value::object(Kv(self.common_annotations()))),
            ("RouteLabels", Value::object(Kv(Labels::empty()))),
            ("ExternalURL", Value::from(&*self.external_url)),
            ("NotificationReason", Value::from(&*self.reason)),
            ("IncidentURL", Value::from(&*self.incident_url)),
            ("Cause", cause),
        ])
    }
}

fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = sets.next() else { return Labels::empty() };
    sets.fold(first.clone(), |common, set| common.filter(|name| common.get(name) == set.get(name)))
}

/// A label set with its methods.
struct Kv(Labels);

impl Object for Kv {
    fn type_name(&self) -> &str {
        "template.KV"
    }
    fn member(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        Some(Ok(match name {
            "SortedPairs" => Value::object(Pairs(self.0.clone())),
            "Names" => Pairs(self.0.clone()).names(),
            "Values" => Pairs(self.0.clone()).values(),
            "Remove" => {
                let Some(Value::List(names)) = args.first().map(Value::plain) else {
                    return Some(Err("wants a list of names".to_owned()));
                };
                let names: Vec<String> = names.iter().map(Value::text).collect();
                Value::object(Kv(self.0.filter(|n| !names.iter().any(|other| other == n))))
            }
            _ if !args.is_empty() => return Some(Err("is not a method".to_owned())),
            _ => Value::from(self.0.value(name)),
        }))
    }
    fn view(&self) -> Value {
        Value::map(self.0.iter().map(|l| (l.name.clone(), Value::Str(l.value.clone()))))
    }
}

/// Names and values, `alertname` first.
struct Pairs(Labels);

impl Pairs {
    fn sorted(&self) -> impl Iterator<Item = &weir_model::Label> {
        let (first, rest): (Vec<_>, Vec<_>) = self.0.iter().partition(|l| &*l.name == "alertname");
        first.into_iter().chain(rest)
    }
    fn names(&self) -> Value {
        Value::list(self.sorted().map(|l| Value::Str(l.name.clone())))
    }
    fn values(&self) -> Value {
        Value::list(self.sorted().map(|l| Value::Str(l.value.clone())))
    }
}

impl Object for Pairs {
    fn type_name(&self) -> &str {
        "template.Pairs"
    }
    fn member(&self, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
        match name {
            "Names" => Some(Ok(self.names())),
            "Values" => Some(Ok(self.values())),
            _ => None,
        }
    }
    fn view(&self) -> Value {
        let pair = |l: &weir_model::Label| {
            Value::map([("Name", Value::Str(l.name.clone())), ("Value", Value::Str(l.value.clone()))])
        };
        Value::list(self.sorted().map(pair))
    }
    fn print(&self) -> Option<String> {
        let pairs: Vec<String> = self.sorted().map(|l| format!("{} = {}", l.name, l.value)).collect();
        Some(pairs.join(", "))
    }
}

struct Alerts(Arc<[Value]>);

impl Object for Alerts {
    fn type_name(&self) -> &str {
        "template.Alerts"
    }
    fn member(&self, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
        let wanted = match name {
            "Firing" => "firing",
            "Resolved" => "resolved",
            _ => return None,
        };
        let is_wanted = |v: &&Value| match v {
            Value::Object(o) => matches!(o.member("Status", &[]), Some(Ok(Value::Str(s))) if &*s == wanted),
            _ => false,
        };
        Some(Ok(Value::list(self.0.iter().filter(is_wanted).cloned())))
    }
    fn view(&self) -> Value {
        Value::List(self.0.clone())
    }
}

impl Object for AlertData {
    fn type_name(&self) -> &str {
        "template.Alert"
    }
    fn member(&self, name: &str, _: &[Value]) -> Option<Result<Value, String>> {
        Some(Ok(match name {
            "Status" => Value::from(if self.firing { "firing" } else { "resolved" }),
            "Labels" => Value::object(Kv(self.labels.clone())),
            "Annotations" => Value::object(Kv(self.annotations.clone())),
            "StartsAt" => Value::object(Time::at(self.starts_at)),
            "EndsAt" => Value::object(Time::at(self.ends_at)),
            "GeneratorURL" => Value::from(&*self.generator_url),
            "Fingerprint" => Value::from(&*self.fingerprint),
            "IncidentURL" => Value::from(&*self.incident_url),
            _ => return None,
        }))
    }
}

/// A time in a zone.
struct Time(jiff::Zoned);

impl Time {
    fn at(t: Timestamp) -> Self {
        let t = jiff::Timestamp::from_millisecond(t.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Self(t.to_zoned(TimeZone::UTC))
    }
}

impl Object for Time {
    fn type_name(&self) -> &str {
        "time.Time"
    }
    fn member(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        Some(match (name, args) {
            ("Format", [layout]) => Ok(go_layout(&self.0, &layout.text()).into()),
            ("Unix", []) => Ok(Value::Int(self.0.timestamp().as_second())),
            ("UTC", []) => Ok(Value::object(Time(self.0.with_time_zone(TimeZone::UTC)))),
            ("Format", _) => Err("wants a layout".to_owned()),
            _ => return None,
        })
    }
    fn print(&self) -> Option<String> {
        Some(go_time(self.0.timestamp()))
    }
}

/// Formats by Go's reference time, `Mon Jan 2 15:04:05 MST 2006`.
fn go_layout(time: &jiff::Zoned, layout: &str) -> String {
    const PARTS: [(&str, &str); 26] = [
        ("January", "%B"),
        ("Monday", "%A"),
        ("2006", "%Y"),
        ("Z07:00", "%:z"),
        ("-07:00", "%:z"),
        ("-0700", "%z"),
        ("Jan", "%b"),
        ("Mon", "%a"),
        ("MST", "%Z"),
        (".000000000", ".%9f"),
        (".000000", ".%6f"),
        (".000", ".%3f"),
        ("01", "%m"),
        ("02", "%d"),
        ("03", "%I"),
        ("04", "%M"),
        ("05", "%S"),
        ("06", "%y"),
        ("15", "%H"),
        ("PM", "%p"),
        ("_2", "%e"),
        ("1", "%-m"),
        ("2", "%-d"),
        ("3", "%-I"),
        ("4", "%-M"),
        ("5", "%-S"),
    ];
    let mut out = String::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        match PARTS.iter().find(|(go, _)| rest.starts_with(go)) {
            Some(("Z07:00", _)) if time.offset().is_zero() => {
                out.push('Z');
                rest = &rest[6..];
            }
            Some((go, format)) => {
                out.push_str(&time.strftime(format).to_string());
                rest = &rest[go.len()..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

fn zoned(value: &Value) -> Result<jiff::Zoned, String> {
    let Value::Object(o) = value else { return Err("wants a time".to_owned()) };
    let seconds = match o.member("Unix", &[]) {
        Some(Ok(Value::Int(s))) => s,
        _ => return Err("wants a time".to_owned()),
    };
    jiff::Timestamp::from_second(seconds).map(|t| t.to_zoned(TimeZone::UTC)).map_err(|e| e.to_string())
}

fn functions() -> Functions {
    let mut f = Functions::builtin().with_common();
    f.register("join", |_, args| match args {
        [separator, list] => {
            let Value::List(items) = list.plain() else { return Err("wants a list".to_owned()) };
            let items: Vec<String> = items.iter().map(Value::text).collect();
            Ok(items.join(&separator.text()).into())
        }
        _ => Err("wants a separator and a list".to_owned()),
    });
    let text = |f: fn(&str) -> Result<String, String>| {
        move |args: &[Value]| match args {
            [one] => f(&one.text()).map(Value::from),
            _ => Err(format!("wrong number of args: want 1 got {}", args.len())),
        }
    };
    let pairs: [(&'static str, fn(&str) -> Result<String, String>); 5] = [
        ("trimSpace", |s| Ok(s.trim().to_owned())),
        ("safeUrl", |s| Ok(s.to_owned())),
        ("urlUnescape", |s| {
            let plus = s.replace('+', " ");
            Ok(url::form_urlencoded::parse(format!("x={}", plus.replace('&', "%26").replace('=', "%3D")).as_bytes())
                .next()
                .map(|(_, v)| v.into_owned())
                .unwrap_or_default())
        }),
        ("base64encode", |s| Ok(crate::base64::encode(s.as_bytes()))),
        ("base64decode", |s| {
            crate::base64::decode(s).and_then(|b| String::from_utf8(b).ok()).ok_or_else(|| "not base64 text".to_owned())
        }),
    ];
    for (name, function) in pairs {
        let function = text(function);
        f.register(name, move |_, args| function(args));
    }
    f.register("stringSlice", |_, args| Ok(Value::list(args.iter().cloned())));
    f.register("list", |_, args| Ok(Value::list(args.iter().cloned())));
    f.register("append", |_, args| match args.split_first() {
        Some((Value::List(items), more)) => Ok(Value::list(items.iter().chain(more).cloned())),
        _ => Err("wants a list and items".to_owned()),
    });
    f.register("dict", |_, args| {
        if args.len() % 2 == 1 {
            return Err("wants names and values in pairs".to_owned());
        }
        Ok(Value::map(args.chunks_exact(2).map(|p| (p[0].text(), p[1].clone()))))
    });
    f.register("toJson", |_, args| match args {
        [one] => Ok(json(one, 0)?.to_string().into()),
        _ => Err("wants one value".to_owned()),
    });
    f.register("date", |_, args| match args {
        [layout, time] => Ok(go_layout(&zoned(time)?, &layout.text()).into()),
        _ => Err("wants a layout and a time".to_owned()),
    });
    f.register("tz", |_, args| match args {
        [name, time] => {
            let zone = TimeZone::get(&name.text()).map_err(|e| e.to_string())?;
            Ok(Value::object(Time(zoned(time)?.with_time_zone(zone))))
        }
        _ => Err("wants a zone and a time".to_owned()),
    });
    f
}

fn json(value: &Value, depth: usize) -> Result<serde_json::Value, String> {
    if depth > 32 {
        return Err("nested too deeply".to_owned());
    }
    Ok(match value.plain() {
        Value::Nil => serde_json::Value::Null,
        Value::Bool(b) => b.into(),
        Value::Int(i) => i.into(),
        Value::Float(f) => f.into(),
        Value::Str(s) => (*s).into(),
        Value::List(items) => items.iter().map(|v| json(v, depth + 1)).collect::<Result<Vec<_>, _>>()?.into(),
        Value::Map(map) => {
            let pairs = map.iter().map(|(k, v)| Ok((k.to_string(), json(v, depth + 1)?)));
            serde_json::Value::Object(pairs.collect::<Result<_, String>>()?)
        }
        Value::Object(o) => Value::Object(o).text().into(),
    })
}

/// Templates under upstream's names, which user files may replace.
const DEFAULTS: &str = r##"
{{ define "__alertmanager" }}Alertmanager{{ end }}
{{ define "__alertmanagerURL" }}{{ .ExternalURL }}/#/alerts?receiver={{ .Receiver | urlquery }}{{ end }}
{{ define "__subject" }}[{{ .Status | toUpper }}{{ if eq .Status "firing" }}:{{ .Alerts.Firing | len }}{{ end }}] {{ .GroupLabels.SortedPairs.Values | join " " }} {{ if gt (len .CommonLabels) (len .GroupLabels) }}({{ with .CommonLabels.Remove .GroupLabels.Names }}{{ .Values | join " " }}{{ end }}){{ end }}{{ end }}
{{ define "__description" }}{{ end }}
{{ define "__text_alert_list" }}{{ range . }}Labels:
{{ range .Labels.SortedPairs }} - {{ .Name }} = {{ .Value }}
{{ end }}Annotations:
{{ range .Annotations.SortedPairs }} - {{ .Name }} = {{ .Value }}
{{ end }}Source: {{ .GeneratorURL }}
{{ end }}{{ end }}
{{ define "__cause" }}{{ with .Cause }}{{ .Title }}{{ range .Lines }}
• {{ . }}{{ end }}{{ end }}{{ end }}
{{ define "slack.default.title" }}{{ template "__subject" . }}{{ end }}
{{ define "slack.default.username" }}{{ template "__alertmanager" . }}{{ end }}
{{ define "slack.default.fallback" }}{{ template "slack.default.title" . }} | {{ template "slack.default.titlelink" . }}{{ end }}
{{ define "slack.default.callbackid" }}{{ end }}
{{ define "slack.default.pretext" }}{{ end }}
{{ define "slack.default.titlelink" }}{{ .IncidentURL }}{{ end }}
{{ define "slack.default.iconemoji" }}{{ end }}
{{ define "slack.default.iconurl" }}{{ end }}
{{ define "slack.default.text" }}{{ template "__cause" . }}{{ end }}
{{ define "slack.default.footer" }}{{ end }}
{{ define "pagerduty.default.description" }}{{ template "__subject" . }}{{ end }}
{{ define "pagerduty.default.client" }}{{ template "__alertmanager" . }}{{ end }}
{{ define "pagerduty.default.clientURL" }}{{ template "__alertmanagerURL" . }}{{ end }}
{{ define "pagerduty.default.instances" }}{{ template "__text_alert_list" . }}{{ end }}
"##;

pub(crate) fn default_templates() -> Templates {
    let mut templates = Templates::new(functions());
    templates.add("default", DEFAULTS).expect("the built-in templates are valid");
    templates
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn notification() -> Notification {
        let alert = |firing, instance: &str| AlertData {
            firing,
            labels: Labels::from_pairs([("alertname", "Down"), ("instance", instance), ("job", "db")]),
            annotations: Labels::from_pairs([("summary", "gone")]),
            starts_at: Timestamp(1_000_500),
            ends_at: Timestamp(0),
            generator_url: "http://w/graph".into(),
            fingerprint: "0123456789abcdef".into(),
            incident_url: "http://w/incidents/0123456789abcdef?tenant=t".into(),
        };
        Notification {
            receiver: "team one".into(),
            group_key: "{}:{alertname=\"Down\"}".into(),
            group_labels: Labels::from_pairs([("alertname", "Down")]),
            alerts: vec![alert(true, "a"), alert(false, "b")],
            external_url: "http://w".into(),
            reason: "first notification".into(),
            incident_url: "http://w/incidents/0123456789abcdef?tenant=t".into(),
            cause: None,
        }
    }

    #[test]
    fn templates_see_what_upstream_shows_them() {
        let templates = default_templates();
        let data = notification().value();
        let check = |text: &str, want: &str| {
            let template = templates.parse("t", text).unwrap();
            assert_eq!(templates.render(&template, &data).unwrap(), want, "{text}");
        };
        check(r#"{{ template "__subject" . }}"#, "[FIRING:1] Down (db)");
        check(r#"{{ template "__alertmanagerURL" . }}"#, "http://w/#/alerts?receiver=team+one");
        check("{{ .Alerts.Firing | len }} {{ len .Alerts.Resolved }} {{ len .Alerts }} {{ .Status }}", "1 1 2 firing");
        check("{{ range .Alerts }}{{ .Labels.instance }}={{ .Status }} {{ end }}", "a=firing b=resolved ");
        check(
            "{{ (index .Alerts 0).Annotations.summary }} {{ .CommonLabels.job }} {{ .CommonLabels.nope }}",
            "gone db ",
        );
        check("{{ range .CommonLabels.SortedPairs }}{{ .Name }}={{ .Value }};{{ end }}", "alertname=Down;job=db;");
        check(
            "{{ .CommonLabels.Names | join \",\" }} {{ (.CommonLabels.Remove (stringSlice \"job\")).Values }}",
            "alertname,job [Down]",
        );
        check("{{ (index .Alerts 0).StartsAt }}", "1970-01-01 00:16:40.5 +0000 UTC");
        check(
            "{{ (index .Alerts 0).StartsAt.Format \"2006-01-02T15:04:05Z07:00 Mon Jan 2\" }}",
            "1970-01-01T00:16:40Z Thu Jan 1",
        );
        check("{{ (tz \"Europe/Berlin\" (index .Alerts 0).StartsAt).Format \"15:04\" }}", "01:16");
        check(
            "{{ toJson .GroupLabels }} {{ dict \"a\" 1 | toJson }} {{ list 1 2 | toJson }}",
            "{\"alertname\":\"Down\"} {\"a\":1} [1,2]",
        );
        check(
            "{{ base64encode \"hi there\" }} {{ base64decode \"aGk=\" }} {{ \" x \" | trimSpace }}",
            "aGkgdGhlcmU= hi x",
        );
        check(
            r#"{{ template "__text_alert_list" .Alerts.Firing }}"#,
            "Labels:\n - alertname = Down\n - instance = a\n - job = db\nAnnotations:\n - summary = gone\nSource: http://w/graph\n",
        );
        check(
            r#"{{ template "slack.default.text" . }}{{ template "slack.default.titlelink" . }}"#,
            "http://w/incidents/0123456789abcdef?tenant=t",
        );
    }
}
