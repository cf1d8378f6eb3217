//! OpenSLO v1: objectives with their indicators inside or beside them. Source: OpenSLO specification, `README.md`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{At, rate_of, share, yaml};
use crate::period::Period;
use crate::slo::{Alerts, Sli, Slo};

#[derive(Deserialize)]
struct Head {
    kind: String,
    metadata: Metadata,
}

#[derive(Clone, Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
struct SloDocument {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    description: String,
    service: String,
    indicator: Option<Indicator>,
    indicator_ref: Option<String>,
    time_window: Vec<TimeWindow>,
    budgeting_method: String,
    objectives: Vec<Objective>,
    /// Alerts follow from the objective; these policies name conditions and targets of other systems.
    #[serde(default, rename = "alertPolicies")]
    _alert_policies: IgnoredAny,
}

#[derive(Deserialize)]
struct Indicator {
    spec: IndicatorSpec,
}

#[derive(Deserialize)]
struct SliDocument {
    spec: IndicatorSpec,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct IndicatorSpec {
    #[serde(default, rename = "description")]
    _description: String,
    ratio_metric: Option<RatioMetric>,
    threshold_metric: Option<Metric>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RatioMetric {
    counter: bool,
    good: Option<Metric>,
    bad: Option<Metric>,
    total: Option<Metric>,
    raw: Option<Metric>,
    raw_type: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metric {
    metric_source: MetricSource,
}

#[derive(Clone, Deserialize)]
struct MetricSource {
    #[serde(default)]
    r#type: String,
    spec: QuerySpec,
}

#[derive(Clone, Deserialize)]
struct QuerySpec {
    query: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TimeWindow {
    duration: String,
    #[serde(default)]
    is_rolling: bool,
    calendar: Option<Calendar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Calendar {
    #[serde(rename = "startTime")]
    _start_time: String,
    time_zone: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Objective {
    #[serde(default)]
    display_name: String,
    op: Option<String>,
    value: Option<f64>,
    target: Option<f64>,
    target_percent: Option<f64>,
    time_slice_target: Option<IgnoredAny>,
    time_slice_window: Option<IgnoredAny>,
}

/// The documents of a file, until all of them are read: an indicator may stand after who uses it.
#[derive(Default)]
pub(super) struct Documents {
    slos: Vec<(u64, Metadata, Spec)>,
    indicators: BTreeMap<String, IndicatorSpec>,
}

impl Documents {
    pub fn add(&mut self, text: &str, line: u64) -> Result<(), At> {
        let head: Head = yaml(text)?;
        match &*head.kind {
            "SLO" => {
                let SloDocument { spec } = yaml(text)?;
                self.slos.push((line, head.metadata, spec));
            }
            "SLI" => {
                let SliDocument { spec } = yaml(text)?;
                self.indicators.insert(head.metadata.name, spec);
            }
            // They say nothing of what is good and how much of it there must be.
            "Service" | "DataSource" | "AlertPolicy" | "AlertCondition" | "AlertNotificationTarget" => {}
            other => return Err((0, format!("kind `{other}` is not one of OpenSLO's"))),
        }
        Ok(())
    }

    pub fn finish(self) -> Result<Vec<Slo>, At> {
        let Self { slos, indicators } = self;
        let mut found = Vec::new();
        for (line, metadata, spec) in slos {
            let at = |reason: String| (line, format!("objective `{}`: {reason}", metadata.name));
            if spec.budgeting_method != "Occurrences" {
                let method = &spec.budgeting_method;
                return Err(at(format!("budgetingMethod `{method}` is not supported: Occurrences counts each event")));
            }
            let indicator = match (&spec.indicator, &spec.indicator_ref) {
                (Some(inside), None) => Ok(&inside.spec),
                (None, Some(name)) => indicators
                    .get(name)
                    .ok_or_else(|| format!("indicatorRef `{name}`: no SLI of that name stands in the file")),
                _ => Err("one of `indicator` and `indicatorRef` is needed".to_owned()),
            };
            let indicator = indicator.map_err(at)?;
            let period = period(&spec.time_window).map_err(at)?;
            let several = spec.objectives.len() > 1;
            for (k, objective) in spec.objectives.iter().enumerate() {
                let suffix = match (several, &*objective.display_name) {
                    (false, _) => String::new(),
                    (true, "") => format!("-{}", k + 1),
                    (true, name) => format!("-{}", name.to_lowercase().replace(' ', "-")),
                };
                found.push(Slo {
                    id: format!("{}{suffix}", metadata.name),
                    name: metadata.name.clone(),
                    service: spec.service.clone(),
                    description: spec.description.clone(),
                    objective: target(objective).map_err(at)?,
                    period: period.clone(),
                    sli: sli(indicator, objective).map_err(at)?,
                    tier: String::new(),
                    bad_events_min: 0,
                    labels: BTreeMap::new(),
                    alerts: Alerts::default(),
                    file: String::new(),
                    line,
                });
            }
        }
        Ok(found)
    }
}

fn target(objective: &Objective) -> Result<f64, String> {
    if objective.time_slice_target.is_some() || objective.time_slice_window.is_some() {
        return Err("`timeSliceTarget` and `timeSliceWindow` are not supported".to_owned());
    }
    match (objective.target, objective.target_percent) {
        (Some(target), None) => Ok(target),
        (None, Some(percent)) => Ok(share(percent)),
        _ => Err("one of `target` and `targetPercent` is needed".to_owned()),
    }
}

fn period(windows: &[TimeWindow]) -> Result<Period, String> {
    let [window] = windows else { return Err("`timeWindow` has one entry".to_owned()) };
    match (&window.calendar, window.is_rolling, &*window.duration) {
        (None, true, duration) => Period::parse(duration, ""),
        // As in `1M`: the calendar's own lengths.
        (Some(calendar), false, "1w") => Period::parse("week", &calendar.time_zone),
        (Some(calendar), false, "1M") => Period::parse("month", &calendar.time_zone),
        (Some(calendar), false, "1Q" | "3M") => Period::parse("quarter", &calendar.time_zone),
        (Some(calendar), false, "1Y") => Period::parse("year", &calendar.time_zone),
        (Some(_), false, other) => Err(format!("a calendar's `duration` is 1w, 1M, 1Q or 1Y, not `{other}`")),
        _ => Err("`isRolling: true`, or `isRolling: false` with a `calendar`".to_owned()),
    }
}

fn query(metric: &Metric) -> Result<&str, String> {
    let MetricSource { r#type, spec } = &metric.metric_source;
    match &*r#type.to_lowercase() {
        "" | "prometheus" => Ok(spec.query.trim()),
        other => Err(format!("metricSource of type `{other}`: only Prometheus is read")),
    }
}

fn sli(indicator: &IndicatorSpec, objective: &Objective) -> Result<Sli, String> {
    match (&indicator.ratio_metric, &indicator.threshold_metric) {
        (Some(ratio), None) => ratio_sli(ratio),
        (None, Some(metric)) => {
            let op = match objective.op.as_deref() {
                Some("lte") => "<=",
                Some("lt") => "<",
                Some("gte") => ">=",
                Some("gt") => ">",
                _ => return Err("a thresholdMetric needs `op`: lte, lt, gte or gt".to_owned()),
            };
            let value = objective.value.ok_or("a thresholdMetric needs `value`")?;
            // The share of the time in which the value is not what it should be.
            let bad = format!("1 - avg_over_time((({}) {op} bool {value})[{{{{.window}}}}:1m])", query(metric)?);
            Ok(Sli::Ratio { bad })
        }
        _ => Err("an indicator has one of `ratioMetric` and `thresholdMetric`".to_owned()),
    }
}

fn ratio_sli(ratio: &RatioMetric) -> Result<Sli, String> {
    if let Some(raw) = &ratio.raw {
        let bad = match ratio.raw_type.as_deref() {
            Some("failure") => format!("avg_over_time(({})[{{{{.window}}}}:1m])", query(raw)?),
            Some("success") => format!("1 - avg_over_time(({})[{{{{.window}}}}:1m])", query(raw)?),
            _ => return Err("`raw` needs `rawType`: success or failure".to_owned()),
        };
        return Ok(Sli::Ratio { bad });
    }
    let events = |metric: &Metric| {
        let query = query(metric)?;
        // Of a counter the increase, of a gauge what it says of each interval.
        if ratio.counter { rate_of(query) } else { Ok(format!("sum(avg_over_time(({query})[{{{{.window}}}}:1m]))")) }
    };
    let total = ratio.total.as_ref().ok_or("`ratioMetric` needs `total`")?;
    let total = events(total)?;
    let bad = match (&ratio.good, &ratio.bad) {
        (None, Some(bad)) => events(bad)?,
        (Some(good), None) => format!("({total}) - ({} or (0 * ({total})))", events(good)?),
        _ => return Err("`ratioMetric` has one of `good` and `bad`".to_owned()),
    };
    Ok(Sli::Events { bad, total })
}
