//! From a scrape configuration to targets. Pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use weir_model::{Labels, LabelsBuilder};

use crate::config::ScrapeConfig;
use crate::discover::TargetGroup;
use crate::relabel::relabel;

/// One thing to scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `job_name` of its configuration.
    pub pool: String,
    /// Before relabelling.
    pub discovered: Labels,
    /// What its series carry.
    pub labels: Labels,
    pub url: String,
    pub interval: Duration,
    pub timeout: Duration,
}

/// A target that relabelling took out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedTarget {
    pub pool: String,
    pub discovered: Labels,
}

/// What a configuration's groups become.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    pub active: Vec<Target>,
    /// At most `keep_dropped_targets` of them.
    pub dropped: Vec<DroppedTarget>,
    pub n_dropped: usize,
    /// Targets that cannot be scraped, and why.
    pub faults: Vec<String>,
}

impl Targets {
    /// Why none of them is scraped: there are too many.
    pub fn over_limit(&self, config: &ScrapeConfig) -> Option<String> {
        let (n, limit) = (self.active.len(), config.limits.target_limit);
        (limit > 0 && n > limit).then(|| format!("target_limit exceeded (number of targets: {n}, limit: {limit})"))
    }
}

/// The targets of `static_configs` and of what discovery found.
pub fn targets(config: &ScrapeConfig, found: &[Arc<TargetGroup>]) -> Targets {
    let mut out = Targets::default();
    let mut seen = HashSet::new();
    for group in &config.groups {
        for address in &group.targets {
            let own = [("__address__", address.as_str())];
            let labels = group.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).chain(own);
            take(config, discovered(config, labels), &mut seen, &mut out);
        }
    }
    for group in found {
        for target in &group.targets {
            let labels = group.labels.iter().chain(target).map(|(n, v)| (n.as_str(), v.as_str()));
            take(config, discovered(config, labels), &mut seen, &mut out);
        }
    }
    out
}

fn take(config: &ScrapeConfig, discovered: Labels, seen: &mut HashSet<(Labels, String)>, out: &mut Targets) {
    match target(config, &discovered) {
        Err(e) => {
            let address = discovered.value("__address__");
            out.faults.push(format!("scrape config `{}`: target `{address}`: {e}", config.job_name));
        }
        // Two equal targets are one, as upstream has it.
        Ok(Some(target)) => {
            if seen.insert((target.labels.clone(), target.url.clone())) {
                out.active.push(target);
            }
        }
        Ok(None) => {
            out.n_dropped += 1;
            let keep = config.limits.keep_dropped_targets;
            if keep == 0 || out.dropped.len() < keep {
                out.dropped.push(DroppedTarget { pool: config.job_name.clone(), discovered });
            }
        }
    }
}

/// A target's labels before relabelling; later ones win.
fn discovered<'a>(config: &ScrapeConfig, given: impl Iterator<Item = (&'a str, &'a str)>) -> Labels {
    let mut labels = LabelsBuilder::default();
    for (name, value) in given {
        labels.set(name, value);
    }
    let millis = |d: Duration| weir_go::format_prometheus_duration(d);
    let defaults = [
        ("job", config.job_name.clone()),
        ("__scheme__", config.scheme.clone()),
        ("__metrics_path__", config.metrics_path.clone()),
        ("__scrape_interval__", millis(config.scrape_interval)),
        ("__scrape_timeout__", millis(config.scrape_timeout)),
    ];
    for (name, value) in defaults {
        if labels.get(name).is_none() {
            labels.set(name, value);
        }
    }
    for (name, values) in &config.params {
        if let Some(first) = values.first() {
            labels.set(format!("__param_{name}"), first.as_str());
        }
    }
    labels.build()
}

/// `None` when relabelling drops it.
fn target(config: &ScrapeConfig, discovered: &Labels) -> Result<Option<Target>, String> {
    let Some(mut labels) = relabel(discovered.to_builder(), &config.relabel_configs) else { return Ok(None) };
    let get = |labels: &LabelsBuilder, name: &str| labels.get(name).unwrap_or("").to_owned();
    let address = get(&labels, "__address__");
    if address.is_empty() {
        return Err("no address".to_owned());
    }
    if address.contains('/') {
        return Err("an address is host:port, without a path; use metrics_path".to_owned());
    }
    let duration =
        |name: &str| weir_go::parse_prometheus_duration(&get(&labels, name)).map_err(|e| format!("{name}: {e}"));
    let (interval, timeout) = (duration("__scrape_interval__")?, duration("__scrape_timeout__")?);
    if interval.is_zero() || timeout.is_zero() || timeout > interval {
        return Err("the scrape timeout must lie between zero and the scrape interval".to_owned());
    }
    let url = url(config, &labels, &address)?;
    if labels.get("instance").is_none() {
        labels.set("instance", address);
    }
    labels.retain(|label| !label.name.starts_with("__"));
    if config.legacy_names
        && let Some(label) = labels.clone().build().iter().find(|l| !is_legacy(&l.name))
    {
        return Err(format!("`{}` is no name of a label; see metric_name_validation_scheme", label.name));
    }
    Ok(Some(Target {
        pool: config.job_name.clone(),
        discovered: discovered.clone(),
        labels: labels.build(),
        url,
        interval,
        timeout,
    }))
}

/// Names as they were before UTF-8.
pub(crate) fn is_legacy(name: &str) -> bool {
    let is_start = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    name.bytes().next().is_some_and(is_start) && name.bytes().all(|b| is_start(b) || b.is_ascii_digit())
}

fn url(config: &ScrapeConfig, labels: &LabelsBuilder, address: &str) -> Result<String, String> {
    let get = |name: &str| labels.get(name).unwrap_or("");
    let path = get("__metrics_path__");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let text = format!("{}://{address}{slash}{path}", get("__scheme__"));
    let mut url = url::Url::parse(&text).map_err(|e| format!("`{text}`: {e}"))?;
    let mut params: BTreeMap<String, Vec<String>> = config.params.clone();
    let all = labels.clone().build();
    for label in &all {
        if let Some(name) = label.name.strip_prefix("__param_") {
            let values = params.entry(name.to_owned()).or_default();
            if values.is_empty() {
                values.push(String::new());
            }
            values[0] = label.value.to_string();
        }
    }
    if !params.is_empty() {
        let mut query = url.query_pairs_mut();
        for (name, values) in &params {
            for value in values {
                query.append_pair(name, value);
            }
        }
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PrometheusConfig;
    use std::path::Path;

    #[track_caller]
    fn check(job: &str, want: &[&str]) {
        let text = format!("scrape_configs:\n- {{job_name: j, {job}}}\n");
        let config = PrometheusConfig::parse(&text, Path::new(".")).unwrap();
        let found = targets(&config.scrape_configs[0], &[]);
        let got: Vec<String> = found
            .active
            .iter()
            .map(|t| format!("{} {}", t.labels, t.url))
            .chain(found.dropped.iter().map(|d| format!("dropped {}", d.discovered.value("__address__"))))
            .chain(found.faults.iter().map(|e| format!("error {e}")))
            .collect();
        assert_eq!(got, want, "{job}");
    }

    #[test]
    fn targets_from_static_groups() {
        check(
            "static_configs: [{targets: ['a:1', 'b:2', 'a:1'], labels: {env: x}}]",
            &[
                r#"{env="x", instance="a:1", job="j"} http://a:1/metrics"#,
                r#"{env="x", instance="b:2", job="j"} http://b:2/metrics"#,
            ],
        );
        check(
            "params: {module: [m], q: [x y]}, metrics_path: probe, scheme: https, static_configs: [{targets: ['a:1']}]",
            &[r#"{instance="a:1", job="j"} https://a:1/probe?module=m&q=x+y"#],
        );
    }

    #[test]
    fn relabelling_decides() {
        let blackbox = "params: {module: [http]}, static_configs: [{targets: ['site']}], relabel_configs: [\
            {source_labels: [__address__], target_label: __param_target}, \
            {source_labels: [__param_target], target_label: instance}, \
            {target_label: __address__, replacement: 'bb:9115'}]";
        check(blackbox, &[r#"{instance="site", job="j"} http://bb:9115/metrics?module=http&target=site"#]);
        check(
            "static_configs: [{targets: ['a:1', 'b:1']}], relabel_configs: [{source_labels: [__address__], regex: 'a.*', action: drop}]",
            &[r#"{instance="b:1", job="j"} http://b:1/metrics"#, "dropped a:1"],
        );
        check(
            "static_configs: [{targets: ['http://a']}]",
            &["error scrape config `j`: target `http://a`: an address is host:port, without a path; use metrics_path"],
        );
    }
}
