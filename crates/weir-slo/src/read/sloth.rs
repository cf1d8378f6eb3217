//! Sloth's files, plain and as a Kubernetes resource. Source: Sloth `pkg/prometheus/api/v1`, `pkg/kubernetes/api/sloth/v1`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::Spanned;

use super::{At, share, yaml};
use crate::period::Period;
use crate::slo::{Alert, Alerts, Sli, Slo};

type Texts = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    #[serde(rename = "version")]
    _version: IgnoredAny,
    service: String,
    #[serde(default)]
    labels: Texts,
    slos: Vec<Spanned<Raw>>,
}

#[derive(Deserialize)]
struct Resource {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    service: String,
    #[serde(default)]
    labels: Texts,
    slos: Vec<Spanned<Raw>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(default)]
    description: String,
    objective: f64,
    #[serde(default)]
    labels: Texts,
    sli: RawSli,
    alerting: RawAlerting,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSli {
    events: Option<Events>,
    raw: Option<RawRatio>,
    plugin: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Events {
    #[serde(alias = "errorQuery")]
    error_query: String,
    #[serde(alias = "totalQuery")]
    total_query: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRatio {
    #[serde(alias = "errorRatioQuery")]
    error_ratio_query: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlerting {
    #[serde(default)]
    name: String,
    #[serde(default)]
    labels: Texts,
    #[serde(default)]
    annotations: Texts,
    #[serde(default, alias = "pageAlert")]
    page_alert: RawAlert,
    #[serde(default, alias = "ticketAlert")]
    ticket_alert: RawAlert,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlert {
    #[serde(default)]
    disable: bool,
    #[serde(default)]
    labels: Texts,
    #[serde(default)]
    annotations: Texts,
}

pub(super) fn plain(text: &str) -> Result<Vec<Slo>, At> {
    let file: Plain = yaml(text)?;
    file.slos.into_iter().map(|raw| slo(&file.service, &file.labels, raw)).collect()
}

pub(super) fn kubernetes(text: &str) -> Result<Vec<Slo>, At> {
    let Resource { spec } = yaml(text)?;
    spec.slos.into_iter().map(|raw| slo(&spec.service, &spec.labels, raw)).collect()
}

fn slo(service: &str, labels: &Texts, raw: Spanned<Raw>) -> Result<Slo, At> {
    let (line, raw) = (raw.referenced.line(), raw.value);
    let at = |reason: &str| (line, format!("objective `{}`: {reason}", raw.name));
    let sli = match (&raw.sli.events, &raw.sli.raw, &raw.sli.plugin) {
        (Some(of), None, None) => Sli::Events { bad: windowed(&of.error_query), total: windowed(&of.total_query) },
        (None, Some(of), None) => Sli::Ratio { bad: windowed(&of.error_ratio_query) },
        (_, _, Some(_)) => return Err(at("`plugin` runs programs and is not supported: write its query as `events`")),
        _ => return Err(at("`sli` has one of `events` and `raw`")),
    };
    let alert = |raw: RawAlert, of_both: &Texts| Alert {
        disabled: raw.disable,
        labels: of_both.clone().into_iter().chain(raw.labels).collect(),
        annotations: raw.annotations,
    };
    let period = Period::parse("30d", "").map_err(|e| at(&e))?;
    let alerting = raw.alerting;
    let alerts = Alerts {
        name: alerting.name,
        annotations: alerting.annotations,
        page: alert(alerting.page_alert, &alerting.labels),
        ticket: alert(alerting.ticket_alert, &alerting.labels),
        like_sloth: true,
    };
    Ok(Slo {
        id: format!("{service}-{}", raw.name),
        name: raw.name,
        service: service.to_owned(),
        description: raw.description,
        objective: share(raw.objective),
        period,
        sli,
        tier: String::new(),
        bad_events_min: 0,
        labels: labels.clone().into_iter().chain(raw.labels).collect(),
        alerts,
        file: String::new(),
        line,
    })
}

/// Its templates may have spaces.
fn windowed(query: &str) -> String {
    query.trim().replace("{{ .window }}", "{{.window}}")
}
