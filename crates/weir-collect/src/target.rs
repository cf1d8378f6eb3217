//! From a scrape configuration to targets. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_model::{Labels, LabelsBuilder};

use crate::config::{ScrapeConfig, StaticGroup};
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

/// The targets of one configuration; `Err` names the target that cannot be scraped.
pub fn targets(config: &ScrapeConfig) -> Result<(Vec<Target>, Vec<DroppedTarget>), String> {
    let (mut out, mut dropped): (Vec<Target>, Vec<DroppedTarget>) = (Vec::new(), Vec::new());
    for group in &config.groups {
        for address in &group.targets {
            let discovered = discovered(config, group, address);
            let fault = |e: String| format!("scrape config `{}`: target `{address}`: {e}", config.job_name);
            match target(config, &discovered).map_err(fault)? {
                // Two equal targets are one, as upstream has it.
                Some(target) if out.iter().any(|t| t.labels == target.labels && t.url == target.url) => {}
                Some(target) => out.push(target),
                None => dropped.push(DroppedTarget { pool: config.job_name.clone(), discovered }),
            }
        }
    }
    if config.limits.target_limit > 0 && out.len() > config.limits.target_limit {
        return Err(format!(
            "scrape config `{}`: {} targets; target_limit is {}",
            config.job_name,
            out.len(),
            config.limits.target_limit
        ));
    }
    Ok((out, dropped))
}

fn discovered(config: &ScrapeConfig, group: &StaticGroup, address: &str) -> Labels {
    let mut labels = LabelsBuilder::default();
    for (name, value) in &group.labels {
        labels.set(name.as_str(), value.as_str());
    }
    labels.set("__address__", address);
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
    Ok(Some(Target {
        pool: config.job_name.clone(),
        discovered: discovered.clone(),
        labels: labels.build(),
        url,
        interval,
        timeout,
    }))
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
        let got = match targets(&config.scrape_configs[0]) {
            Err(e) => vec![format!("error {e}")],
            Ok((targets, dropped)) => targets
                .iter()
                .map(|t| format!("{} {}", t.labels, t.url))
                .chain(dropped.iter().map(|d| format!("dropped {}", d.discovered.value("__address__"))))
                .collect(),
        };
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
