//! `--logs.retention-config`: how long log lines are kept, in Loki's words and by namespace.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use serde_saphyr::Spanned;
use weir_events::{LogRetention, RetentionLimits, RetentionRule};
use weir_logql::Expr;
use weir_model::{Matcher, TenantId};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    limits_config: RawLimits,
    /// By tenant, as Loki's runtime configuration has them; a key that stands here replaces that of `limits_config`.
    #[serde(default)]
    overrides: BTreeMap<String, RawLimits>,
    /// By the label `namespace`; of all tenants without streams of their own.
    #[serde(default)]
    log_retention_days: BTreeMap<String, Spanned<f64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    retention_period: Option<Spanned<String>>,
    retention_stream: Option<Vec<Spanned<RawStream>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStream {
    selector: String,
    #[serde(default)]
    priority: i64,
    period: String,
}

/// One thing wrong with the file, and where.
#[derive(Debug)]
struct RetentionError {
    line: u64,
    reason: String,
}

impl std::fmt::Display for RetentionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.line, self.reason)
    }
}

/// `default` is the time of what the file says nothing about; `None` for ever.
pub fn read(path: &Path, default: Option<Duration>) -> anyhow::Result<LogRetention> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    parse(&text, default).map_err(|error| anyhow::anyhow!("{}:{error}", path.display()))
}

fn parse(text: &str, default: Option<Duration>) -> Result<LogRetention, RetentionError> {
    let raw: RawFile = serde_saphyr::from_str(text).map_err(|error| RetentionError {
        line: error.location().map_or(0, |at| at.line()),
        reason: error.without_snippet().to_string(),
    })?;
    let mut by_namespace = Vec::new();
    for (namespace, days) in &raw.log_retention_days {
        let line = days.defined.line();
        let period = Some(days.value).filter(|days| days.is_finite() && *days > 0.0 && *days <= 36_500.0);
        let period = period.map(|days| Duration::from_secs_f64(days * 86_400.0));
        let reason = || format!("`log_retention_days` of `{namespace}` is {}; days above 0 are wanted", days.value);
        let period = Some(period.ok_or_else(|| RetentionError { line, reason: reason() })?);
        by_namespace.push(RetentionRule {
            matchers: vec![Matcher::equal("namespace", namespace)],
            priority: 0,
            period,
        });
    }
    let mut limits = checked(&raw.limits_config, default, &[])?;
    limits.rules.extend(by_namespace.clone());
    let mut tenants = Vec::new();
    for (name, of_tenant) in &raw.overrides {
        let reason = |error| RetentionError { line: 0, reason: format!("`overrides`: the tenant `{name}`: {error}") };
        let tenant = TenantId::parse(name).map_err(|error| reason(error.to_string()))?;
        tenants.push((tenant, checked(of_tenant, limits.period, &limits.rules)?));
    }
    Ok(LogRetention { limits, tenants: tenants.into_iter().collect() })
}

fn checked(
    raw: &RawLimits,
    default: Option<Duration>,
    rules: &[RetentionRule],
) -> Result<RetentionLimits, RetentionError> {
    let period = match &raw.retention_period {
        None => default,
        Some(text) => period("retention_period", &text.value)
            .map_err(|reason| RetentionError { line: text.defined.line(), reason })?,
    };
    let rules = match &raw.retention_stream {
        None => rules.to_vec(),
        Some(streams) => {
            let one = |one: &Spanned<RawStream>| {
                stream(&one.value).map_err(|reason| RetentionError { line: one.defined.line(), reason })
            };
            streams.iter().map(one).collect::<Result<_, _>>()?
        }
    };
    Ok(RetentionLimits { period, rules })
}

/// 0 keeps for ever, as in Loki.
fn period(key: &str, text: &str) -> Result<Option<Duration>, String> {
    let length = weir_go::parse_prometheus_duration(text).map_err(|error| format!("`{key}`: {error}"))?;
    Ok((!length.is_zero()).then_some(length))
}

fn stream(raw: &RawStream) -> Result<RetentionRule, String> {
    let wrong = |why: String| format!("`selector` {}: {why}", raw.selector);
    let matchers = match weir_logql::parse(&raw.selector) {
        Ok(Expr::Log(expr)) if expr.stages.is_empty() => expr.matchers,
        Ok(_) => return Err(wrong("a stream selector alone is wanted, without filters".to_owned())),
        Err(error) => return Err(wrong(error.to_string())),
    };
    Ok(RetentionRule { matchers, priority: raw.priority, period: period("period", &raw.period)? })
}

/// How many rules the file has, for `weir check`.
pub fn n_rules(retention: &LogRetention) -> usize {
    let of_tenants: usize = retention.tenants.values().map(|limits| limits.rules.len()).sum();
    retention.limits.rules.len() + of_tenants
}

#[cfg(test)]
mod tests {
    use weir_model::Labels;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn lokis_shape_namespaces_and_tenants() {
        let text = r#"
limits_config:
  retention_period: 744h
  retention_stream:
  - selector: '{namespace="dev", level=~"debug|trace"}'
    priority: 1
    period: 24h
  - selector: '{app="audit"}'
    priority: 2
    period: 0s
overrides:
  "29":
    retention_period: 168h
  "30":
    retention_stream: []
log_retention_days: {prod: 90, dev: 0.5}
"#;
        let retention = parse(text, Some(DAY)).unwrap();
        let of = |tenant: &str, labels: &[(&str, &str)]| {
            retention.of(&TenantId::parse(tenant).unwrap(), &Labels::from_pairs(labels.iter().copied()))
        };
        assert_eq!(of("anonymous", &[("app", "web")]), Some(31 * DAY));
        assert_eq!(of("anonymous", &[("namespace", "prod")]), Some(90 * DAY));
        assert_eq!(of("anonymous", &[("namespace", "dev"), ("level", "debug")]), Some(DAY));
        assert_eq!(of("anonymous", &[("namespace", "dev"), ("level", "info")]), Some(DAY / 2));
        assert_eq!(of("anonymous", &[("app", "audit"), ("namespace", "dev")]), None);
        assert_eq!(of("29", &[("app", "web")]), Some(7 * DAY));
        assert_eq!(of("29", &[("namespace", "prod")]), Some(90 * DAY));
        assert_eq!(of("30", &[("namespace", "prod")]), Some(31 * DAY));
        assert_eq!(n_rules(&retention), 8);
        assert_eq!(parse("{}", None).unwrap().limits.period, None);
    }

    #[test]
    fn mistakes_name_their_line() {
        let stream = |selector: &str, period: &str| {
            format!("limits_config:\n  retention_stream:\n  - {{selector: '{selector}', period: {period}}}")
        };
        for (text, line, reason) in [
            (stream("{a=", "1d"), 3, "`selector` {a="),
            (stream("{a=\"b\"} |= \"x\"", "1d"), 3, "without filters"),
            (stream("{a=\"b\"}", "soon"), 3, "`period`"),
            ("limits_config:\n  retention_period: x".to_owned(), 2, "`retention_period`"),
            ("limits_config:\n  max_streams: 1".to_owned(), 2, "max_streams"),
            ("log_retention_days:\n  a: 1\n  b: 0".to_owned(), 3, "`b` is 0"),
        ] {
            let error = parse(&text, None).unwrap_err();
            assert!(error.line == line && error.reason.contains(reason), "{text}: {error}");
        }
    }
}
