//! The configuration as `status/config` shows it: what was written, the defaults that hold for what was
//! not, and no secret.

use serde_json::{Map, Value};
use weir_go::format_prometheus_duration;

use super::{PrometheusConfig, ScrapeConfig};

const MASK: &str = "<secret>";

/// Keys whose value is a secret wherever they stand, as upstream's `Secret` type has them.
const SECRET_KEYS: [&str; 8] = [
    "password",
    "credentials",
    "bearer_token",
    "client_secret",
    "client_certificate_key",
    "secret_key",
    "token",
    "key",
];

impl PrometheusConfig {
    /// YAML. Empty when nothing was written.
    pub fn effective(&self) -> String {
        let Ok(Value::Object(mut root)) = serde_saphyr::from_str::<Value>(&self.text) else { return String::new() };
        root.iter_mut().for_each(|(key, value)| mask(key, value));
        // Stands first, as upstream writes it.
        let written = root.shift_remove("global");
        root.shift_insert(0, "global".to_owned(), Value::Object(self.global(written)));
        if let Some(Value::Array(jobs)) = root.get_mut("scrape_configs") {
            // Jobs of `scrape_config_files` come after those written here.
            for (job, checked) in jobs.iter_mut().zip(&self.scrape_configs) {
                if let Value::Object(job) = job {
                    fill_job(job, checked);
                }
            }
        }
        serde_saphyr::to_string(&root).unwrap_or_default()
    }

    fn global(&self, written: Option<Value>) -> Map<String, Value> {
        let mut global = match written {
            Some(Value::Object(global)) => global,
            _ => Map::new(),
        };
        default(&mut global, "scrape_interval", "1m".to_owned());
        default(&mut global, "scrape_timeout", "10s".to_owned());
        default(&mut global, "evaluation_interval", format_prometheus_duration(self.evaluation_interval));
        default(&mut global, "rule_query_offset", format_prometheus_duration(self.rule_query_offset));
        global
    }
}

fn fill_job(job: &mut Map<String, Value>, checked: &ScrapeConfig) {
    default(job, "honor_timestamps", checked.honor_timestamps);
    default(job, "track_timestamps_staleness", checked.track_timestamps_staleness);
    default(job, "scrape_interval", format_prometheus_duration(checked.scrape_interval));
    default(job, "scrape_timeout", format_prometheus_duration(checked.scrape_timeout));
    default(job, "metrics_path", checked.metrics_path.clone());
    default(job, "scheme", checked.scheme.clone());
    default(job, "enable_compression", checked.enable_compression);
}

fn default(into: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    if into.get(key).is_none_or(Value::is_null) {
        into.insert(key.to_owned(), value.into());
    }
}

fn mask(key: &str, value: &mut Value) {
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| mask(key, value)),
        // `http_headers: {X-Key: {secrets: [a, b]}}`.
        Value::Array(values) if key == "secrets" => values.iter_mut().for_each(|v| *v = MASK.into()),
        Value::Array(values) => values.iter_mut().for_each(|value| mask(key, value)),
        Value::Null | Value::Bool(_) => {}
        Value::Number(_) if SECRET_KEYS.contains(&key) => *value = MASK.into(),
        Value::Number(_) => {}
        Value::String(text) if SECRET_KEYS.contains(&key) && !text.is_empty() => MASK.clone_into(text),
        Value::String(text) => mask_user(text),
    }
}

/// `https://user:word@host/` without the word.
fn mask_user(text: &mut String) {
    let Some((scheme, rest)) = text.split_once("://") else { return };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, host)) = authority.rsplit_once('@') else { return };
    if let Some((name, _)) = user.split_once(':') {
        *text = format!("{scheme}://{name}:{MASK}@{host}{}", &rest[authority.len()..]);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    #[test]
    fn defaults_are_filled_and_no_secret_is_shown() {
        let text = "
scrape_configs:
  - job_name: fast
    scrape_interval: 2s
    basic_auth: {username: u, password: hush1}
    http_headers: {X-Key: {secrets: [hush2], values: [seen]}}
    static_configs: [{targets: ['a:1'], labels: {team: data}}]
  - job_name: slow
    oauth2: {client_id: me, client_secret: hush3, token_url: 'https://a:hush4@b.example/t'}
    consul_sd_configs: [{server: 'c:8500', token: hush5}]
remote_write:
  - url: https://far.example/api/v1/write
    authorization: {credentials: 12345}
";
        let shown = PrometheusConfig::parse(text, Path::new("/etc/p")).expect("it is valid").effective();
        assert!(!shown.contains("hush") && !shown.contains("12345"), "{shown}");
        for part in ["seen", "a:<secret>@b.example/t", "team: data", "scrape_interval: 1m", "evaluation_interval: 1m"] {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
        // What it shows is a configuration again, and means the same.
        let again = PrometheusConfig::parse(&shown, Path::new("/etc/p")).expect("what is shown is valid");
        assert_eq!(again.scrape_configs[0].scrape_interval, Duration::from_secs(2));
        assert_eq!(again.scrape_configs[1].metrics_path, "/metrics");
        assert_eq!(again.effective(), shown);
    }

    #[test]
    fn nothing_written() {
        let config = PrometheusConfig::parse("# nothing\n", Path::new("/")).expect("it is valid");
        assert_eq!(config.effective(), "");
    }
}
