//! The rules of an objective, as a rule file of Prometheus.
//!
//! Bad and all events per second over five minutes are recorded; windows of up to an hour are asked of the data,
//! longer ones are sums of what was recorded, so that each event weighs the same however many come at a time.
//! A share without events is averaged over time, which is all that it allows.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::burn::{Burn, Severity};
use crate::slo::{Alert, Sli, Slo};

const BASE: Duration = Duration::from_secs(300);
/// Longer windows are computed from what is recorded.
const DIRECT_MAX: Duration = Duration::from_secs(3600);
/// Of the generated groups: a page looks at windows of five minutes.
const INTERVAL: &str = "15s";

/// `5m`, `6h`, `3d`: the largest unit that is whole.
pub fn window_text(window: Duration) -> String {
    let seconds = window.as_secs();
    for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds.is_multiple_of(length) && seconds > 0 {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}

fn over(query: &str, window: Duration) -> String {
    query.replace("{{.window}}", &window_text(window))
}

/// A string of PromQL and of YAML alike.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn selector(slo: &Slo) -> String {
    format!("{{slo={}}}", quoted(&slo.id))
}

/// The share of bad events over `window`, from what is recorded; for budgets and gates.
pub fn rate_query(slo: &Slo, window: Duration) -> String {
    let (of, w) = (selector(slo), window_text(window));
    match &slo.sli {
        Sli::Events { .. } => {
            format!("sum(sum_over_time(slo:bad:rate5m{of}[{w}])) / sum(sum_over_time(slo:events:rate5m{of}[{w}]))")
        }
        Sli::Ratio { .. } => format!("avg(avg_over_time(slo:sli_error:ratio_rate5m{of}[{w}]))"),
    }
}

/// The same over the period's part that has passed, to the second.
pub fn consumed_query(slo: &Slo, elapsed: Duration) -> String {
    rate_query(slo, Duration::from_secs(elapsed.as_secs().max(BASE.as_secs())))
}

/// One group per objective. The text is YAML that Prometheus loads as well.
pub fn rules(slos: &[Slo]) -> String {
    let mut out = String::from("groups:\n");
    for slo in slos {
        let _ = write!(out, "- name: {}\n  interval: {INTERVAL}\n  rules:\n", quoted(&format!("slo-{}", slo.id)));
        recordings(slo, &mut out);
        for burn in slo.burns() {
            alert(slo, &burn, &mut out);
        }
    }
    if slos.is_empty() { String::new() } else { out }
}

fn own_labels(slo: &Slo) -> BTreeMap<String, String> {
    let mut labels = slo.labels.clone();
    labels.insert("slo".to_owned(), slo.id.clone());
    labels.insert("service".to_owned(), slo.service.clone());
    labels
}

fn pairs(key: &str, pairs: &BTreeMap<String, String>, out: &mut String) {
    if pairs.is_empty() {
        return;
    }
    let _ = writeln!(out, "    {key}:");
    for (name, value) in pairs {
        let _ = writeln!(out, "      {}: {}", quoted(name), quoted(value));
    }
}

fn record(name: &str, expr: &str, labels: &BTreeMap<String, String>, out: &mut String) {
    let _ = write!(out, "  - record: {name}\n    expr: {}\n", quoted(expr));
    pairs("labels", labels, out);
}

fn recordings(slo: &Slo, out: &mut String) {
    let labels = own_labels(slo);
    if let Sli::Events { bad, total } = &slo.sli {
        // No bad event yet is no series yet, and the budget is whole.
        let bad = format!("({}) or (0 * ({}))", over(bad, BASE), over(total, BASE));
        record("slo:bad:rate5m", &bad, &labels, out);
        record("slo:events:rate5m", &over(total, BASE), &labels, out);
    }
    for window in slo.windows() {
        let name = format!("slo:sli_error:ratio_rate{}", window_text(window));
        let expr = match &slo.sli {
            _ if window > DIRECT_MAX => rate_query(slo, window),
            Sli::Events { bad, total } => {
                let (bad, total) = (over(bad, window), over(total, window));
                format!("(({bad}) or (0 * ({total}))) / (({total}) > 0)")
            }
            Sli::Ratio { bad } => over(bad, window),
        };
        record(&name, &expr, &labels, out);
    }
    let objective = BTreeMap::from([("objective".to_owned(), format!("{}", slo.objective))]);
    record("slo:error_budget:ratio", &format!("vector({})", budget(slo)), &merged([&labels, &objective]), out);
}

/// As short as it was meant: `1 - 0.999` is not `0.0010000000000000009`.
fn budget(slo: &Slo) -> f64 {
    ((1.0 - slo.objective) * 1e12).round() / 1e12
}

fn merged<'a>(all: impl IntoIterator<Item = &'a BTreeMap<String, String>>) -> BTreeMap<String, String> {
    all.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Bad events in the long window, where they are counted.
fn guard(slo: &Slo, burn: &Burn) -> String {
    let Sli::Events { bad, .. } = &slo.sli else { return String::new() };
    if slo.bad_events_min == 0 {
        return String::new();
    }
    let (seconds, of) = (burn.long.as_secs(), selector(slo));
    let bad = if burn.long > DIRECT_MAX {
        format!("sum(avg_over_time(slo:bad:rate5m{of}[{}]))", window_text(burn.long))
    } else {
        format!("sum({})", over(bad, burn.long))
    };
    // Half an event below, as increases are extrapolated and seldom whole.
    format!(" and on () ({bad} * {seconds} > {})", f64::from(slo.bad_events_min) - 0.5)
}

fn alert(slo: &Slo, burn: &Burn, out: &mut String) {
    let of = selector(slo);
    let above = |window: Duration| {
        format!("slo:sli_error:ratio_rate{}{of} > ({} * {})", window_text(window), short(burn.factor), budget(slo))
    };
    let expr = format!("({} and {}){}", above(burn.long), above(burn.short), guard(slo, burn));
    let Alert { labels, annotations, .. } = match burn.severity {
        Severity::Page => &slo.alerts.page,
        Severity::Ticket | Severity::Notice => &slo.alerts.ticket,
    };
    let text = |pairs: &[(&str, String)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect()
    };
    let fixed = text(&[
        ("severity", burn.severity.as_str().to_owned()),
        ("slo", slo.id.clone()),
        ("service", slo.service.clone()),
        ("long_window", window_text(burn.long)),
    ]);
    let tier = if slo.tier.is_empty() { BTreeMap::new() } else { text(&[("tier", slo.tier.clone())]) };
    // Written labels win over `severity` and `tier`, never over what says which objective it is.
    let identity = text(&[("slo", slo.id.clone()), ("long_window", window_text(burn.long))]);
    let all = merged([&fixed, &tier, &slo.labels, labels, &identity]);
    let rate = format!("{}x over {} and {}", short(burn.factor), window_text(burn.long), window_text(burn.short));
    let told = text(&[
        ("summary", format!("{}: the error budget burns faster than {rate}", slo.id)),
        (
            "description",
            format!(
                "{{{{ $value | humanizePercentage }}}} of events are bad; {} % may be.",
                short(budget(slo) * 100.0)
            ),
        ),
    ]);
    let name = if slo.alerts.name.is_empty() { "ErrorBudgetBurn" } else { &slo.alerts.name };
    let _ = write!(out, "  - alert: {}\n    expr: {}\n", quoted(name), quoted(&expr));
    pairs("labels", &all, out);
    pairs("annotations", &merged([&told, &slo.alerts.annotations, annotations]), out);
}

/// Without the digits that floating point adds.
fn short(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}
