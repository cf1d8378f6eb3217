//! What notification templates see, and the templates they start with.
//!
//! Names of data, functions and default templates are Alertmanager's; `.IncidentURL` and `.Cause`
//! are weir's own. Source: Alertmanager `template/template.go`, `template/default.tmpl`.

mod functions;
mod time;

use std::sync::Arc;

use weir_go::template::{Object, Templates, Value};
use weir_model::{Labels, Timestamp};

use crate::CauseNote;
use time::Time;

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
    /// Labels of the route, rendered.
    pub route_labels: Labels,
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
            ("RouteLabels", Value::object(Kv(self.route_labels.clone()))),
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

/// Templates under upstream's names, which user files may replace.
pub(crate) fn default_templates() -> Templates {
    let mut templates = Templates::new(functions::functions());
    templates.add("default", include_str!("default.tmpl")).expect("the built-in templates are valid");
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
            route_labels: Labels::empty(),
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
            let now = Timestamp(1_060_500);
            assert_eq!(templates.render_with(&template, &data, &now).unwrap(), want, "{text}");
        };
        check("{{ since (index .Alerts 0).StartsAt | humanizeDuration }} {{ (now).Unix }}", "1m 0s 1060");
        check("{{ date \"2006-01-02\" (toDate \"02.01.2006\" \"24.12.2026\") }}", "2026-12-24");
        check("{{ (toDate \"2006-01-02T15:04:05Z07:00\" \"2026-03-04T05:06:07Z\").Unix }}", "1772600767");
        check("{{ append (list 1 2) 3 | toJson }} {{ urlUnescape \"a%20b%26c+d%3D\" }}", "[1,2,3] a b&c d=");
        check("{{ title \"a b\" }} {{ safeHtml \"<b>\" }} {{ safeUrl \"x:y\" | toUpper }}", "A B <b> X:Y");
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
