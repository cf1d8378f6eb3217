//! The protobuf format: families one after the other, each behind its length. The one that carries native histograms.
//!
//! Source: prometheus/client_model `io/prometheus/client/metrics.proto`; series are named as the text formats name
//! them.

use weir_model::histogram::ResetHint;
use weir_model::{Exemplar, Labels, MetricKind, Timestamp};

use super::{HistogramLine, Histograms, Item, Place, SampleLine, bound_text};
use crate::DecodeError;
use crate::proto::{Message, Value};
use crate::remote_write::histogram::{Raw, Side, read_span, zigzag};

const FORMAT: &str = "protobuf exposition";

type Take<'t> = dyn FnMut(Item<'_>) -> Result<(), String> + 't;

pub(super) fn each_item(body: &[u8], histograms: Histograms, take: &mut Take<'_>) -> Result<(), String> {
    let mut walk = Walk { histograms, n_metrics: 0, series: String::new(), take };
    let mut rest = Message::new(FORMAT, body);
    while let Some(family) = rest.delimited().map_err(|e| e.to_string())? {
        walk.family(family)?;
    }
    Ok(())
}

struct Walk<'w, 't> {
    histograms: Histograms,
    n_metrics: usize,
    /// The series' text while it is handed on.
    series: String,
    take: &'w mut Take<'t>,
}

#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    unit: &'a str,
    kind: u64,
    metrics: Vec<Message<'a>>,
}

const COUNTER: u64 = 0;
const GAUGE: u64 = 1;
const SUMMARY: u64 = 2;
const UNTYPED: u64 = 3;
const HISTOGRAM: u64 = 4;
const GAUGE_HISTOGRAM: u64 = 5;

impl<'a> Family<'a> {
    fn read(mut message: Message<'a>) -> Result<Self, DecodeError> {
        let mut family = Self::default();
        while let Some((field, value)) = message.field()? {
            match (field, value) {
                (1, Value::Bytes(part)) => family.name = part.utf8("a metric's name")?,
                (2, Value::Bytes(part)) => family.help = part.utf8("a help text")?,
                (3, Value::Varint(kind)) => family.kind = kind,
                (4, Value::Bytes(part)) => family.metrics.push(part),
                (5, Value::Bytes(part)) => family.unit = part.utf8("a unit")?,
                (1..=5, _) => return Err(message.error(format!("field {field} of a family has the wrong wire type"))),
                _ => {}
            }
        }
        if family.name.is_empty() {
            return Err(message.error("a family without a name"));
        }
        if family.kind > GAUGE_HISTOGRAM {
            return Err(message.error(format!("family `{}` has the unknown type {}", family.name, family.kind)));
        }
        Ok(family)
    }
}

/// A metric's labels, time, and the one message that its family's type names.
#[derive(Default)]
struct Metric<'a> {
    labels: Vec<(&'a str, &'a str)>,
    at: Option<Timestamp>,
    inside: Option<Message<'a>>,
}

impl<'a> Metric<'a> {
    fn read(mut message: Message<'a>, kind: u64) -> Result<Self, DecodeError> {
        let wanted = match kind {
            GAUGE => 2,
            COUNTER => 3,
            SUMMARY => 4,
            UNTYPED => 5,
            _ => 7,
        };
        let mut metric = Self::default();
        while let Some((field, value)) = message.field()? {
            match (field, value) {
                (1, Value::Bytes(pair)) => metric.labels.push(label(pair)?),
                // Zero is as good as none: the format cannot tell them apart.
                (6, Value::Varint(ms)) => metric.at = (ms != 0).then_some(Timestamp(ms as i64)),
                (field, Value::Bytes(part)) if field == wanted => metric.inside = Some(part),
                (1..=7, Value::Bytes(_)) => {}
                (1..=7, _) => return Err(message.error(format!("field {field} of a metric has the wrong wire type"))),
                _ => {}
            }
        }
        Ok(metric)
    }
}

fn label(mut message: Message<'_>) -> Result<(&str, &str), DecodeError> {
    let (mut name, mut text) = ("", "");
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Bytes(part)) => name = part.utf8("a label's name")?,
            (2, Value::Bytes(part)) => text = part.utf8("a label's value")?,
            _ => {}
        }
    }
    Ok((name, text))
}

impl Walk<'_, '_> {
    fn family(&mut self, message: Message<'_>) -> Result<(), String> {
        let family = Family::read(message).map_err(|e| e.to_string())?;
        let kind = match family.kind {
            COUNTER => MetricKind::Counter,
            GAUGE => MetricKind::Gauge,
            SUMMARY => MetricKind::Summary,
            HISTOGRAM => MetricKind::Histogram,
            GAUGE_HISTOGRAM => MetricKind::GaugeHistogram,
            _ => MetricKind::Unknown,
        };
        (self.take)(Item::Help { family: family.name, text: family.help.into() })?;
        (self.take)(Item::Kind { family: family.name, kind })?;
        if !family.unit.is_empty() {
            (self.take)(Item::Unit { family: family.name, unit: family.unit })?;
        }
        for message in &family.metrics {
            self.n_metrics += 1;
            let metric = Metric::read(*message, family.kind).map_err(|e| e.to_string())?;
            match family.kind {
                SUMMARY => self.summary(family.name, &metric)?,
                HISTOGRAM | GAUGE_HISTOGRAM => self.histogram(&family, &metric)?,
                _ => {
                    let (value, exemplar) = simple(metric.inside).map_err(|e| e.to_string())?;
                    self.sample(family.name, "", &metric, None, (value, exemplar))?;
                }
            }
        }
        Ok(())
    }

    fn sample(
        &mut self,
        name: &str,
        suffix: &str,
        metric: &Metric<'_>,
        extra: Option<(&str, f64)>,
        (value, exemplar): (f64, Option<Exemplar>),
    ) -> Result<(), String> {
        write_series(&mut self.series, name, suffix, &metric.labels, extra);
        let place = Place::Metric(self.n_metrics);
        (self.take)(Item::Sample(SampleLine { place, series: &self.series, value, at: metric.at, exemplar }))
    }

    fn summary(&mut self, name: &str, metric: &Metric<'_>) -> Result<(), String> {
        let (mut count, mut sum, mut quantiles) = (0, 0.0, Vec::new());
        let mut read = || -> Result<(), DecodeError> {
            let Some(mut message) = metric.inside else { return Ok(()) };
            while let Some((field, value)) = message.field()? {
                match (field, value) {
                    (1, Value::Varint(n)) => count = n,
                    (2, Value::Fixed64(bits)) => sum = f64::from_bits(bits),
                    (3, Value::Bytes(part)) => quantiles.push(two_doubles(part)?),
                    _ => {}
                }
            }
            Ok(())
        };
        read().map_err(|e| e.to_string())?;
        self.sample(name, "_count", metric, None, (count as f64, None))?;
        self.sample(name, "_sum", metric, None, (sum, None))?;
        for (quantile, value) in quantiles {
            self.sample(name, "", metric, Some(("quantile", quantile)), (value, None))?;
        }
        Ok(())
    }

    fn histogram(&mut self, family: &Family<'_>, metric: &Metric<'_>) -> Result<(), String> {
        let read = metric.inside.map_or(Ok(ReadHistogram::default()), ReadHistogram::read);
        let mut found = read.map_err(|e| e.to_string())?;
        if !(self.histograms.native && found.is_native()) {
            return self.classic(family.name, metric, (found.count(), found.raw.sum), found.buckets);
        }
        if family.kind == GAUGE_HISTOGRAM {
            found.raw.hint = u64::from(ResetHint::Gauge.number());
        }
        let with_classic = self.histograms.classic_beside && !found.buckets.is_empty();
        // Those of the buckets stand for a histogram that has none of its own.
        let own = std::mem::take(&mut found.exemplars);
        let of_buckets = || found.buckets.iter().filter_map(|b| b.exemplar.clone()).collect();
        let exemplars: Vec<Exemplar> = if own.is_empty() { of_buckets() } else { own };
        let timed = exemplars.into_iter().filter(|e| e.at != Timestamp(0)).collect();
        let (count, sum) = (found.count(), found.raw.sum);
        write_series(&mut self.series, family.name, "", &metric.labels, None);
        let series = &self.series;
        let sample = found.raw.checked().map_err(|reason| format!("{series}: {reason}"))?;
        let place = Place::Metric(self.n_metrics);
        (self.take)(Item::Histogram(HistogramLine {
            place,
            series,
            histogram: sample.histogram,
            at: metric.at,
            exemplars: timed,
        }))?;
        if with_classic { self.classic(family.name, metric, (count, sum), found.buckets) } else { Ok(()) }
    }

    fn classic(
        &mut self,
        name: &str,
        metric: &Metric<'_>,
        (count, sum): (f64, f64),
        buckets: Vec<ClassicBucket>,
    ) -> Result<(), String> {
        self.sample(name, "_count", metric, None, (count, None))?;
        self.sample(name, "_sum", metric, None, (sum, None))?;
        let has_last = buckets.last().is_some_and(|b| b.bound == f64::INFINITY);
        for bucket in buckets {
            let value = either(bucket.count_float, bucket.count);
            self.sample(name, "_bucket", metric, Some(("le", bucket.bound)), (value, bucket.exemplar))?;
        }
        if has_last {
            return Ok(());
        }
        self.sample(name, "_bucket", metric, Some(("le", f64::INFINITY)), (count, None))
    }
}

/// Counts are floats when there is one, else integers.
fn either(float: f64, int: u64) -> f64 {
    if float > 0.0 { float } else { int as f64 }
}

/// Value and exemplar of a counter, a gauge or an untyped metric.
fn simple(message: Option<Message<'_>>) -> Result<(f64, Option<Exemplar>), DecodeError> {
    let (mut number, mut found) = (0.0, None);
    let Some(mut message) = message else { return Ok((number, found)) };
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Fixed64(bits)) => number = f64::from_bits(bits),
            (2, Value::Bytes(part)) => found = Some(exemplar(part)?),
            _ => {}
        }
    }
    Ok((number, found))
}

fn two_doubles(mut message: Message<'_>) -> Result<(f64, f64), DecodeError> {
    let mut both = (0.0, 0.0);
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Fixed64(bits)) => both.0 = f64::from_bits(bits),
            (2, Value::Fixed64(bits)) => both.1 = f64::from_bits(bits),
            _ => {}
        }
    }
    Ok(both)
}

/// Without a time of its own, its time is 0.
fn exemplar(mut message: Message<'_>) -> Result<Exemplar, DecodeError> {
    let (mut pairs, mut number, mut at) = (Vec::new(), 0.0, Timestamp(0));
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Bytes(pair)) => pairs.push(label(pair)?),
            (2, Value::Fixed64(bits)) => number = f64::from_bits(bits),
            (3, Value::Bytes(time)) => at = timestamp(time)?,
            _ => {}
        }
    }
    Ok(Exemplar { labels: Labels::from_pairs(pairs), at, value: number })
}

/// `google.protobuf.Timestamp`.
fn timestamp(mut message: Message<'_>) -> Result<Timestamp, DecodeError> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Varint(n)) => seconds = n as i64,
            (2, Value::Varint(n)) => nanos = n as i64,
            _ => {}
        }
    }
    Ok(Timestamp(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)))
}

struct ClassicBucket {
    count: u64,
    count_float: f64,
    bound: f64,
    exemplar: Option<Exemplar>,
}

impl ClassicBucket {
    fn read(mut message: Message<'_>) -> Result<Self, DecodeError> {
        let mut bucket = Self { count: 0, count_float: 0.0, bound: 0.0, exemplar: None };
        while let Some((field, value)) = message.field()? {
            match (field, value) {
                (1, Value::Varint(n)) => bucket.count = n,
                (2, Value::Fixed64(bits)) => bucket.bound = f64::from_bits(bits),
                (3, Value::Bytes(part)) => bucket.exemplar = Some(exemplar(part)?),
                (4, Value::Fixed64(bits)) => bucket.count_float = f64::from_bits(bits),
                _ => {}
            }
        }
        Ok(bucket)
    }
}

#[derive(Default)]
struct ReadHistogram {
    buckets: Vec<ClassicBucket>,
    raw: Raw,
    exemplars: Vec<Exemplar>,
}

impl ReadHistogram {
    fn read(mut message: Message<'_>) -> Result<Self, DecodeError> {
        let mut found = Self::default();
        let raw = &mut found.raw;
        while let Some((field, value)) = message.field()? {
            match (field, value) {
                (1, Value::Varint(n)) => raw.count_int = n,
                (2, Value::Fixed64(bits)) => raw.sum = f64::from_bits(bits),
                (3, Value::Bytes(part)) => found.buckets.push(ClassicBucket::read(part)?),
                (4, Value::Fixed64(bits)) => raw.count_float = f64::from_bits(bits),
                (5, Value::Varint(n)) => raw.schema = zigzag(n) as i32,
                (6, Value::Fixed64(bits)) => raw.zero_threshold = f64::from_bits(bits),
                (7, Value::Varint(n)) => raw.zero_int = n,
                (8, Value::Fixed64(bits)) => raw.zero_float = f64::from_bits(bits),
                (9..=11, value) => side(&mut raw.negative, field - 9, value)?,
                (12..=14, value) => side(&mut raw.positive, field - 12, value)?,
                (16, Value::Bytes(part)) => found.exemplars.push(exemplar(part)?),
                _ => {}
            }
        }
        raw.is_float = raw.count_float > 0.0 || raw.zero_float > 0.0;
        Ok(found)
    }

    fn count(&self) -> f64 {
        either(self.raw.count_float, self.raw.count_int)
    }

    /// A client marks an empty native histogram by a span of no buckets.
    fn is_native(&self) -> bool {
        let Raw { positive, negative, zero_threshold, zero_int, .. } = &self.raw;
        !positive.spans.is_empty() || !negative.spans.is_empty() || *zero_threshold > 0.0 || *zero_int > 0
    }
}

/// Spans, differences of integer counts, float counts; the latter two packed or one by one.
fn side(side: &mut Side, which: u64, value: Value<'_>) -> Result<(), DecodeError> {
    match (which, value) {
        (0, Value::Bytes(part)) => side.spans.push(read_span(part)?),
        (1, Value::Bytes(part)) => side.deltas.extend(part.packed_varints()?.into_iter().map(zigzag)),
        (1, Value::Varint(n)) => side.deltas.push(zigzag(n)),
        (2, Value::Bytes(part)) => side.counts.extend(part.packed_doubles()?),
        (2, Value::Fixed64(bits)) => side.counts.push(f64::from_bits(bits)),
        _ => {}
    }
    Ok(())
}

/// The series as the text format would write it.
fn write_series(out: &mut String, name: &str, suffix: &str, labels: &[(&str, &str)], extra: Option<(&str, f64)>) {
    out.clear();
    let is_plain = |text: &str, with_colon: bool| {
        !text.is_empty()
            && !text.as_bytes()[0].is_ascii_digit()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || (with_colon && b == b':'))
    };
    let mut is_first = true;
    if is_plain(name, true) {
        out.extend([name, suffix, "{"]);
    } else {
        out.push('{');
        push_quoted(out, &format!("{name}{suffix}"));
        is_first = false;
    }
    let bound = extra.map(|(name, bound)| (name, bound_text(bound)));
    let extra = bound.iter().map(|(name, text)| (*name, text.as_str()));
    for (name, value) in labels.iter().copied().chain(extra) {
        if !is_first {
            out.push(',');
        }
        is_first = false;
        if is_plain(name, false) {
            out.push_str(name);
        } else {
            push_quoted(out, name);
        }
        out.push('=');
        push_quoted(out, value);
    }
    out.push('}');
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::write;
    use proptest::prelude::*;
    use weir_model::histogram::Counts;

    fn message(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        fill(&mut out);
        out
    }

    fn pair(name: &str, value: &str) -> Vec<u8> {
        message(|out| {
            write::bytes(out, 1, name.as_bytes());
            write::bytes(out, 2, value.as_bytes());
        })
    }

    fn zig(n: i64) -> u64 {
        ((n << 1) ^ (n >> 63)) as u64
    }

    fn family(name: &str, kind: u64, metrics: &[Vec<u8>]) -> Vec<u8> {
        let body = message(|out| {
            write::bytes(out, 1, name.as_bytes());
            write::bytes(out, 2, b"Help.");
            write::int(out, 3, kind);
            metrics.iter().for_each(|m| write::bytes(out, 4, m));
        });
        message(|out| {
            write::varint(out, body.len() as u64);
            out.extend(&body);
        })
    }

    fn value(v: f64) -> Vec<u8> {
        message(|out| write::double(out, 1, v))
    }

    fn exemplar_of(trace: &str, seconds: u64) -> Vec<u8> {
        message(|out| {
            write::bytes(out, 1, &pair("trace_id", trace));
            write::double(out, 2, 0.25);
            if seconds > 0 {
                write::bytes(out, 3, &message(|out| write::int(out, 1, seconds)));
            }
        })
    }

    fn bucket(count: u64, bound: f64, exemplar: Option<Vec<u8>>) -> Vec<u8> {
        message(|out| {
            write::int(out, 1, count);
            write::double(out, 2, bound);
            exemplar.iter().for_each(|e| write::bytes(out, 3, e));
        })
    }

    /// Classic buckets, and if asked one span of two native buckets.
    fn histogram(is_native: bool) -> Vec<u8> {
        let inside = message(|out| {
            write::int(out, 1, 5);
            write::double(out, 2, 7.5);
            write::bytes(out, 3, &bucket(2, 0.5, Some(exemplar_of("a", 0))));
            write::bytes(out, 3, &bucket(4, 1.0, Some(exemplar_of("b", 9))));
            if is_native {
                write::int(out, 5, zig(3));
                write::double(out, 6, 1e-128);
                write::int(out, 7, 1);
                let span = message(|out| {
                    write::int(out, 1, zig(-2));
                    write::int(out, 2, 2);
                });
                write::bytes(out, 12, &span);
                write::bytes(out, 13, &message(|out| [1, 2].iter().for_each(|d| write::varint(out, zig(*d)))));
            }
        });
        message(|out| {
            write::bytes(out, 1, &pair("code", "a\"b"));
            write::bytes(out, 7, &inside);
        })
    }

    fn run(body: &[u8], histograms: Histograms) -> Vec<String> {
        let mut out = Vec::new();
        let ended = each_item(body, histograms, &mut |item| {
            out.push(match item {
                Item::Sample(s) => {
                    let exemplar = s.exemplar.map_or(String::new(), |e| format!(" # {} @{}", e.labels, e.at.0));
                    let at = s.at.map_or(String::new(), |t| format!(" @{}", t.0));
                    format!("{} {}{at}{exemplar}", s.series, s.value)
                }
                Item::Histogram(h) => {
                    let Counts::Integer(counts) = &h.histogram.counts else { panic!("integers were sent") };
                    let exemplars: Vec<i64> = h.exemplars.iter().map(|e| e.at.0).collect();
                    format!("{} schema {} {counts:?} {exemplars:?}", h.series, h.histogram.schema)
                }
                Item::Kind { family, kind } => format!("{family} {kind:?}"),
                Item::Help { text, .. } => text.into_owned(),
                Item::Unit { unit, .. } => unit.to_owned(),
            });
            Ok(())
        });
        out.extend(ended.err().map(|e| format!("error {e}")));
        out
    }

    #[test]
    fn simple_families_are_named_as_in_text() {
        let counter = message(|out| {
            write::bytes(out, 1, &pair("my.label", "x"));
            let inside = message(|out| {
                write::double(out, 1, 3.0);
                write::bytes(out, 2, &exemplar_of("c", 2));
            });
            write::bytes(out, 3, &inside);
            write::int(out, 6, 1_700_000_000_000);
        });
        let gauge = message(|out| write::bytes(out, 2, &value(-0.5)));
        let quantile = message(|out| {
            write::double(out, 1, 0.99);
            write::double(out, 2, 12.0);
        });
        let summary = message(|out| {
            let inside = message(|out| {
                write::int(out, 1, 4);
                write::double(out, 2, 9.0);
                write::bytes(out, 3, &quantile);
            });
            write::bytes(out, 4, &inside);
        });
        let body =
            [family("a_total", 0, &[counter]), family("my.gauge", 1, &[gauge]), family("s", 2, &[summary])].concat();
        assert_eq!(
            run(&body, Histograms::default()),
            [
                "Help.",
                "a_total Counter",
                "a_total{\"my.label\"=\"x\"} 3 @1700000000000 # {trace_id=\"c\"} @2000",
                "Help.",
                "my.gauge Gauge",
                "{\"my.gauge\"} -0.5",
                "Help.",
                "s Summary",
                "s_count{} 4",
                "s_sum{} 9",
                "s{quantile=\"0.99\"} 12",
            ]
        );
    }

    #[test]
    fn histograms_are_classic_native_or_both() {
        let classic = [
            "h_count{code=\"a\\\"b\"} 5",
            "h_sum{code=\"a\\\"b\"} 7.5",
            "h_bucket{code=\"a\\\"b\",le=\"0.5\"} 2 # {trace_id=\"a\"} @0",
            "h_bucket{code=\"a\\\"b\",le=\"1.0\"} 4 # {trace_id=\"b\"} @9000",
            "h_bucket{code=\"a\\\"b\",le=\"+Inf\"} 5",
        ];
        let native =
            "h{code=\"a\\\"b\"} schema 3 BucketCounts { count: 5, zero: 1, positive: [1, 3], negative: [] } [9000]";
        let items = |is_native, histograms| run(&family("h", 4, &[histogram(is_native)]), histograms)[2..].to_vec();
        let (only, both) =
            (Histograms { native: true, classic_beside: false }, Histograms { native: true, classic_beside: true });
        assert_eq!(items(true, Histograms::default()), classic);
        assert_eq!(items(false, both), classic);
        assert_eq!(items(true, only), [native]);
        assert_eq!(items(true, both)[0], native);
        assert_eq!(items(true, both)[1..], classic);
    }

    #[test]
    fn faults_are_told() {
        let check = |body: &[u8], want: &str| {
            let got = run(body, Histograms { native: true, classic_beside: false });
            assert!(got.last().is_some_and(|last| last.starts_with("error ") && last.contains(want)), "{got:?}");
        };
        check(&[9, 1], "a field of 9 bytes, but only 1 are left");
        check(&family("", 0, &[]), "a family without a name");
        check(&family("x", 9, &[]), "family `x` has the unknown type 9");
        let inside = message(|out| {
            write::int(out, 1, 5);
            write::bytes(out, 12, &message(|out| write::int(out, 2, 3)));
        });
        let metric = message(|out| write::bytes(out, 7, &inside));
        check(&family("h", 4, &[metric]), "spans need 3 buckets, have 0");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200), flip in any::<prop::sample::Index>(), by in any::<u8>()) {
            let histograms = Histograms { native: true, classic_beside: true };
            run(&body, Histograms::default());
            let mut sound = family("h", 4, &[histogram(true)]);
            let at = flip.index(sound.len());
            sound[at] ^= by;
            let _ = each_item(&sound, histograms, &mut |_| Ok(()));
        }
    }
}
