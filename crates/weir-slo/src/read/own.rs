//! weir's short form.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{At, rate_of, share, yaml};
use crate::period::Period;
use crate::slo::{Alert, Alerts, Sli, Slo};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    slos: Vec<Spanned<Raw>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    service: String,
    #[serde(default)]
    description: String,
    /// Percent.
    objective: f64,
    #[serde(default = "thirty_days")]
    window: String,
    #[serde(default)]
    time_zone: String,
    sli: RawSli,
    #[serde(default)]
    tier: String,
    #[serde(default = "two")]
    bad_events_min: u32,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn thirty_days() -> String {
    "30d".to_owned()
}

/// One failed event pages nobody.
fn two() -> u32 {
    2
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSli {
    ratio: Option<Ratio>,
    latency: Option<Latency>,
    queries: Option<Queries>,
}

/// Selectors of counters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ratio {
    good: Option<String>,
    bad: Option<String>,
    total: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Latency {
    /// A selector of a histogram: its base name with labels.
    histogram: String,
    below: String,
    /// Native instead of `_bucket` series.
    #[serde(default)]
    native: bool,
}

/// With `{{.window}}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Queries {
    bad: String,
    total: String,
}

pub(super) fn read(text: &str) -> Result<Vec<Slo>, At> {
    let file: File = yaml(text)?;
    file.slos.into_iter().map(|raw| slo(raw.referenced.line(), raw.value)).collect()
}

fn slo(line: u64, raw: Raw) -> Result<Slo, At> {
    let at = |reason: String| (line, format!("objective `{}`: {reason}", raw.name));
    let sli = match (&raw.sli.ratio, &raw.sli.latency, &raw.sli.queries) {
        (Some(of), None, None) => ratio(of),
        (None, Some(of), None) => latency(of),
        (None, None, Some(of)) => Ok(Sli::Events { bad: of.bad.clone(), total: of.total.clone() }),
        _ => Err("`sli` has one of `ratio`, `latency` and `queries`".to_owned()),
    };
    let sli = sli.map_err(at)?;
    let period = Period::parse(&raw.window, &raw.time_zone).map_err(at)?;
    let annotations = raw.annotations;
    let alerts = Alerts { annotations, page: Alert::default(), ticket: Alert::default(), ..Alerts::default() };
    Ok(Slo {
        id: raw.name.clone(),
        name: raw.name,
        service: raw.service,
        description: raw.description,
        objective: share(raw.objective),
        period,
        sli,
        tier: raw.tier,
        bad_events_min: raw.bad_events_min,
        labels: raw.labels,
        alerts,
        file: String::new(),
        line,
    })
}

fn ratio(of: &Ratio) -> Result<Sli, String> {
    let total = rate_of(&of.total)?;
    let bad = match (&of.good, &of.bad) {
        (None, Some(bad)) => rate_of(bad)?,
        (Some(good), None) => format!("({total}) - ({} or (0 * ({total})))", rate_of(good)?),
        _ => return Err("`ratio` has one of `good` and `bad` beside `total`".to_owned()),
    };
    Ok(Sli::Events { bad, total })
}

fn latency(of: &Latency) -> Result<Sli, String> {
    let below = weir_go::parse_prometheus_duration(&of.below).map_err(|e| format!("`below`: {e}"))?;
    let below = below.as_secs_f64();
    rate_of(&of.histogram)?;
    let (name, labels) = match of.histogram.split_once('{') {
        Some((name, rest)) => (name.trim(), rest.trim_end().trim_end_matches('}').trim().trim_end_matches(',')),
        None => (of.histogram.trim(), ""),
    };
    if name.is_empty() {
        return Err(format!("`{}`: the histogram's name stands before its labels", of.histogram));
    }
    if of.native {
        let rate = format!("sum(rate({name}{{{labels}}}[{{{{.window}}}}]))");
        let total = format!("histogram_count({rate})");
        let bad = format!("{total} * (1 - histogram_fraction(-Inf, {below}, {rate}))");
        return Ok(Sli::Events { bad, total });
    }
    let comma = if labels.is_empty() { "" } else { ", " };
    let total = format!("sum(rate({name}_count{{{labels}}}[{{{{.window}}}}]))");
    // Bounds are written with and without a fraction: `1` and `1.0`.
    let bound =
        if below.fract() == 0.0 { format!("{below}|{below}\\\\.0") } else { format!("{below}").replace('.', "\\\\.") };
    let fast = format!("sum(rate({name}_bucket{{{labels}{comma}le=~\"{bound}\"}}[{{{{.window}}}}]))");
    Ok(Sli::Events { bad: format!("({total}) - ({fast})"), total })
}
