//! `probabilistic_sampler`: a share of traces or log records, the same ones everywhere.

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use weir_model::Nanos;

use super::Stateless;
use super::walk::retain;
use crate::config::Section;
use crate::data::{Data, Signal, get};
use crate::hash::fnv1a_32;
use crate::ottl::{Context, EvalError, Subject, state_value, state_with};

#[derive(Clone, Debug)]
pub struct SamplerConfig {
    percentage: f64,
    mode: Mode,
    seed: u32,
    fail_closed: bool,
    /// Hex digits of a written threshold.
    precision: usize,
    source: Source,
    from_attribute: String,
    priority: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    HashSeed,
    Proportional,
    Equalizing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    TraceId,
    Record,
}

/// Buckets of the hash mode: 14 bits.
const BUCKETS: u32 = 1 << 14;
/// Randomness has 56 bits.
const RANDOM_MAX: f64 = (1_u64 << 56) as f64;

impl SamplerConfig {
    pub(crate) fn read(section: Section<'_>) -> Self {
        let percentage = section.required("sampling_percentage").and_then(|f| f.float()).unwrap_or(100.0);
        if percentage < 0.0 {
            section.error("sampling_percentage is below zero");
        }
        let mode = match section.text("mode").as_deref() {
            None | Some("hash_seed") => Mode::HashSeed,
            Some("proportional") => Mode::Proportional,
            Some("equalizing") => Mode::Equalizing,
            Some(other) => {
                section.error(format!("mode `{other}` is not one of hash_seed, proportional, equalizing"));
                Mode::HashSeed
            }
        };
        let precision = section.size_or("sampling_precision", 4);
        if !(1..=14).contains(&precision) {
            section.error("sampling_precision is from 1 to 14");
        }
        let source = match section.text("attribute_source").as_deref() {
            None | Some("traceID") => Source::TraceId,
            Some("record") => Source::Record,
            Some(other) => {
                section.error(format!("attribute_source `{other}` is not one of traceID, record"));
                Source::TraceId
            }
        };
        let read = Self {
            percentage,
            mode,
            seed: u32::try_from(section.unsigned_or("hash_seed", 0)).unwrap_or(0),
            fail_closed: section.bool_or("fail_closed", true),
            precision: precision.clamp(1, 14),
            source,
            from_attribute: section.text("from_attribute").unwrap_or_default(),
            priority: section.text("sampling_priority").unwrap_or_default(),
        };
        section.finish();
        read
    }

    /// Whether what is known by `key` is kept; changes the state of the 56-bit modes.
    fn keeps(&self, key: &[u8], state: Option<&mut String>, percentage: f64) -> bool {
        if self.mode == Mode::HashSeed {
            if percentage >= 100.0 {
                return true;
            }
            // The product is cut, as upstream does.
            let scaled = (percentage * (f64::from(BUCKETS) / 100.0)) as u32;
            return fnv1a_32(&[&self.seed.to_le_bytes(), key]) & (BUCKETS - 1) < scaled;
        }
        let Some(state) = state else { return self.random_of(key) >= self.threshold(percentage) };
        self.keeps_by_state(key, state, percentage)
    }

    /// The last seven bytes of an id; of anything else a hash.
    fn random_of(&self, key: &[u8]) -> u64 {
        let mut bytes = [0; 8];
        match key.last_chunk::<7>() {
            Some(last) if key.len() == 16 => bytes[1..].copy_from_slice(last),
            _ => bytes = (crate::hash::fnv1a_64(&[key]) >> 8).to_be_bytes(),
        }
        u64::from_be_bytes(bytes)
    }

    /// Randomness from here on is kept, with as many digits as are written.
    fn threshold(&self, percentage: f64) -> u64 {
        let share = (percentage / 100.0).clamp(0.0, 1.0);
        let exact = (RANDOM_MAX * (1.0 - share)).round() as u64;
        if exact == 0 || exact >= 1 << 56 {
            return exact;
        }
        // Leading zeros or Fs do not count as precision.
        let mask = (1_u64 << 56) - 1;
        let leading = (exact.leading_zeros() - 8).max((!exact & mask).leading_zeros() - 8) / 4 * 4;
        let drop_bits = (4 * (14 - self.precision as u32)).saturating_sub(leading);
        if drop_bits == 0 { exact } else { ((exact + (1 << (drop_bits - 1))) >> drop_bits) << drop_bits }
    }

    fn keeps_by_state(&self, key: &[u8], state: &mut String, percentage: f64) -> bool {
        let ot = state_value(state, "ot").unwrap_or("").to_owned();
        let field =
            |name: &str| ot.split(';').filter_map(|f| f.split_once(':')).find(|(k, _)| *k == name).map(|(_, v)| v);
        let random = field("rv").and_then(|v| u64::from_str_radix(v, 16).ok()).unwrap_or_else(|| self.random_of(key));
        let known = field("th").and_then(|digits| {
            (digits.len() <= 14).then(|| u64::from_str_radix(&format!("{digits:0<14}"), 16).ok()).flatten()
        });
        let wanted = match (self.mode, known) {
            // A share of what arrives, which was a share itself.
            (Mode::Proportional, Some(known)) => {
                let arrives = 1.0 - known as f64 / RANDOM_MAX;
                self.threshold(arrives * percentage)
            }
            (_, Some(known)) => known.max(self.threshold(percentage)),
            (_, None) => self.threshold(percentage),
        };
        if wanted >= 1 << 56 || random < wanted {
            return false;
        }
        let digits = format!("{wanted:014x}");
        let digits = digits.trim_end_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        let others = ot.split(';').filter(|f| !f.is_empty() && !f.starts_with("th:"));
        let fields: Vec<String> = std::iter::once(format!("th:{digits}")).chain(others.map(str::to_owned)).collect();
        *state = state_with(state, "ot", &fields.join(";"));
        true
    }
}

/// A priority above zero keeps, zero drops; anything else says nothing.
fn priority(attributes: &[KeyValue], name: &str) -> Option<f64> {
    match get(attributes, name)? {
        Any::IntValue(v) => Some(*v as f64),
        Any::DoubleValue(v) => Some(*v),
        Any::StringValue(text) => text.parse().ok(),
        _ => None,
    }
}

impl Stateless for SamplerConfig {
    fn process(&self, data: &mut Data, now: Nanos) -> Result<(), EvalError> {
        let at = if data.signal() == Signal::Traces { Context::Span } else { Context::Log };
        retain(data, at, now, &mut |scene| {
            Ok(match &mut scene.subject {
                Subject::Span(span) => match priority(&span.attributes, "sampling.priority") {
                    Some(p) if p > 0.0 => true,
                    Some(0.0) => false,
                    _ if span.trace_id.is_empty() => !self.fail_closed,
                    _ => self.keeps(&span.trace_id, Some(&mut span.trace_state), self.percentage),
                },
                Subject::Log(record) => {
                    // Here the priority is the percentage.
                    let given = (!self.priority.is_empty()).then(|| priority(&record.attributes, &self.priority));
                    let percentage = given.flatten().unwrap_or(self.percentage);
                    let named =
                        (!self.from_attribute.is_empty()).then(|| get(&record.attributes, &self.from_attribute));
                    let key = match (self.source, named.flatten()) {
                        (Source::TraceId, _) if !record.trace_id.is_empty() => record.trace_id.clone(),
                        (_, Some(value)) => crate::data::text_of(value).into_bytes(),
                        _ => Vec::new(),
                    };
                    if percentage >= 100.0 {
                        true
                    } else if key.is_empty() {
                        !self.fail_closed
                    } else {
                        self.keeps(&key, None, percentage)
                    }
                }
                _ => true,
            })
        })
    }
}
