//! From numbers per operation to findings: slower by itself, failing, calling differently.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use weir_model::{Nanos, SpanKind, Timestamp};

use crate::finding::{Aspect, Finding, weigh};
use crate::queries;
use crate::span_scan::{BASELINE, NumberStat, OpKey, OpStat, SliceStat, SpanTable, WINDOW};
use crate::stats::{Floor, Point, Shift, Tally, count_shift, shift, trimmed_mean};
use crate::types::{Signal, Thing};

/// Self times move by a tenth without a fault; below half a millisecond nobody feels it.
const TIME_FLOOR: Floor = Floor { relative: 0.1, absolute: 0.1 };
const TIME_EFFECT_MS: f64 = 0.5;
/// Ratios: one in fifty is nothing.
const RATIO_EFFECT: f64 = 0.02;
/// Fewer spans than this say little.
const SPANS_FEW: f64 = 8.0;
/// What a shorter time says compared with a longer one.
const FASTER_SHARE: f64 = 0.5;

impl SpanTable {
    pub(crate) fn slice_start(&self, side: usize, slice: usize) -> Timestamp {
        Nanos(self.slices[side][slice].0).millis()
    }

    pub(crate) fn slice_ms(&self, side: usize) -> i64 {
        self.slices[side].first().map_or(0, |(start, end)| (end - start) / 1_000_000)
    }

    fn series(&self, stat: &OpStat, side: usize, value: impl Fn(&SliceStat) -> Option<f64>) -> Vec<Point> {
        let slices = stat.slices[side].iter().enumerate();
        slices.filter_map(|(k, s)| Some((self.slice_start(side, k), value(s)?))).collect()
    }

    pub(crate) fn count(stat: &OpStat, side: usize) -> u32 {
        stat.slices[side].iter().map(|s| s.count).sum()
    }

    /// Everything that spans show, without regard to who is whose symptom.
    pub fn findings(&self) -> Vec<Finding> {
        let mut out = Vec::new();
        let shifts: Vec<Option<Shift>> = self.ops.iter().map(|(_, stat)| self.self_shift(stat)).collect();
        let added = |op: usize| {
            let shift = shifts[op].as_ref()?;
            Some((shift.during - shift.before).max(0.0) * f64::from(Self::count(&self.ops[op].1, WINDOW)))
        };
        let added_total: f64 = (0..self.ops.len()).filter_map(added).sum();
        for (op, (key, stat)) in self.ops.iter().enumerate() {
            if let Some(shift) = &shifts[op] {
                let share = added(op).unwrap_or(0.0) / added_total.max(f64::MIN_POSITIVE);
                out.extend(self.slower(op as u32, key, stat, shift, share));
            }
            out.extend(self.failing(op as u32, key, stat));
        }
        out.extend(self.calls());
        out.extend(self.silent_callees());
        out
    }

    fn self_shift(&self, stat: &OpStat) -> Option<Shift> {
        let mean = |s: &SliceStat| trimmed_mean(&mut s.self_ms.clone());
        shift(&self.series(stat, BASELINE, mean), &self.series(stat, WINDOW, mean), TIME_FLOOR)
    }

    /// Trust in numbers of few spans.
    fn trust(stat: &OpStat) -> f64 {
        let n = f64::from(Self::count(stat, BASELINE).min(Self::count(stat, WINDOW)));
        (n / SPANS_FEW).min(1.0).sqrt()
    }

    pub(crate) fn finding(&self, key: &OpKey, aspect: Aspect, shift: &Shift, weight: f64, subject: String) -> Finding {
        let service = self.services[key.service as usize].clone();
        Finding {
            instance: self.instance_of(key.service),
            chart: Some(queries::spans(&service, &key.name)),
            service,
            aspect,
            signal: Signal::Spans,
            weight,
            before: shift.before,
            during: shift.during,
            unit: "ms",
            since: shift.since,
            subject,
            thing: Thing::None,
            callee: None,
            work_grew: false,
        }
    }

    fn slower(&self, op: u32, key: &OpKey, stat: &OpStat, shift: &Shift, share: f64) -> Option<Finding> {
        let mut weight = weigh(shift, TIME_EFFECT_MS) * Self::trust(stat);
        weight *= if shift.during > shift.before { 0.4 + 0.6 * share.sqrt() } else { FASTER_SHARE };
        if weight <= 0.0 {
            return None;
        }
        let name = &key.name;
        let remote = matches!(key.kind, SpanKind::Client | SpanKind::Producer);
        let answered = self.unanswered.get(&op).is_some_and(|c| c[WINDOW][1] + c[BASELINE][1] > 0);
        if remote && answered {
            return None; // The time between the two spans is the network's: see `network`.
        }
        if stat.is_database {
            return Some(self.slower_statement(key, stat, shift, weight));
        }
        let subject = format!("self time of `{name}`");
        let mut finding = self.finding(key, Aspect::SelfTime, shift, weight, subject);
        if remote {
            finding.aspect = Aspect::Dependency;
            finding.subject = format!("time of call `{name}`");
            match stat.peer.as_ref().and_then(|peer| self.known_service(peer)).or_else(|| self.service_in(name)) {
                Some(callee) if callee != finding.service => {
                    finding.service = callee;
                    finding.instance = None;
                }
                _ => finding.weight *= 0.8,
            }
        }
        Some(finding)
    }

    fn slower_statement(&self, key: &OpKey, stat: &OpStat, shift: &Shift, weight: f64) -> Finding {
        let statement = stat.statement.clone().unwrap_or_else(|| key.name.clone());
        let mut subject = format!("time of statement `{statement}`");
        let mut weight = weight;
        let mut work_grew = false;
        for (name, [before, during]) in &stat.numbers {
            let mean = |n: &NumberStat| n.sum / f64::from(n.count.max(1));
            let (a, b) = (mean(before), mean(during));
            if before.count > 0 && during.count > 0 && a.max(1.0) * 2.0 < b {
                subject = format!(
                    "`{name}` went from {} to {}; {subject}",
                    crate::finding::short(a),
                    crate::finding::short(b)
                );
                weight *= 1.3;
                work_grew = true;
            }
        }
        let mut finding = self.finding(key, Aspect::Dependency, shift, weight, subject);
        let database = stat.database.as_ref().map(ToString::to_string);
        finding.thing = Thing::Statement { statement: statement.to_string(), database };
        finding.work_grew = work_grew;
        finding
    }

    fn failing(&self, op: u32, key: &OpKey, stat: &OpStat) -> Option<Finding> {
        let tallies = |side: usize| -> Vec<Tally> {
            let slices = stat.slices[side].iter().enumerate();
            slices.map(|(k, s)| (self.slice_start(side, k), s.errors, s.count)).collect()
        };
        let n_during: u32 = stat.slices[WINDOW].iter().map(|s| s.errors).sum();
        let mut base = tallies(BASELINE);
        if base.is_empty() {
            // A new operation that fails is a failure all the same.
            base.push((self.slice_start(BASELINE, 0), 0, 1));
        }
        let shift = count_shift(&base, &tallies(WINDOW))?;
        if shift.during <= shift.before || n_during < 3 {
            return None;
        }
        let weight = weigh(&shift, RATIO_EFFECT) * (f64::from(n_during) / SPANS_FEW).min(1.0);
        if weight <= 0.0 {
            return None;
        }
        let new = stat.failures.iter().filter(|(_, n)| n[WINDOW] > 4 * n[BASELINE]).max_by_key(|(_, n)| n[WINDOW]);
        let why = new.map_or(String::new(), |(why, _)| format!(" ({why})"));
        let mut finding =
            self.finding(key, Aspect::Errors, &shift, weight, format!("share of failed `{}`{why}", key.name));
        finding.before *= 100.0;
        finding.during *= 100.0;
        finding.unit = "%";
        finding.chart = Some(queries::failed_spans(&finding.service, &key.name));
        // Nobody answered: the callee may be down, unless it is a statement, which is the caller's.
        if key.kind == SpanKind::Client && !stat.is_database {
            let silent = self.unanswered.get(&op).is_some_and(|c| c[WINDOW][0] >= n_during);
            let callee = self.answered_by.get(&op).map(|s| self.services[*s as usize].clone());
            if let (true, Some(callee)) = (silent, callee) {
                finding.service = callee;
                finding.instance = None;
                finding.weight *= 0.7;
            }
        }
        if stat.is_database {
            finding.thing = Thing::Statement {
                statement: stat.statement.as_ref().unwrap_or(&key.name).to_string(),
                database: stat.database.as_ref().map(ToString::to_string),
            };
        }
        Some(finding)
    }

    /// Operations whose calls changed in number: the code went another way.
    fn calls(&self) -> Vec<Finding> {
        let mut out = Vec::new();
        for ((parent, child), stat) in &self.children {
            let (key, parent_stat) = &self.ops[*parent as usize];
            let child_key = &self.ops[*child as usize].0;
            let tallies = |side: usize| -> Vec<Tally> {
                let slices = parent_stat.slices[side].iter().enumerate();
                let n = |k: usize| stat.count[side].get(k).copied().unwrap_or(0);
                slices.map(|(k, s)| (self.slice_start(side, k), n(k), s.count)).collect()
            };
            let Some(shift) = count_shift(&tallies(BASELINE), &tallies(WINDOW)) else { continue };
            // One call more or less in all is no change.
            let one = 1.0 / f64::from(Self::count(parent_stat, WINDOW).max(1));
            let weight = weigh(&shift, RATIO_EFFECT.min(one.max(0.002))) * Self::trust(parent_stat);
            if weight <= 0.0 {
                continue;
            }
            let subject = format!("calls of `{}` per `{}`", child_key.name, key.name);
            let mut finding = self.finding(key, Aspect::Structure, &shift, weight, subject);
            finding.unit = "";
            finding.callee = self.answered_by.get(child).map(|s| self.services[*s as usize].clone());
            out.push(finding);
        }
        out
    }

    /// Callees that answered before and no longer do.
    fn silent_callees(&self) -> Vec<Finding> {
        let mut out = Vec::new();
        for (op, [before, during]) in &self.unanswered {
            let Some(callee) = self.answered_by.get(op) else { continue };
            let share = |c: &[u32; 2]| f64::from(c[0]) / f64::from((c[0] + c[1]).max(1));
            let (a, b) = (share(before), share(during));
            let n = during[0] + during[1];
            if before[1] < 5 || n < 5 || b - a < 0.1 {
                continue;
            }
            let (key, _) = &self.ops[*op as usize];
            let messaging = key.kind == SpanKind::Producer;
            let step = Shift { before: a, during: b, z: 10.0 * (b - a), since: self.slice_start(WINDOW, 0) };
            let weight = 2.5 * (b - a) * (f64::from(n) / SPANS_FEW).min(1.0);
            let subject = if messaging {
                format!("share of `{}` that nobody consumed yet", key.name)
            } else {
                format!("share of calls `{}` without an answer", key.name)
            };
            let aspect = if messaging { Aspect::Lag } else { Aspect::Errors };
            let mut finding = self.finding(key, aspect, &step, weight, subject);
            finding.service = self.services[*callee as usize].clone();
            finding.instance = self.instance_of(*callee);
            finding.before *= 100.0;
            finding.during *= 100.0;
            finding.unit = "%";
            out.push(finding);
        }
        out
    }

    /// The instance to blame: the only one, or the one whose time and errors rose most; none when
    /// all are alike.
    pub(crate) fn instance_of(&self, service: u32) -> Option<Arc<str>> {
        let mut rated: Vec<(f64, &Arc<str>)> = self
            .instances
            .iter()
            .filter(|((s, _), stat)| *s == service && stat.spans[WINDOW] > 0)
            .map(|((_, name), stat)| {
                let mean = |v: f64, side: usize| v / f64::from(stat.spans[side].max(1));
                let errors = |side: usize| mean(f64::from(stat.errors[side]), side);
                let ms = |side: usize| mean(stat.self_ms[side], side);
                (errors(WINDOW) - errors(BASELINE) + (ms(WINDOW) + 0.5).ln() - (ms(BASELINE) + 0.5).ln(), name)
            })
            .collect();
        rated.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        match &rated[..] {
            [only] => Some(only.1.clone()),
            [first, second, ..] if first.0 - second.0 > 0.2 => Some(first.1.clone()),
            _ => None,
        }
    }

    pub(crate) fn instance_named(&self, service: &str) -> Option<Arc<str>> {
        let idx = self.services.iter().position(|s| **s == *service)?;
        self.instance_of(idx as u32)
    }

    /// Services with enough spans on both sides to know their self times.
    pub(crate) fn traced_services(&self) -> AHashSet<Arc<str>> {
        let mut counts: AHashMap<u32, [u32; 2]> = AHashMap::new();
        for (key, stat) in &self.ops {
            let count = counts.entry(key.service).or_default();
            [BASELINE, WINDOW].into_iter().for_each(|side| count[side] += Self::count(stat, side));
        }
        let enough = counts.into_iter().filter(|(_, n)| n.iter().all(|n| f64::from(*n) >= SPANS_FEW));
        enough.map(|(service, _)| self.services[service as usize].clone()).collect()
    }

    fn known_service(&self, name: &str) -> Option<Arc<str>> {
        self.services.iter().find(|s| ***s == *name).cloned()
    }

    /// The callee that an operation's name `package.Service/Method` speaks of, as OpenTelemetry
    /// names remote procedure calls.
    fn service_in(&self, op: &str) -> Option<Arc<str>> {
        let (path, _) = op.trim_start_matches('/').rsplit_once('/')?;
        let plain = |s: &str| -> String {
            s.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
        };
        let wanted = plain(path.rsplit('.').next()?);
        (wanted.len() > 2).then(|| self.services.iter().find(|s| plain(s) == wanted).cloned())?
    }
}
