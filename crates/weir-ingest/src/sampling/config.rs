//! `--logs.sampling-config`: which share of lines of each level is kept above which rate.

use regex::Regex;
use serde::Deserialize;
use serde_saphyr::Spanned;
use weir_model::TenantId;

use crate::level;

/// Kept of levels that a rule does not name. Levels that are not here are kept whole.
const DEFAULT_SHARES: [(&str, f64); 3] = [("trace", 0.01), ("debug", 0.01), ("info", 0.1)];

/// What is thinned out, the first rule that names a line's service counting.
#[derive(Clone, Debug, Default)]
pub struct SamplingConfig {
    pub(super) rules: Vec<SamplingRule>,
}

#[derive(Clone, Debug)]
pub(super) struct SamplingRule {
    tenant: Option<Regex>,
    namespace: Option<Regex>,
    service: Option<Regex>,
    /// Of a service in a namespace; up to it every line is kept.
    pub above_lines_per_second: f64,
    /// By place in [`level::WORDS`], 0 to 1.
    shares: [f64; level::WORDS.len()],
}

impl SamplingRule {
    pub fn is_for(&self, tenant: &TenantId, namespace: &str, service: &str) -> bool {
        let matches = |re: &Option<Regex>, text: &str| re.as_ref().is_none_or(|re| re.is_match(text));
        matches(&self.tenant, tenant.as_str()) && matches(&self.namespace, namespace) && matches(&self.service, service)
    }

    /// The share that is kept of a level; all of a level that nobody knows.
    pub fn share(&self, level: &str) -> f64 {
        level::WORDS.iter().position(|word| *word == level).map_or(1.0, |idx| self.shares[idx])
    }
}

/// One thing wrong with the file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct SamplingError {
    /// From 1; 0 where the whole file is meant.
    pub line: u64,
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    rules: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    tenant: Option<String>,
    namespace: Option<String>,
    service: Option<String>,
    above_lines_per_second: f64,
    #[serde(default)]
    keep: std::collections::BTreeMap<String, f64>,
}

impl SamplingConfig {
    pub fn parse(text: &str) -> Result<Self, SamplingError> {
        let raw: RawFile = serde_saphyr::from_str(text).map_err(|error| SamplingError {
            line: error.location().map_or(0, |at| at.line()),
            reason: error.without_snippet().to_string(),
        })?;
        let mut rules = Vec::with_capacity(raw.rules.len());
        for rule in raw.rules {
            let line = rule.defined.line();
            rules.push(checked(rule.value).map_err(|reason| SamplingError { line, reason })?);
        }
        if rules.is_empty() {
            return Err(SamplingError { line: 0, reason: "`rules` is empty: nothing would be sampled".to_owned() });
        }
        Ok(Self { rules })
    }

    pub fn n_rules(&self) -> usize {
        self.rules.len()
    }
}

fn checked(raw: RawRule) -> Result<SamplingRule, String> {
    let regex = |key: &str, text: Option<String>| match text {
        None => Ok(None),
        Some(text) => weir_go::regex_anchored(&text).map(Some).map_err(|error| format!("`{key}`: {error}")),
    };
    let above = raw.above_lines_per_second;
    if !(above.is_finite() && above >= 0.0) {
        return Err(format!("`above_lines_per_second` is {above}; a number of at least 0 is wanted"));
    }
    let mut shares = [1.0; level::WORDS.len()];
    let named = raw.keep.iter().map(|(name, share)| (name.as_str(), *share));
    for (name, share) in DEFAULT_SHARES.into_iter().chain(named) {
        let Some(idx) = level::WORDS.iter().position(|word| *word == name) else {
            return Err(format!("`keep` names the level `{name}`; there are {}", level::WORDS.join(", ")));
        };
        // A share of nothing would leave nothing to stand for what is left out.
        if !(share > 0.0 && share <= 1.0) {
            return Err(format!("`keep` of `{name}` is {share}; a share above 0 and up to 1 is wanted"));
        }
        shares[idx] = share;
    }
    Ok(SamplingRule {
        tenant: regex("tenant", raw.tenant)?,
        namespace: regex("namespace", raw.namespace)?,
        service: regex("service", raw.service)?,
        above_lines_per_second: above,
        shares,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_by_level_and_whom_a_rule_is_for() {
        let text = "rules:\n- {service: shop-.*, above_lines_per_second: 10, keep: {info: 0.5}}\n- above_lines_per_second: 10000\n";
        let config = SamplingConfig::parse(text).unwrap();
        let tenant = TenantId::anonymous();
        let [first, second] = config.rules.as_slice() else { panic!("two rules") };
        assert!(first.is_for(&tenant, "any", "shop-web") && !first.is_for(&tenant, "any", "shop"));
        let shares = |rule: &SamplingRule| ["debug", "info", "warn", "unknown", "nonsense"].map(|l| rule.share(l));
        assert_eq!(shares(first), [0.01, 0.5, 1.0, 1.0, 1.0]);
        assert_eq!(shares(second), [0.01, 0.1, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn mistakes_name_their_line() {
        let cases = [
            ("rules: []", 0, "`rules` is empty"),
            ("rules:\n- above_lines_per_second: -1", 2, "at least 0"),
            ("rules:\n- above_lines_per_second: 1\n- {above_lines_per_second: 1, service: '('}", 3, "`service`"),
            ("rules:\n- {above_lines_per_second: 1, keep: {debug: 0}}", 2, "a share above 0"),
            ("rules:\n- {above_lines_per_second: 1, keep: {verbose: 1}}", 2, "the level `verbose`"),
            ("rules:\n- {above_lines_per_second: 1, levels: {}}", 2, "levels"),
        ];
        for (text, line, reason) in cases {
            let error = SamplingConfig::parse(text).unwrap_err();
            assert!(error.line == line && error.reason.contains(reason), "{text}: {error}");
        }
    }
}
