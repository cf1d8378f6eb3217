//! Budgets of series: their file, their upkeep, and the series and the alert that name a culprit.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use weir_ingest::cardinality::{CardinalityConfig, Gate, Standing};
use weir_ingest::{Ingest, Protocol, SenderRef};
use weir_model::sink::{MetricBatch, SeriesBatch};
use weir_model::{Labels, STALE_NAN_BITS, Sample, TenantId, Timestamp};
use weir_rules::{RuleExpr, RuleGroup, RuleKind, parse_rule_file};

/// Counting looks at every metric's name, and at the series of those that are nearly over.
const SURVEY_EVERY: Duration = Duration::from_secs(10);

pub fn read(path: &Path) -> anyhow::Result<CardinalityConfig> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    CardinalityConfig::parse(&text).map_err(|e| anyhow::anyhow!("{}:{}: {}", path.display(), e.line, e.reason))
}

/// The alert of weir's own. It stands on the series that [`watch`] writes.
pub fn alert() -> anyhow::Result<Vec<RuleGroup>> {
    parse_rule_file("weir", ALERT).map_err(|errors| {
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the alert on budgets of series: {}", told.join("\n"))
    })
}

const ALERT: &str = r#"groups:
- name: weir cardinality
  interval: 15s
  rules:
  - alert: CardinalityBudgetUsedUp
    expr: weir_cardinality_budget_used_ratio >= 1
    labels:
      severity: warning
    annotations:
      summary: '{{ if $labels.label }}Label {{ $labels.label }} of {{ end }}{{ $labels.metric }} uses up the budget of series "{{ $labels.budget }}": {{ $value | humanizePercentage }}'
      description: >-
        {{ with printf "topk(1, weir_cardinality_target_series{tenant=%q, metric=%q})" $labels.tenant $labels.metric | query }}{{ with first . }}Most
        of the series of {{ $labels.metric }} come from job {{ .Labels.job }}, instance {{ .Labels.instance }}: {{ .Value }}. {{ end }}{{ end }}What
        is done with new ones: {{ $labels.action }}. The page Cardinality shows the values.
"#;

/// Labels that rules tell apart, their templates included: folding one would make a rule say something else.
pub fn labels_used<'a>(groups: impl Iterator<Item = &'a RuleGroup>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for rule in groups.flat_map(|g| &g.rules) {
        if let RuleExpr::Promql(expr) = &rule.expr {
            used.extend(expr.labels_used().into_iter().map(str::to_owned));
        }
        let mut templates: Vec<&String> = rule.labels.values().collect();
        if let RuleKind::Alert { annotations, .. } = &rule.kind {
            templates.extend(annotations.values());
        }
        for text in templates {
            for start in ["$labels.", ".Labels."] {
                used.extend(text.split(start).skip(1).map(name_at_start).filter(|name| !name.is_empty()));
            }
        }
    }
    used
}

fn name_at_start(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// Counts, tells what folding owes, and writes where budgets stand, until the program stops.
pub async fn watch(gate: Arc<Gate>, ingest: Arc<Ingest>, shutdown: CancellationToken) {
    let sender = SenderRef::new(Protocol::Internal, "cardinality", "weir");
    let mut every = tokio::time::interval(SURVEY_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told: BTreeSet<Labels> = BTreeSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = every.tick() => {}
        }
        let (gate, to, sender, before) = (gate.clone(), ingest.clone(), sender.clone(), std::mem::take(&mut told));
        let done = tokio::task::spawn_blocking(move || {
            let now = to.clock().now();
            let (batch, after) = series(&gate.survey(now), before, now);
            let own = (!batch.series.is_empty()).then(|| (TenantId::anonymous(), batch));
            let write = |(tenant, batch)| to.write_metrics(&tenant, &sender, batch).map(drop);
            (after, gate.settle(now).into_iter().chain(own).try_for_each(write))
        });
        match done.await {
            Ok((after, written)) => {
                told = after;
                if let Err(error) = written {
                    tracing::warn!(%error, "what is known of budgets of series was not stored");
                }
            }
            Err(error) => tracing::error!(%error, "budgets of series: counting ended early"),
        }
    }
}

/// Samples of where budgets stand, and the end of those of `before` that are in good order again.
fn series(standings: &[Standing], before: BTreeSet<Labels>, now: Timestamp) -> (MetricBatch, BTreeSet<Labels>) {
    let (mut batch, mut after) = (MetricBatch::default(), BTreeSet::new());
    let mut add = |labels: Labels, value: f64| {
        if after.insert(labels.clone()) {
            batch.series.push(SeriesBatch {
                labels,
                samples: vec![Sample { at: now, value }],
                ..SeriesBatch::default()
            });
        }
    };
    for one in standings {
        let of = [("tenant", one.tenant.as_str()), ("budget", &*one.budget), ("action", one.action.as_str())];
        let culprit = &one.culprit;
        let label = culprit.label.as_ref().map_or("", |l| &*l.name);
        let ratio = of.into_iter().chain([("metric", &*culprit.metric), ("label", label)]);
        add(named("weir_cardinality_budget_used_ratio", ratio), one.used_ratio());
        // Apart, so that the alert stays one while the foremost target changes.
        if let Some(target) = &culprit.target {
            let of = [("tenant", one.tenant.as_str()), ("metric", &*culprit.metric)];
            let of = of.into_iter().chain([("job", &*target.job), ("instance", &*target.instance)]);
            add(named("weir_cardinality_target_series", of), target.n_series as f64);
        }
        let Some(metric) = &one.metric else { continue };
        let outcomes = [("fold", one.n_folded), ("drop", one.n_dropped), ("refuse", one.n_refused)];
        for (outcome, n) in outcomes.into_iter().filter(|(_, n)| *n > 0) {
            let of = [("tenant", one.tenant.as_str()), ("metric", &**metric), ("outcome", outcome)];
            add(named("weir_cardinality_kept_out_samples_total", of), n as f64);
        }
    }
    for labels in before.into_iter().filter(|labels| !after.contains(labels)) {
        let samples = vec![Sample { at: now, value: f64::from_bits(STALE_NAN_BITS) }];
        batch.series.push(SeriesBatch { labels, samples, ..SeriesBatch::default() });
    }
    (batch, after)
}

fn named<'a>(name: &'a str, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
    Labels::from_pairs(labels.into_iter().chain([("__name__", name)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alert_is_a_rule_and_its_labels_are_used() {
        let groups = alert().unwrap();
        let used = labels_used(groups.iter());
        assert!(["metric", "label", "budget", "tenant", "action"].iter().all(|l| used.contains(*l)), "{used:?}");
    }
}
