//! Counts of series in memory.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::labels::METRIC_NAME;
use weir_model::{LabelCensus, MetricCensus, SeriesCensus, TargetCensus, TenantId};

use super::Head;
use crate::index::Index;

impl SeriesCensus for Head {
    fn knows(&self, tenant: &TenantId, labels: &[(&str, &str)]) -> bool {
        self.tenant(tenant).is_some_and(|held| held.find(labels).is_some())
    }

    fn count(&self, tenant: &TenantId, metric: Option<&str>) -> u64 {
        let Some(held) = self.tenant(tenant) else { return 0 };
        let index = held.index();
        match metric {
            Some(metric) => index.slots_of(METRIC_NAME, metric).map_or(0, |slots| slots.len()),
            None => index.len() as u64,
        }
    }

    fn tenants(&self) -> Vec<TenantId> {
        self.tenants.read().keys().cloned().collect()
    }

    fn metrics(&self, tenant: &TenantId) -> Vec<(Arc<str>, u64)> {
        let Some(held) = self.tenant(tenant) else { return Vec::new() };
        held.index().values(METRIC_NAME).map(|(name, slots)| (name.clone(), slots.len())).collect()
    }

    fn metric(&self, tenant: &TenantId, metric: &str, seen_max: u64, limit: usize) -> MetricCensus {
        self.tenant(tenant).map(|held| census(&held.index(), metric, seen_max, limit)).unwrap_or_default()
    }
}

fn census(index: &Index, metric: &str, seen_max: u64, limit: usize) -> MetricCensus {
    let Some(slots) = index.slots_of(METRIC_NAME, metric) else { return MetricCensus::default() };
    let mut out = MetricCensus { n_series: slots.len(), ..MetricCensus::default() };
    let step = slots.len().div_ceil(seen_max.max(1)).max(1) as usize;
    let mut labels: AHashMap<&Arc<str>, AHashMap<&Arc<str>, u64>> = AHashMap::new();
    let mut targets: AHashMap<(Option<&Arc<str>>, Option<&Arc<str>>), u64> = AHashMap::new();
    for slot in slots.iter().step_by(step) {
        out.n_seen += 1;
        let (mut job, mut instance) = (None, None);
        for (name, value) in index.labels_at(slot).filter(|(name, _)| &***name != METRIC_NAME) {
            *labels.entry(name).or_default().entry(value).or_default() += 1;
            match &**name {
                "job" => job = Some(value),
                "instance" => instance = Some(value),
                _ => {}
            }
        }
        *targets.entry((job, instance)).or_default() += 1;
    }
    out.labels = labels.into_iter().map(|(name, values)| label(name, values, limit)).collect();
    out.labels.sort_by(|a, b| b.n_values.cmp(&a.n_values).then_with(|| a.name.cmp(&b.name)));
    out.labels.truncate(limit);
    let text = |text: Option<&Arc<str>>| text.cloned().unwrap_or_default();
    let target = |((job, instance), n_series)| TargetCensus { job: text(job), instance: text(instance), n_series };
    out.targets = targets.into_iter().map(target).collect();
    out.targets
        .sort_by(|a, b| b.n_series.cmp(&a.n_series).then_with(|| (&a.job, &a.instance).cmp(&(&b.job, &b.instance))));
    out.targets.truncate(limit);
    out
}

fn label(name: &Arc<str>, values: AHashMap<&Arc<str>, u64>, limit: usize) -> LabelCensus {
    let n_values = values.len() as u64;
    let mut values: Vec<(Arc<str>, u64)> = values.into_iter().map(|(value, n)| (value.clone(), n)).collect();
    let by_count = |a: &(Arc<str>, u64), b: &(Arc<str>, u64)| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0));
    if values.len() > limit {
        values.select_nth_unstable_by(limit, by_count);
        values.truncate(limit);
    }
    values.sort_by(by_count);
    LabelCensus { name: name.clone(), n_values, values }
}

#[cfg(test)]
mod tests {
    use weir_model::sink::SeriesSink;
    use weir_model::{Budget, TenantId};

    use super::*;

    #[test]
    fn series_are_counted_by_metric_label_and_target() {
        let head = Head::new(&Budget::root(1 << 30));
        let tenant = TenantId::anonymous();
        for k in 0..30 {
            let (user, instance) = (format!("u{k}"), format!("i{}", k % 3));
            let labels =
                [("__name__", "logins"), ("instance", &*instance), ("job", "api"), ("path", "/"), ("user_id", &*user)];
            head.register(&tenant, &labels).unwrap();
        }
        head.register(&tenant, &[("__name__", "up")]).unwrap();
        assert_eq!((head.count(&tenant, None), head.count(&tenant, Some("logins"))), (31, 30));
        assert_eq!(head.count(&tenant, Some("logouts")), 0);
        assert_eq!(head.metrics(&tenant), [("logins".into(), 30), ("up".into(), 1)]);
        assert!(head.knows(&tenant, &[("__name__", "up")]) && !head.knows(&tenant, &[("__name__", "down")]));
        let census = head.metric(&tenant, "logins", 100, 2);
        assert_eq!((census.n_series, census.n_seen), (30, 30));
        let labels: Vec<_> = census.labels.iter().map(|l| (&*l.name, l.n_values, l.values.len())).collect();
        assert_eq!(labels, [("user_id", 30, 2), ("instance", 3, 2)]);
        assert_eq!(head.metric(&tenant, "logins", 10, 2).n_seen, 10);
        assert_eq!(census.labels[1].values[0], ("i0".into(), 10));
        assert_eq!(census.targets[0], TargetCensus { job: "api".into(), instance: "i0".into(), n_series: 10 });
        assert_eq!(head.metric(&tenant, "up", 9, 9).targets.len(), 1);
    }
}
