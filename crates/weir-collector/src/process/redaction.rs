//! `redaction`: attributes that are not allowed go, values that must not be seen are masked.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use regex::Regex;
use sha2::Digest as _;
use weir_model::Nanos;

use super::Stateless;
use super::walk::retain;
use crate::config::Section;
use crate::data::{Data, Signal, set, text_of};
use crate::ottl::{Context, EvalError, Subject};

#[derive(Clone, Debug)]
pub struct RedactionConfig {
    allow_all_keys: bool,
    allowed_keys: BTreeSet<String>,
    ignored_keys: BTreeSet<String>,
    ignored_patterns: Vec<Regex>,
    blocked_keys: Vec<Regex>,
    blocked_values: Vec<Regex>,
    allowed_values: Vec<Regex>,
    all_types: bool,
    hash: Hash,
    summary: Summary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    None,
    Md5,
    Sha1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Summary {
    Debug,
    Info,
    Silent,
}

impl RedactionConfig {
    pub(crate) fn read(section: Section<'_>) -> Self {
        let regexes = |key: &'static str| -> Vec<Regex> {
            let read = |item: &crate::config::Field<'_>| match weir_go::regex(&item.text()?) {
                Ok(regex) => Some(regex),
                Err(error) => {
                    item.error(error.to_string());
                    None
                }
            };
            section.items(key).iter().filter_map(read).collect()
        };
        let hash = match section.text("hash_function").as_deref() {
            None | Some("") => Hash::None,
            Some("md5") => Hash::Md5,
            Some("sha1") => Hash::Sha1,
            Some(other) => {
                section.error(format!("hash_function `{other}` is not supported: md5, sha1"));
                Hash::None
            }
        };
        let summary = match section.text("summary").as_deref() {
            Some("debug") => Summary::Debug,
            Some("info") => Summary::Info,
            None | Some("" | "silent") => Summary::Silent,
            Some(other) => {
                section.error(format!("summary `{other}` is not one of debug, info, silent"));
                Summary::Silent
            }
        };
        let read = Self {
            allow_all_keys: section.bool_or("allow_all_keys", false),
            allowed_keys: section.texts("allowed_keys").into_iter().collect(),
            ignored_keys: section.texts("ignored_keys").into_iter().collect(),
            ignored_patterns: regexes("ignored_key_patterns"),
            blocked_keys: regexes("blocked_key_patterns"),
            blocked_values: regexes("blocked_values"),
            allowed_values: regexes("allowed_values"),
            all_types: section.bool_or("redact_all_types", false),
            hash,
            summary,
        };
        section.unsupported(&["url_sanitizer", "db_sanitizer", "hmac_key"]);
        section.finish();
        read
    }

    fn mask(&self, regex: &Regex, text: &str) -> String {
        regex
            .replace_all(text, |found: &regex::Captures<'_>| match self.hash {
                Hash::None => "****".to_owned(),
                Hash::Md5 => hex::encode(md5::Md5::digest(&found[0])),
                Hash::Sha1 => hex::encode(sha1::Sha1::digest(&found[0])),
            })
            .into_owned()
    }

    /// A value after masking; `None` when nothing was.
    fn masked(&self, text: &str) -> Option<String> {
        let mut out: Option<String> = None;
        for regex in &self.blocked_values {
            let now = out.as_deref().unwrap_or(text);
            if regex.is_match(now) {
                out = Some(self.mask(regex, now));
            }
        }
        out
    }

    fn process_attributes(&self, attributes: &mut Vec<KeyValue>) {
        let (mut redacted, mut masked, mut allowed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut n_ignored = 0;
        attributes.retain_mut(|kv| {
            if self.ignored_keys.contains(&kv.key) || self.ignored_patterns.iter().any(|r| r.is_match(&kv.key)) {
                n_ignored += 1;
                return true;
            }
            if !self.allow_all_keys && !self.allowed_keys.contains(&kv.key) {
                redacted.insert(kv.key.clone());
                return false;
            }
            let Some(value) = kv.value.as_mut().and_then(|v| v.value.as_mut()) else { return true };
            if !self.all_types && !matches!(value, Any::StringValue(_)) {
                return true;
            }
            let text = text_of(value);
            if self.allowed_values.iter().any(|r| r.is_match(&text)) {
                allowed.insert(kv.key.clone());
                return true;
            }
            if self.blocked_keys.iter().any(|r| r.is_match(&kv.key)) {
                masked.insert(kv.key.clone());
                *value = Any::StringValue(match self.hash {
                    Hash::None => "****".to_owned(),
                    Hash::Md5 => hex::encode(md5::Md5::digest(text)),
                    Hash::Sha1 => hex::encode(sha1::Sha1::digest(text)),
                });
            } else if let Some(new) = self.masked(&text) {
                masked.insert(kv.key.clone());
                *value = Any::StringValue(new);
            }
            true
        });
        self.summarise(attributes, "redacted", &redacted);
        self.summarise(attributes, "masked", &masked);
        self.summarise(attributes, "allowed", &allowed);
        if n_ignored > 0 && self.summary != Summary::Silent {
            set(attributes, "redaction.ignored.count", Any::IntValue(n_ignored));
        }
    }

    fn summarise(&self, attributes: &mut Vec<KeyValue>, what: &str, keys: &BTreeSet<String>) {
        if keys.is_empty() || self.summary == Summary::Silent {
            return;
        }
        if self.summary == Summary::Debug {
            let names: Vec<&str> = keys.iter().map(String::as_str).collect();
            set(attributes, &format!("redaction.{what}.keys"), Any::StringValue(names.join(",")));
        }
        set(attributes, &format!("redaction.{what}.count"), Any::IntValue(keys.len() as i64));
    }
}

impl Stateless for RedactionConfig {
    fn process(&self, data: &mut Data, now: Nanos) -> Result<(), EvalError> {
        let inner: &[Context] = match data.signal() {
            Signal::Traces => &[Context::Span, Context::SpanEvent],
            Signal::Metrics => &[Context::DataPoint],
            Signal::Logs => &[Context::Log],
        };
        for context in [Context::Resource, Context::Scope].iter().chain(inner) {
            retain(data, *context, now, &mut |scene| {
                match &mut scene.subject {
                    Subject::None if *context == Context::Scope => self.process_attributes(&mut scene.scope.attributes),
                    Subject::None => self.process_attributes(&mut scene.resource.attributes),
                    Subject::Span(span) => self.process_attributes(&mut span.attributes),
                    Subject::SpanEvent(_, event) => self.process_attributes(&mut event.attributes),
                    Subject::Point(_, point) => self.process_attributes(point.attributes()),
                    Subject::Metric(_) => {}
                    Subject::Log(record) => {
                        self.process_attributes(&mut record.attributes);
                        if let Some(body) = &mut record.body {
                            self.process_body(&mut body.value);
                        }
                    }
                }
                Ok::<_, EvalError>(true)
            })?;
        }
        Ok(())
    }
}

impl RedactionConfig {
    /// Texts of a body are masked; its keys count as those of attributes.
    fn process_body(&self, value: &mut Option<Any>) {
        match value {
            Some(Any::StringValue(text)) if !self.allowed_values.iter().any(|r| r.is_match(text)) => {
                if let Some(new) = self.masked(text) {
                    *text = new;
                }
            }
            Some(Any::KvlistValue(map)) => {
                map.values.retain(|kv| {
                    self.allow_all_keys || self.allowed_keys.contains(&kv.key) || self.ignored_keys.contains(&kv.key)
                });
                for kv in map.values.iter_mut().filter(|kv| !self.ignored_keys.contains(&kv.key)) {
                    let is_blocked = self.blocked_keys.iter().any(|r| r.is_match(&kv.key));
                    let Some(inner) = kv.value.as_mut() else { continue };
                    if is_blocked {
                        inner.value = Some(Any::StringValue("****".to_owned()));
                    } else {
                        self.process_body(&mut inner.value);
                    }
                }
            }
            Some(Any::ArrayValue(list)) => list.values.iter_mut().for_each(|v| self.process_body(&mut v.value)),
            _ => {}
        }
    }
}
