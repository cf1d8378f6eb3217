//! Thinning out lines of chatty services, so that counts stay true.
//!
//! Whether a line stays is drawn from its trace id, so that of one trace all lines stay or, level by level, all go: who
//! is kept at 1 % is kept at 10 % too. A line without a trace id draws for itself. What is left out is counted, and the
//! next line of that stream and level that stays carries the count as its weight: the weights of a stream and level add
//! up to the lines that came, whatever was drawn, and since the draw does not look at the text, they are right on
//! average for any selection by text.

mod config;

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;
use weir_model::log::SAMPLING_WEIGHT;
use weir_model::sink::StreamBatch;
use weir_model::{EntityRefs, Labels, LogEntry, TenantId, Timestamp};

use config::SamplingRule;
pub use config::{SamplingConfig, SamplingError};

/// Services whose rate is measured; those beyond are not thinned out.
const SERVICES_MAX: usize = 100_000;
/// Streams and levels with lines that nothing stands for yet; lines of more are kept.
const OWED_MAX: usize = 200_000;

/// Lines of a second, by which the next one is judged.
#[derive(Clone, Copy, Default)]
struct Meter {
    second: i64,
    lines: u64,
    before: u64,
}

impl Meter {
    /// Counts lines; whether the service is above the rate, in this second or the one before.
    fn add(&mut self, lines: u64, now: Timestamp, above: f64) -> bool {
        let second = now.0.div_euclid(1000);
        if second != self.second {
            self.before = if second == self.second + 1 { self.lines } else { 0 };
            (self.second, self.lines) = (second, 0);
        }
        self.lines += lines;
        self.lines as f64 > above || self.before as f64 > above
    }
}

type Service = (TenantId, Arc<str>, Arc<str>);
type Owed = (TenantId, Labels, Arc<str>);

#[derive(Default)]
struct State {
    meters: AHashMap<Service, Meter>,
    /// Lines left out that no line stands for yet.
    owed: AHashMap<Owed, u64>,
}

/// Decides for each line whether it is stored.
pub struct LogSampler {
    config: SamplingConfig,
    state: Mutex<State>,
    name: Arc<str>,
}

/// What one request changed, to be settled once it is known whether it was stored.
#[derive(Default)]
pub(crate) struct Sampled {
    /// Taken from what was owed, and left owing.
    taken: Vec<(Owed, u64)>,
    left: Vec<(Owed, u64)>,
    pub dropped: u64,
}

impl Sampled {
    /// Whether entries differ from those that came.
    pub fn changed(&self) -> bool {
        self.dropped > 0 || !self.taken.is_empty()
    }
}

impl LogSampler {
    pub fn new(config: SamplingConfig) -> Self {
        Self { config, state: Mutex::default(), name: SAMPLING_WEIGHT.into() }
    }

    /// Takes out what is not kept. `refs` says whose stream it is.
    pub(crate) fn apply(
        &self,
        tenant: &TenantId,
        streams: &mut Vec<StreamBatch>,
        now: Timestamp,
        mut refs: impl FnMut(&StreamBatch) -> Arc<EntityRefs>,
    ) -> Sampled {
        let mut sampled = Sampled::default();
        let mut state = self.state.lock();
        for stream in streams.iter_mut() {
            let refs = refs(stream);
            let of = |name: &Option<Arc<str>>| name.clone().unwrap_or_default();
            let (namespace, service) = (of(&refs.namespace), of(&refs.emitter));
            let Some(rule) = self.config.rules.iter().find(|rule| rule.is_for(tenant, &namespace, &service)) else {
                continue;
            };
            let key = (tenant.clone(), namespace, service);
            let has_room = state.meters.len() < SERVICES_MAX || state.meters.contains_key(&key);
            let lines = stream.entries.len() as u64;
            let above = rule.above_lines_per_second;
            let is_above = has_room && state.meters.entry(key).or_default().add(lines, now, above);
            if is_above || !state.owed.is_empty() {
                self.thin(tenant, stream, rule, is_above, &mut state, &mut sampled);
            }
        }
        streams.retain(|stream| !stream.entries.is_empty());
        sampled
    }

    fn thin(
        &self,
        tenant: &TenantId,
        stream: &mut StreamBatch,
        rule: &SamplingRule,
        is_above: bool,
        state: &mut State,
        sampled: &mut Sampled,
    ) {
        // Few levels, and few words for them.
        let mut owed: Vec<(Arc<str>, u64)> = Vec::new();
        let labels = stream.labels.clone();
        let is_full = state.owed.len() >= OWED_MAX;
        stream.entries.retain_mut(|entry| {
            let level = entry.metadata.iter().find(|(name, _)| &**name == "detected_level").map(|(_, v)| v.clone());
            let Some(level) = level else { return true };
            let share = rule.share(&level);
            let idx = owed.iter().position(|(known, _)| *known == level).unwrap_or_else(|| {
                let key = (tenant.clone(), labels.clone(), level.clone());
                let before = state.owed.remove(&key).unwrap_or(0);
                if before > 0 {
                    sampled.taken.push((key, before));
                }
                owed.push((level.clone(), before));
                owed.len() - 1
            });
            let owed = &mut owed[idx].1;
            if is_above && !is_full && share < 1.0 && draw(entry) >= share {
                *owed += 1;
                sampled.dropped += 1;
                return false;
            }
            if *owed > 0 {
                weigh(entry, &self.name, *owed + 1);
                *owed = 0;
            }
            true
        });
        for (level, n) in owed.into_iter().filter(|(_, n)| *n > 0) {
            let key = (tenant.clone(), labels.clone(), level);
            // At once, so that another request does not start from nothing.
            *state.owed.entry(key.clone()).or_default() += n;
            sampled.left.push((key, n));
        }
    }

    /// Nothing of the request was stored, and the sender will send it again: what it changed is undone.
    pub(crate) fn undo(&self, sampled: Sampled) {
        let mut state = self.state.lock();
        for (key, n) in sampled.left {
            let Some(owed) = state.owed.get_mut(&key) else { continue };
            *owed = owed.saturating_sub(n);
            if *owed == 0 {
                state.owed.remove(&key);
            }
        }
        for (key, n) in sampled.taken {
            *state.owed.entry(key).or_default() += n;
        }
    }
}

fn weigh(entry: &mut LogEntry, name: &Arc<str>, weight: u64) {
    let at = entry.metadata.partition_point(|(known, _)| **known < **name);
    if entry.metadata.get(at).is_some_and(|(known, _)| known == name) {
        entry.metadata.remove(at);
    }
    entry.metadata.insert(at, (name.clone(), weight.to_string().into()));
}

/// A number from 0 up to 1, the same for all lines of a trace, wherever and whenever they are seen.
fn draw(entry: &LogEntry) -> f64 {
    let hash = match entry.metadata("trace_id") {
        Some(trace) => fnv(0xcbf2_9ce4_8422_2325, trace.as_bytes()),
        None => fnv(fnv(0xcbf2_9ce4_8422_2325, &entry.at.0.to_le_bytes()), entry.line.as_bytes()),
    };
    // FNV's high bits are weak for short texts; two rounds of mixing spread them (splitmix64).
    let mut mixed = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use weir_model::Nanos;

    use super::*;

    const TENANT: fn() -> TenantId = TenantId::anonymous;

    fn sampler(rule: &str) -> LogSampler {
        LogSampler::new(SamplingConfig::parse(&format!("rules:\n- {rule}")).unwrap())
    }

    fn line(n: i64, level: &str, trace: Option<i64>) -> LogEntry {
        let mut metadata = vec![("detected_level".into(), level.into())];
        metadata.extend(trace.map(|t| ("trace_id".into(), format!("{t:032x}").into())));
        LogEntry { at: Nanos(n), line: format!("{level} line {n}").into(), metadata }
    }

    fn batch(entries: Vec<LogEntry>) -> Vec<StreamBatch> {
        vec![StreamBatch { labels: Labels::from_pairs([("service_name", "web")]), entries }]
    }

    fn apply(sampler: &LogSampler, entries: Vec<LogEntry>, second: i64) -> (Vec<LogEntry>, Sampled) {
        let mut streams = batch(entries);
        let refs = Arc::new(EntityRefs { emitter: Some("web".into()), ..EntityRefs::default() });
        let sampled = sampler.apply(&TENANT(), &mut streams, Timestamp(second * 1000), |_| refs.clone());
        (streams.pop().map(|s| s.entries).unwrap_or_default(), sampled)
    }

    fn weight(entry: &LogEntry) -> u64 {
        entry.sampling_weight() as u64
    }

    fn owed(sampler: &LogSampler) -> u64 {
        sampler.state.lock().owed.values().sum()
    }

    #[test]
    fn weights_add_up_to_what_came_and_warnings_stay() {
        let sampler = sampler("above_lines_per_second: 100");
        let (mut came, mut kept) = (AHashMap::<String, u64>::new(), AHashMap::<String, (u64, u64)>::new());
        for second in 0..40 {
            let of = |n: i64| line(second * 1_000_000 + n, ["debug", "info", "info", "warn"][n as usize % 4], None);
            let entries: Vec<LogEntry> = (0..1000).map(of).collect();
            entries
                .iter()
                .for_each(|e| *came.entry(e.metadata("detected_level").unwrap().to_owned()).or_default() += 1);
            for entry in apply(&sampler, entries, second).0 {
                let counts = kept.entry(entry.metadata("detected_level").unwrap().to_owned()).or_default();
                *counts = (counts.0 + 1, counts.1 + weight(&entry));
            }
        }
        assert_eq!(kept["warn"], (10_000, 10_000));
        let info = kept["info"].0;
        assert!((1_700..2_300).contains(&info), "{info} of 20,000 at 10 %");
        assert!((60..150).contains(&kept["debug"].0), "{} of 10,000 at 1 %", kept["debug"].0);
        let stood_for: u64 = kept.values().map(|(_, weight)| weight).sum();
        assert_eq!(stood_for + owed(&sampler), came.values().sum::<u64>());
    }

    #[test]
    fn up_to_the_rate_all_is_kept_and_the_next_line_stands_for_what_went() {
        let sampler = sampler("{above_lines_per_second: 100, keep: {debug: 0.0001}}");
        assert_eq!(apply(&sampler, (0..100).map(|n| line(n, "debug", None)).collect(), 1).0.len(), 100);
        let (kept, sampled) = apply(&sampler, (0..500).map(|n| line(1000 + n, "debug", None)).collect(), 2);
        assert_eq!(
            (kept.len() as u64 + sampled.dropped, owed(&sampler)),
            (500, sampled.dropped - kept.iter().map(|k| weight(k) - 1).sum::<u64>())
        );
        // Calm again, two seconds later: one line, which carries the rest.
        let before = owed(&sampler);
        let (kept, _) = apply(&sampler, vec![line(9000, "debug", None)], 4);
        assert_eq!((weight(&kept[0]), owed(&sampler)), (before + 1, 0));
    }

    #[test]
    fn a_trace_stays_as_a_whole() {
        let sampler = sampler("{above_lines_per_second: 0, keep: {debug: 0.2, info: 0.5}}");
        let mut lines = Vec::new();
        for trace in 0..200 {
            for (n, level) in ["debug", "info", "debug"].into_iter().enumerate() {
                lines.push(line(trace * 10 + n as i64, level, Some(trace)));
            }
        }
        let (kept, _) = apply(&sampler, lines, 1);
        let mut by_trace: AHashMap<String, Vec<String>> = AHashMap::new();
        for entry in &kept {
            let level = entry.metadata("detected_level").unwrap().to_owned();
            by_trace.entry(entry.metadata("trace_id").unwrap().to_owned()).or_default().push(level);
        }
        for (trace, levels) in &by_trace {
            assert!(levels == &["debug", "info", "debug"] || levels == &["info"], "{trace}: {levels:?}");
        }
        assert!((70..130).contains(&by_trace.len()), "{} of 200 at 50 %", by_trace.len());
    }

    #[test]
    fn what_was_not_stored_is_counted_once_when_it_comes_again() {
        let sampler = sampler("above_lines_per_second: 0");
        let entries = |from: i64| (from..from + 300).map(|n| line(n, "info", None)).collect::<Vec<_>>();
        let (kept, first) = apply(&sampler, entries(0), 1);
        let left = owed(&sampler);
        assert_eq!(kept.iter().map(weight).sum::<u64>() + left, 300);
        drop(first);
        let (_, failed) = apply(&sampler, entries(300), 1);
        sampler.undo(failed);
        assert_eq!(owed(&sampler), left);
    }

    #[test]
    fn lines_whose_weight_was_sent_along_are_weighed_anew() {
        let mut entry = line(1, "info", None);
        let name: Arc<str> = SAMPLING_WEIGHT.into();
        weigh(&mut entry, &name, 7);
        weigh(&mut entry, &name, 9);
        assert_eq!((weight(&entry), entry.metadata.len()), (9, 2));
        assert!(entry.metadata.is_sorted());
    }
}
