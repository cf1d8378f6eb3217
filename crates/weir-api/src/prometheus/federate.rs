//! `/federate`: the newest sample of each selected series, as a scrape target would show it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use weir_model::labels::METRIC_NAME;
use weir_model::matcher::all_match;
use weir_model::source::{MetricFragment, Projection, ReadError};
use weir_model::{Labels, Sample, TimeRange, Timestamp, is_stale};
use weir_promql::format_value;

use super::Prometheus;
use super::answer::ApiError;
use super::params::Params;

/// Series are in order of their labels, one family after the other; native histograms have no text form and are
/// left out, as upstream does.
pub(super) async fn federate(
    State(prometheus): State<Arc<Prometheus>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let sets = params.matcher_sets()?;
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let utf8 = accept.contains("escaping=allow-utf-8");
    let now = prometheus.clock.now();
    let range = TimeRange::new(Timestamp(now.minus(prometheus.engine.options().lookback).0 + 1), now);
    let context = prometheus.read_context();
    let stop = context.cancel.on_drop();
    let mut cursors = Vec::with_capacity(sets.len());
    for matchers in sets {
        let fragment = MetricFragment { matchers, range, projection: Projection::Samples, ..MetricFragment::default() };
        let cursor = prometheus.metrics.open(&params.tenant, &fragment, &context).await?;
        cursors.push((fragment.matchers, cursor));
    }
    let text = Prometheus::compute(move || {
        let mut held = context.budget.try_reserve(0).map_err(ReadError::from)?;
        let mut newest: BTreeMap<Labels, Sample> = BTreeMap::new();
        for (matchers, mut cursor) in cursors {
            while let Some(batch) = cursor.next()? {
                context.cancel.check()?;
                for series in batch.into_iter().filter(|s| all_match(&matchers, &s.labels)) {
                    let histogram = series.histograms.last().map(|h| h.at);
                    let float = series.samples.last().filter(|s| histogram.is_none_or(|at| at < s.at));
                    let Some(sample) = float.filter(|s| !is_stale(s.value)) else { continue };
                    held.grow(ENTRY_BYTES).map_err(ReadError::from)?;
                    newest.insert(series.labels, *sample);
                }
            }
        }
        Ok(exposition(newest, utf8))
    })
    .await?;
    stop.disarm();
    let escaping = if utf8 { "allow-utf-8" } else { "underscores" };
    let kind = format!("text/plain; version=0.0.4; charset=utf-8; escaping={escaping}");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// A label set, a sample, and their share of a tree node.
const ENTRY_BYTES: u64 = 64;

fn exposition(newest: BTreeMap<Labels, Sample>, utf8: bool) -> String {
    let mut rows: Vec<(String, Labels, Sample)> =
        newest.into_iter().map(|(labels, sample)| (shown_name(labels.metric_name(), utf8), labels, sample)).collect();
    // Labels are sorted by name, which `__name__` need not lead: families belong together.
    rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    let mut out = String::new();
    let mut family: Option<&str> = None;
    for (name, labels, sample) in &rows {
        let quoted = is_utf8_only(name);
        if family != Some(name) {
            family = Some(name);
            let shown = if quoted { quote(name) } else { name.clone() };
            let _ = writeln!(out, "# TYPE {shown} untyped");
        }
        if !quoted {
            out.push_str(name);
        }
        out.push('{');
        let mut first = true;
        if quoted {
            out.push_str(&quote(name));
            first = false;
        }
        let has_instance = labels.get("instance").is_some();
        let own = labels.iter().filter(|l| *l.name != *METRIC_NAME).map(|l| (&*l.name, &*l.value));
        // A scraper that honours labels would put its own instance there.
        for (label, value) in own.chain((!has_instance).then_some(("instance", ""))) {
            if !first {
                out.push(',');
            }
            first = false;
            let label = shown_name(label, utf8);
            let label = if is_utf8_only(&label) { quote(&label) } else { label };
            let _ = write!(out, "{label}={}", quote(value));
        }
        let _ = writeln!(out, "}} {} {}", format_value(sample.value), sample.at.0);
    }
    out
}

fn is_utf8_only(name: &str) -> bool {
    name.is_empty()
        || name.starts_with(|c: char| c.is_ascii_digit())
        || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// The name itself where the reader takes UTF-8, else with `_` for what older formats do not know.
fn shown_name(name: &str, utf8: bool) -> String {
    if utf8 || !is_utf8_only(name) {
        return name.to_owned();
    }
    let clean: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == ':' { c } else { '_' }).collect();
    if clean.starts_with(|c: char| c.is_ascii_digit()) { format!("_{clean}") } else { clean }
}

fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_together_and_names_are_escaped_as_asked() {
        let series = |pairs: &[(&'static str, &'static str)]| Labels::from_pairs(pairs.iter().copied());
        let newest = BTreeMap::from([
            (series(&[("A", "1"), ("__name__", "up")]), Sample::new(1500, 1.0)),
            (series(&[("__name__", "up"), ("instance", "i"), ("q", "a\"b\\c\nd")]), Sample::new(1000, f64::NAN)),
            (series(&[("__name__", "http.requests"), ("a.b", "x"), ("instance", "i")]), Sample::new(5, 0.5)),
        ]);
        let want = "# TYPE http_requests untyped\nhttp_requests{a_b=\"x\",instance=\"i\"} 0.5 5\n\
                    # TYPE up untyped\nup{A=\"1\",instance=\"\"} 1 1500\n\
                    up{instance=\"i\",q=\"a\\\"b\\\\c\\nd\"} NaN 1000\n";
        assert_eq!(exposition(newest.clone(), false), want);
        let utf8 = exposition(newest, true);
        assert!(
            utf8.starts_with(
                "# TYPE \"http.requests\" untyped\n{\"http.requests\",\"a.b\"=\"x\",instance=\"i\"} 0.5 5\n"
            ),
            "{utf8}"
        );
    }
}
