//! `weir test rules`: unit tests of rules in promtool's format.
//!
//! Source: Prometheus `cmd/promtool/unittest.go`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use weir_go::parse_prometheus_duration;
use weir_model::sink::{MetricBatch, MetricSink, SeriesBatch};
use weir_model::source::{Cancel, MetricSource, ReadContext};
use weir_model::{AlertPhase, Budget, Labels, Sample, SystemClock, TenantId, Timestamp};
use weir_promql::{Engine, EngineOptions, Value};
use weir_rules::{MissingInput, Offline, Options, PromqlEvaluator, RuleGroup, read_rule_files};
use weir_state::State;
use weir_tsdb::Head;

const MEMORY_BYTES: u64 = 1 << 30;
/// Samples of one series; a typo in a repetition should not fill the memory.
const SAMPLES_MAX: usize = 1_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule_files: Vec<String>,
    evaluation_interval: Option<String>,
    #[serde(default)]
    group_eval_order: Vec<String>,
    #[serde(default)]
    fuzzy_compare: bool,
    #[serde(default)]
    tests: Vec<Test>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: Option<String>,
    interval: Option<String>,
    #[serde(default)]
    input_series: Vec<InputSeries>,
    #[serde(default)]
    alert_rule_test: Vec<AlertTest>,
    #[serde(default)]
    promql_expr_test: Vec<ExprTest>,
    #[serde(default)]
    external_labels: BTreeMap<String, String>,
    #[serde(default)]
    external_url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputSeries {
    series: String,
    values: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlertTest {
    eval_time: String,
    alertname: String,
    #[serde(default)]
    exp_alerts: Vec<ExpectedAlert>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedAlert {
    #[serde(default)]
    exp_labels: BTreeMap<String, String>,
    #[serde(default)]
    exp_annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExprTest {
    expr: String,
    eval_time: String,
    #[serde(default)]
    exp_samples: Vec<ExpectedSample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedSample {
    #[serde(default)]
    labels: String,
    value: f64,
}

/// What is wrong: one entry per test that failed. An error is a file that cannot be used.
pub async fn run(path: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read the file: {e}"))?;
    let file: File = serde_saphyr::from_str(&text).map_err(|e| {
        let line = e.location().map_or(0, |l| l.line());
        format!("{line}: {}", e.without_snippet().to_string().lines().next().unwrap_or_default())
    })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut groups = Vec::new();
    for pattern in &file.rule_files {
        let found = read_rule_files(pattern, folder);
        groups.extend(found.map_err(|e| e.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?);
    }
    let order = |g: &RuleGroup| file.group_eval_order.iter().position(|n| *n == g.name).unwrap_or(usize::MAX);
    groups.sort_by_key(order);
    let interval = duration(file.evaluation_interval.as_deref().unwrap_or("1m"))?;
    if interval.is_zero() {
        return Err("evaluation_interval must be longer than nothing".to_owned());
    }
    let mut failures = Vec::new();
    for test in &file.tests {
        let name = test.name.as_ref().map(|n| format!("name: {n}, ")).unwrap_or_default();
        let found = one(test, &groups, interval, file.fuzzy_compare).await?;
        failures.extend(found.into_iter().map(|reason| format!("{name}{reason}")));
    }
    Ok(failures)
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_prometheus_duration(text).map_err(|e| e.to_string())
}

struct Bench {
    store: Arc<Head>,
    engine: Arc<Engine>,
    budget: Budget,
    tenant: TenantId,
    rules: Offline,
}

impl Bench {
    fn new(test: &Test, groups: &[RuleGroup], interval: Duration) -> Result<Self, String> {
        let budget = Budget::root(MEMORY_BYTES);
        let store = Arc::new(Head::new(&budget.child("metrics", MEMORY_BYTES / 2)));
        let engine = Arc::new(Engine::new(EngineOptions::default()));
        let tenant = TenantId::anonymous();
        let step = duration(test.interval.as_deref().unwrap_or("1m"))?;
        let mut batch = MetricBatch::default();
        for series in &test.input_series {
            let labels = labels_of(&series.series)?;
            let samples = values(&series.values, step).map_err(|e| format!("series {}: {e}", series.series))?;
            batch.series.push(SeriesBatch { labels, samples, ..SeriesBatch::default() });
        }
        let outcome = store.append(&tenant, &batch).map_err(|e| e.to_string())?;
        if let Some(refused) = outcome.refused.first() {
            return Err(format!("input series: {} ({})", refused.reason.as_str(), refused.example));
        }
        let source: Arc<dyn MetricSource> = store.clone();
        let evaluator = PromqlEvaluator { engine: engine.clone(), source, budget: budget.clone() };
        let options = Options {
            clock: Arc::new(SystemClock),
            evaluator: Arc::new(evaluator),
            sink: store.clone(),
            surroundings: weir_rules::Surroundings {
                external_labels: Labels::from_pairs(test.external_labels.clone()),
                external_url: test.external_url.trim_end_matches('/').to_owned(),
            },
            interval,
            query_offset: Duration::ZERO,
            // As promtool has it, whose tests these are.
            missing_input: MissingInput::Resolve,
            state: State::in_memory(),
        };
        let rules = Offline::new(options, &tenant, groups.to_vec());
        Ok(Self { store, engine, budget, tenant, rules })
    }

    async fn query(&self, text: &str, at: Timestamp) -> Result<Vec<(Labels, f64)>, String> {
        let expr = weir_promql::parse(text).map_err(|e| e.to_string())?;
        let context = ReadContext { budget: self.budget.clone(), cancel: Cancel::default() };
        let answer = self.engine.instant(&*self.store, &self.tenant, &expr, at, &context).await;
        match answer.map_err(|e| e.to_string())?.value {
            Value::Vector(samples) if samples.iter().any(|s| s.histogram.is_some()) => {
                Err("the answer holds histograms, which are not compared here".to_owned())
            }
            Value::Vector(samples) => Ok(samples.into_iter().map(|s| (s.labels, s.value)).collect()),
            Value::Scalar(sample) => Ok(vec![(Labels::empty(), sample.value)]),
            other => Err(format!("the answer is a {:?}, not a vector or a scalar", other.value_type())),
        }
    }
}

/// Evaluates step by step up to the last time that is asked about, and compares on the way.
async fn one(test: &Test, groups: &[RuleGroup], interval: Duration, fuzzy: bool) -> Result<Vec<String>, String> {
    let bench = Bench::new(test, groups, interval)?;
    let mut alert_times = Vec::new();
    for (idx, alert) in test.alert_rule_test.iter().enumerate() {
        if alert.alertname.is_empty() {
            return Err("an item under alert_rule_test misses required attribute alertname".to_owned());
        }
        alert_times.push((duration(&alert.eval_time)?, idx));
    }
    alert_times.sort();
    let mut last = alert_times.last().map_or(Duration::ZERO, |(at, _)| *at);
    for expr in &test.promql_expr_test {
        last = last.max(duration(&expr.eval_time)?);
    }
    let (mut failures, mut asked, mut now) = (Vec::new(), alert_times.into_iter().peekable(), Duration::ZERO);
    while now <= last {
        failures.extend(bench.rules.evaluate(Timestamp(0).plus(now)).await);
        // What is asked between two evaluations is what the first of them found.
        while let Some((_, idx)) = asked.next_if(|(at, _)| *at < now + interval) {
            failures.extend(compare_alerts(&test.alert_rule_test[idx], &bench));
        }
        now += interval;
    }
    for expr in &test.promql_expr_test {
        failures.extend(compare_samples(expr, &bench, fuzzy).await?);
    }
    Ok(failures)
}

type Said = (Labels, Labels);

fn compare_alerts(test: &AlertTest, bench: &Bench) -> Option<String> {
    let alerts = bench.rules.alerts(&test.alertname);
    let firing = alerts.into_iter().filter(|a| a.phase == AlertPhase::Firing);
    let mut got: Vec<Said> = firing.map(|a| (a.labels, a.annotations)).collect();
    let want = test.exp_alerts.iter().map(|e| {
        let labels = Labels::from_pairs(e.exp_labels.clone()).with("alertname", &test.alertname);
        (labels, Labels::from_pairs(e.exp_annotations.clone()))
    });
    let mut want: Vec<Said> = want.collect();
    got.sort();
    want.sort();
    let show = |said: &[Said]| match said {
        [] => "[]".to_owned(),
        said => {
            let lines = said.iter().map(|(l, a)| format!("\n        Labels:{l}\n        Annotations:{a}"));
            format!("[{}\n    ]", lines.collect::<String>())
        }
    };
    (got != want).then(|| {
        let (name, at) = (&test.alertname, &test.eval_time);
        format!("alertname: {name}, time: {at},\n    exp:{},\n    got:{}", show(&want), show(&got))
    })
}

async fn compare_samples(test: &ExprTest, bench: &Bench, fuzzy: bool) -> Result<Option<String>, String> {
    let at = Timestamp(0).plus(duration(&test.eval_time)?);
    let place = format!("expr: {:?}, time: {}", test.expr, test.eval_time);
    let mut got = match bench.query(&test.expr, at).await {
        Ok(got) => got,
        Err(error) => return Ok(Some(format!("{place}, err: {error}"))),
    };
    let mut want = Vec::new();
    for sample in &test.exp_samples {
        let labels = labels_of(&sample.labels).map_err(|e| format!("{place}: labels {:?}: {e}", sample.labels))?;
        want.push((labels, sample.value));
    }
    got.sort_by(|a, b| a.0.cmp(&b.0));
    want.sort_by(|a, b| a.0.cmp(&b.0));
    let equal = |a: f64, b: f64| match fuzzy {
        _ if a == b || (a.is_nan() && b.is_nan()) => true,
        // One unit in the last place, as promtool has it.
        true => (a.to_bits() as i64).abs_diff(b.to_bits() as i64) <= 1,
        false => false,
    };
    let same = got.len() == want.len() && got.iter().zip(&want).all(|(g, w)| g.0 == w.0 && equal(g.1, w.1));
    let show = |samples: &[(Labels, f64)]| {
        let all: Vec<String> = samples.iter().map(|(l, v)| format!("{l} {}", weir_promql::format_value(*v))).collect();
        if all.is_empty() { "nil".to_owned() } else { all.join("\n        ") }
    };
    Ok((!same).then(|| format!("{place},\n    exp: {}\n    got: {}", show(&want), show(&got))))
}

/// A series as it is written: `up{job="a"}`, `{a="b"}`, or nothing for no labels.
fn labels_of(text: &str) -> Result<Labels, String> {
    if matches!(text.trim(), "" | "{}") {
        return Ok(Labels::empty());
    }
    let matchers = weir_promql::parse_selector(text).map_err(|e| format!("{text}: {e}"))?;
    if let Some(other) = matchers.iter().find(|m| m.op != weir_model::MatchOp::Equal) {
        return Err(format!("{text}: a series has only labels with `=`, not {other}"));
    }
    Ok(Labels::from_pairs(matchers.into_iter().map(|m| (m.name, m.value))))
}

/// `1 2`, `_` for no sample, `stale`, `1+2x3` (1 3 5 7), `1-2x3`, `5x3` (four times), `_x3` (three times).
fn values(text: &str, step: Duration) -> Result<Vec<Sample>, String> {
    let (mut samples, mut at) = (Vec::new(), Timestamp(0));
    for word in text.split_whitespace() {
        for value in expand(word)? {
            if let Some(value) = value {
                samples.push(Sample { at, value });
            }
            at = at.plus(step);
        }
        if samples.len() > SAMPLES_MAX {
            return Err(format!("more than {SAMPLES_MAX} samples"));
        }
    }
    Ok(samples)
}

fn expand(word: &str) -> Result<Vec<Option<f64>>, String> {
    if word.contains("{{") {
        return Err(format!("{word}: histograms are not supported here"));
    }
    let number = |text: &str| match text {
        "stale" => Ok(Sample::stale(Timestamp(0)).value),
        text => weir_go_number(text).ok_or_else(|| format!("{word:?} is not a value")),
    };
    // `0x1f` is a number, not a repetition.
    let split = word.rsplit_once('x').filter(|(body, _)| !matches!(*body, "0" | "-0" | "+0"));
    let Some((body, times)) = split else {
        return Ok(vec![if word == "_" { None } else { Some(number(word)?) }]);
    };
    let times: usize = times.parse().map_err(|_| format!("{word:?}: not a number of repetitions"))?;
    if times > SAMPLES_MAX {
        return Err(format!("{word:?}: more than {SAMPLES_MAX} samples"));
    }
    if body == "_" {
        return Ok(vec![None; times]);
    }
    // The sign between the first value and the step: not the first character, not an exponent's.
    let bytes = body.as_bytes();
    let sign =
        (1..body.len()).rev().find(|at| matches!(bytes[*at], b'+' | b'-') && !matches!(bytes[at - 1], b'e' | b'E'));
    let Some(sign) = sign else { return Ok(vec![Some(number(body)?); times + 1]) };
    let (first, step) = (number(&body[..sign])?, number(&body[sign..])?);
    let mut value = first;
    let mut out = vec![Some(first)];
    for _ in 0..times {
        value += step;
        out.push(Some(value));
    }
    Ok(out)
}

fn weir_go_number(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.to_ascii_lowercase().as_str() {
        "inf" => f64::INFINITY,
        "nan" => f64::NAN,
        digits if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => digits.parse().ok()?,
        _ => return None,
    };
    Some(sign * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_written_as_upstream_writes_them() {
        let check = |text: &str, want: &[(i64, f64)]| {
            let got: Vec<(i64, f64)> =
                values(text, Duration::from_secs(60)).unwrap().iter().map(|s| (s.at.0 / 60_000, s.value)).collect();
            assert_eq!(got, want, "{text}");
        };
        check("1 _ 3", &[(0, 1.0), (2, 3.0)]);
        check("1+2x2 _x2 5x1", &[(0, 1.0), (1, 3.0), (2, 5.0), (5, 5.0), (6, 5.0)]);
        check("-1-1x1 1e-1+1x0", &[(0, -1.0), (1, -2.0), (2, 0.1)]);
        assert!(values("stale", Duration::ZERO).unwrap()[0].value.is_nan());
        for bad in ["1+x", "a", "1x-1", "{{schema:1}}"] {
            assert!(values(bad, Duration::ZERO).is_err(), "{bad}");
        }
    }
}
