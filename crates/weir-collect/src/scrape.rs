//! What an answer of a target becomes: series with its labels, report series, stale markers. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use weir_ingest::exposition::{Format, Item, Place, SampleLine, bound_text, each_item, series_pairs};
use weir_model::histogram::SCHEMA_MIN;
use weir_model::labels::METRIC_NAME;
use weir_model::sink::{MetricBatch, SeriesBatch};
use weir_model::{
    Exemplar, Histogram, HistogramSample, Labels, LabelsBuilder, MetricKind, MetricMetadata, Sample, Timestamp,
};

use crate::config::ScrapeConfig;
use crate::relabel::relabel;

/// Texts remembered per target; past it the memory starts afresh.
const TEXTS_MAX: usize = 500_000;

/// One target's memory between scrapes.
///
/// Invariant: `alive` holds the series whose last sample is not a stale marker.
#[derive(Default)]
pub struct Scraped {
    /// From the series' text to its labels; `None` when relabelling dropped it.
    texts: HashMap<String, Option<Labels>, ahash::RandomState>,
    /// With the number of the scrape that gave it last.
    alive: HashMap<Labels, u64, ahash::RandomState>,
    metadata: BTreeMap<String, MetricMetadata>,
    n_scrapes: u64,
}

/// What a target answered.
pub enum Answer<'a> {
    Body { bytes: &'a [u8], format: Format },
    Failed,
}

/// Counts of one scrape, for the report series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub scraped: usize,
    pub after_relabelling: usize,
    pub added: usize,
}

impl Scraped {
    /// Metadata by family, as the last scrapes gave it.
    pub fn metadata(&self) -> &BTreeMap<String, MetricMetadata> {
        &self.metadata
    }

    /// The batch of one scrape at `at`, report series included. A body that cannot be read counts as
    /// failed as a whole: the second value says why.
    pub fn scrape(
        &mut self,
        config: &ScrapeConfig,
        target: &Labels,
        answer: &Answer<'_>,
        at: Timestamp,
        took: Duration,
    ) -> (MetricBatch, Option<String>) {
        self.n_scrapes += 1;
        let (mut batch, mut counts, mut error) = (MetricBatch::default(), Counts::default(), None);
        let is_up = match answer {
            Answer::Failed => false,
            Answer::Body { bytes, format } => match self.read(config, target, bytes, *format, at) {
                Ok((read, n)) => {
                    (batch, counts) = (read, n);
                    true
                }
                Err(text) => {
                    error = Some(text);
                    // Nothing of a bad body is stored; what it touched is not alive through it.
                    let n = self.n_scrapes;
                    self.alive.values_mut().filter(|seen| **seen == n).for_each(|seen| *seen = n - 1);
                    false
                }
            },
        };
        self.bury(&mut batch, at);
        report(&mut batch, target, is_up, counts, at, took);
        if config.extra_metrics {
            let size = if let Answer::Body { bytes, .. } = answer { bytes.len() } else { 0 };
            let values = [config.scrape_timeout.as_secs_f64(), config.limits.sample_limit as f64, size as f64];
            for (name, value) in EXTRA_NAMES.iter().zip(values) {
                batch.series.push(one_sample(target.with(METRIC_NAME, name), Sample { at, value }));
            }
        }
        (batch, error)
    }

    /// Ends every series of a target that is gone, its report series included.
    pub fn end(&mut self, config: &ScrapeConfig, target: &Labels, at: Timestamp) -> MetricBatch {
        self.n_scrapes += 1;
        let mut batch = MetricBatch::default();
        self.bury(&mut batch, at);
        let extra: &[&str] = if config.extra_metrics { &EXTRA_NAMES } else { &[] };
        for name in REPORT_NAMES.iter().chain(extra) {
            batch.series.push(one_sample(target.with(METRIC_NAME, name), Sample::stale(at)));
        }
        batch
    }

    fn bury(&mut self, batch: &mut MetricBatch, at: Timestamp) {
        let current = self.n_scrapes;
        self.alive.retain(|labels, seen| {
            if *seen != current {
                batch.series.push(one_sample(labels.clone(), Sample::stale(at)));
            }
            *seen == current
        });
    }

    fn read(
        &mut self,
        config: &ScrapeConfig,
        target: &Labels,
        body: &[u8],
        format: Format,
        at: Timestamp,
    ) -> Result<(MetricBatch, Counts), String> {
        let (mut batch, mut counts) = (MetricBatch::default(), Counts::default());
        // A series that stands twice in one body is one series with its first sample.
        let mut families: BTreeMap<String, MetricMetadata> = BTreeMap::new();
        let mut kind = MetricKind::Unknown;
        each_item(body, format, config.histograms, &mut |item| {
            let (place, series, point) = match item {
                Item::Kind { family, kind: now } => {
                    kind = now;
                    describe(&mut families, family).kind = now;
                    return Ok(());
                }
                Item::Help { family, text } => {
                    describe(&mut families, family).help = text.into_owned();
                    return Ok(());
                }
                Item::Unit { family, unit } => {
                    describe(&mut families, family).unit = unit.to_owned();
                    return Ok(());
                }
                Item::Sample(line) => (line.place, line.series, Point::of_sample(line)),
                Item::Histogram(line) => {
                    let histogram = limited(config, line.histogram).map_err(|e| format!("{}: {e}", line.place))?;
                    let point = Point { at: line.at, value: Value::Histogram(histogram), exemplars: line.exemplars };
                    (line.place, line.series, point)
                }
            };
            counts.scraped += 1;
            let Some(labels) = self.labels(config, target, (place, series), kind)? else { return Ok(()) };
            counts.after_relabelling += 1;
            if config.limits.sample_limit > 0 && counts.after_relabelling > config.limits.sample_limit {
                return Err(format!("sample limit of {} exceeded", config.limits.sample_limit));
            }
            self.keep(config, point, labels, at, &mut batch, &mut counts);
            Ok(())
        })?;
        for (family, metadata) in families {
            if self.metadata.get(&family) != Some(&metadata) {
                self.metadata.insert(family, metadata.clone());
                batch.metadata.push(metadata);
            }
        }
        Ok((batch, counts))
    }

    fn keep(
        &mut self,
        config: &ScrapeConfig,
        point: Point,
        labels: Labels,
        at: Timestamp,
        batch: &mut MetricBatch,
        counts: &mut Counts,
    ) {
        let explicit = point.at.filter(|_| config.honor_timestamps);
        // Series with times of their own end on their own, unless asked otherwise.
        if explicit.is_none() || config.track_timestamps_staleness {
            let before = self.alive.insert(labels.clone(), self.n_scrapes);
            counts.added += usize::from(before.is_none());
            if before == Some(self.n_scrapes) {
                return;
            }
        }
        let at = explicit.unwrap_or(at);
        let mut series = SeriesBatch { labels, exemplars: point.exemplars, ..SeriesBatch::default() };
        series.exemplars.iter_mut().filter(|e| e.at == Timestamp(0)).for_each(|e| e.at = at);
        match point.value {
            Value::Float(value) => series.samples.push(Sample { at, value }),
            Value::Histogram(histogram) => series.histograms.push(HistogramSample { at, histogram }),
        }
        batch.series.push(series);
    }

    /// The stored labels of a series' text, from memory when it was there before.
    fn labels(
        &mut self,
        config: &ScrapeConfig,
        target: &Labels,
        (place, series): (Place, &str),
        kind: MetricKind,
    ) -> Result<Option<Labels>, String> {
        if let Some(known) = self.texts.get(series) {
            return Ok(known.clone());
        }
        let labels = stored_labels(config, target, series, kind).map_err(|e| format!("{place}: {e}"))?;
        if self.texts.len() >= TEXTS_MAX {
            self.texts.clear();
        }
        self.texts.insert(series.to_owned(), labels.clone());
        Ok(labels)
    }
}

/// What a line brought for its series.
struct Point {
    at: Option<Timestamp>,
    value: Value,
    exemplars: Vec<Exemplar>,
}

enum Value {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl Point {
    fn of_sample(line: SampleLine<'_>) -> Self {
        Self { at: line.at, value: Value::Float(line.value), exemplars: line.exemplar.into_iter().collect() }
    }
}

/// The histogram with buckets as wide and as few as the configuration wants them.
fn limited(config: &ScrapeConfig, mut histogram: Arc<Histogram>) -> Result<Arc<Histogram>, String> {
    if histogram.is_custom() {
        return Ok(histogram);
    }
    let (limit, wanted) = (config.limits.histogram_buckets, config.limits.histogram_schema_max());
    if histogram.schema > wanted {
        histogram = Arc::new(Arc::unwrap_or_clone(histogram).reduced(wanted));
    }
    while limit > 0 && histogram.n_buckets() > limit {
        if histogram.schema <= SCHEMA_MIN {
            return Err(format!("native_histogram_bucket_limit of {limit} exceeded at the coarsest resolution"));
        }
        let coarser = histogram.schema - 1;
        histogram = Arc::new(Arc::unwrap_or_clone(histogram).reduced(coarser));
    }
    Ok(histogram)
}

fn describe<'a>(families: &'a mut BTreeMap<String, MetricMetadata>, family: &str) -> &'a mut MetricMetadata {
    families.entry(family.to_owned()).or_insert_with(|| MetricMetadata {
        family: family.to_owned(),
        kind: MetricKind::Unknown,
        help: String::new(),
        unit: String::new(),
    })
}

fn one_sample(labels: Labels, sample: Sample) -> SeriesBatch {
    SeriesBatch { labels, samples: vec![sample], ..SeriesBatch::default() }
}

/// `None` when a step of `metric_relabel_configs` drops the series.
fn stored_labels(
    config: &ScrapeConfig,
    target: &Labels,
    series: &str,
    kind: MetricKind,
) -> Result<Option<Labels>, String> {
    let mut pairs = series_pairs(series)?;
    // `1`, `1.0` and `1e0` are one bound, whatever the format and the client library.
    let bound = match kind {
        MetricKind::Histogram => "le",
        MetricKind::Summary => "quantile",
        _ => "",
    };
    for (_, value) in pairs.iter_mut().filter(|(name, _)| !bound.is_empty() && name == bound) {
        if let Ok(number) = value.parse() {
            *value = bound_text(number).into();
        }
    }
    check_limits(config, &pairs)?;
    let mut labels = LabelsBuilder::default();
    for (name, value) in &pairs {
        if config.legacy_names && !is_legacy_name(name, value) {
            return Err(format!("`{series}` has a name that metric_name_validation_scheme legacy does not allow"));
        }
        if labels.get(name).is_some() {
            return Err(format!("label `{name}` occurs twice in `{series}`"));
        }
        labels.set(Arc::<str>::from(&**name), Arc::<str>::from(&**value));
    }
    for label in target {
        match labels.get(&label.name) {
            Some(_) if config.honor_labels => {}
            Some(scraped) => {
                let scraped: Arc<str> = scraped.into();
                let mut name = format!("exported_{}", label.name);
                while labels.get(&name).is_some() || target.get(&name).is_some() {
                    name.insert_str(0, "exported_");
                }
                labels.set(name, scraped);
                labels.set(label.name.clone(), label.value.clone());
            }
            None => drop(labels.set(label.name.clone(), label.value.clone())),
        }
    }
    let labels = relabel(labels, &config.metric_relabel_configs).map(LabelsBuilder::build);
    match labels {
        Some(labels) if labels.metric_name().is_empty() => Err(format!("`{series}` has no name")),
        labels => Ok(labels),
    }
}

/// Names of metrics may hold colons.
fn is_legacy_name(label: &str, value: &str) -> bool {
    if label == METRIC_NAME {
        crate::target::is_legacy(&value.replace(':', "_"))
    } else {
        crate::target::is_legacy(label)
    }
}

fn check_limits(config: &ScrapeConfig, pairs: &[(Cow<'_, str>, Cow<'_, str>)]) -> Result<(), String> {
    let limits = &config.limits;
    let over = |limit: usize, n: usize| limit > 0 && n > limit;
    if over(limits.label_limit, pairs.len()) {
        return Err(format!("{} labels; label_limit is {}", pairs.len(), limits.label_limit));
    }
    for (name, value) in pairs {
        if over(limits.label_name_length_limit, name.len()) {
            return Err(format!(
                "label name `{name}` is longer than label_name_length_limit {}",
                limits.label_name_length_limit
            ));
        }
        if over(limits.label_value_length_limit, value.len()) {
            return Err(format!(
                "value of label `{name}` is longer than label_value_length_limit {}",
                limits.label_value_length_limit
            ));
        }
    }
    Ok(())
}

const REPORT_NAMES: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// With `extra_scrape_metrics`.
const EXTRA_NAMES: [&str; 3] = ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"];

fn report(batch: &mut MetricBatch, target: &Labels, is_up: bool, counts: Counts, at: Timestamp, took: Duration) {
    let values = [
        f64::from(u8::from(is_up)),
        took.as_secs_f64(),
        counts.scraped as f64,
        counts.after_relabelling as f64,
        counts.added as f64,
    ];
    for (name, value) in REPORT_NAMES.iter().zip(values) {
        batch.series.push(one_sample(target.with(METRIC_NAME, name), Sample { at, value }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PrometheusConfig;
    use std::path::Path;
    use weir_model::histogram::{BucketCounts, BucketSpan, Counts};

    struct Run {
        config: ScrapeConfig,
        target: Labels,
        scraped: Scraped,
        second: i64,
    }

    impl Run {
        fn new(job: &str) -> Self {
            let text = format!("scrape_configs:\n- {{job_name: j, {job}}}\n");
            let config = PrometheusConfig::parse(&text, Path::new(".")).unwrap().scrape_configs.remove(0);
            let target = Labels::from_pairs([("job", "j"), ("instance", "i")]);
            Self { config, target, scraped: Scraped::default(), second: 0 }
        }

        /// Series but for the report, without the target's labels; then up, scraped, kept and added.
        fn step(&mut self, body: Option<&str>) -> String {
            self.second += 1;
            let answer =
                body.map_or(Answer::Failed, |text| Answer::Body { bytes: text.as_bytes(), format: Format::Text });
            let at = Timestamp(self.second * 1000);
            let (batch, error) = self.scraped.scrape(&self.config, &self.target, &answer, at, Duration::from_millis(5));
            self.show(&batch) + &error.map(|e| format!(" ({e})")).unwrap_or_default()
        }

        fn show(&self, batch: &MetricBatch) -> String {
            let mut out = Vec::new();
            let mut counts = Vec::new();
            for series in &batch.series {
                let sample = series.samples[0];
                let value =
                    if weir_model::is_stale(sample.value) { "stale".to_owned() } else { sample.value.to_string() };
                let name = series.labels.metric_name();
                if REPORT_NAMES.contains(&name) {
                    if name != "scrape_duration_seconds" {
                        counts.push(value);
                    }
                    continue;
                }
                let at = if sample.at.0 == self.second * 1000 { String::new() } else { format!("@{}", sample.at.0) };
                out.push(format!("{}={value}{at}", series.labels.without("job").without("instance")));
            }
            out.sort();
            format!("{} | {}", out.join(" "), counts.join(" "))
        }
    }

    #[test]
    fn series_that_vanish_end_with_a_marker() {
        let mut run = Run::new("honor_labels: false");
        assert_eq!(run.step(Some("a 1\nb{x=\"1\"} 2\n")), "a=1 b{x=\"1\"}=2 | 1 2 2 2");
        assert_eq!(run.step(Some("a 1\n")), "a=1 b{x=\"1\"}=stale | 1 1 1 0");
        assert_eq!(run.step(None), "a=stale | 0 0 0 0");
        assert_eq!(run.step(None), " | 0 0 0 0");
        assert_eq!(run.step(Some("a 1\n")), "a=1 | 1 1 1 1");
        assert_eq!(run.step(Some("a 1\nb\n")), "a=stale | 0 0 0 0 (line 2: `b` has no value)");
        run.step(Some("a 1\n"));
        let end = run.scraped.end(&run.config, &run.target.clone(), Timestamp(run.second * 1000));
        assert_eq!(run.show(&end), "a=stale | stale stale stale stale");
    }

    #[test]
    fn explicit_times_are_honoured_and_exempt() {
        let mut run = Run::new("honor_labels: false");
        assert_eq!(run.step(Some("a 1 77\n")), "a=1@77 | 1 1 1 0");
        assert_eq!(run.step(Some("b 1\n")), "b=1 | 1 1 1 1");
        let mut run = Run::new("honor_timestamps: false");
        assert_eq!(run.step(Some("a 1 77\n")), "a=1 | 1 1 1 1");
        let mut run = Run::new("track_timestamps_staleness: true");
        run.step(Some("a 1 77\n"));
        assert_eq!(run.step(Some("")), "a=stale | 1 0 0 0");
    }

    #[test]
    fn conflicting_labels() {
        let target = Labels::from_pairs([("job", "j"), ("instance", "i")]);
        let check = |job: &str, series: &str, want: &str| {
            let got = stored_labels(&Run::new(job).config, &target, series, MetricKind::Unknown)
                .unwrap()
                .map_or("dropped".into(), |l| l.to_string());
            assert_eq!(got, want);
        };
        check("honor_labels: false", "a{job=\"x\"}", r#"a{exported_job="x", instance="i", job="j"}"#);
        check(
            "honor_labels: false",
            "a{job=\"x\",exported_job=\"y\"}",
            r#"a{exported_exported_job="x", exported_job="y", instance="i", job="j"}"#,
        );
        check("honor_labels: true", "a{job=\"x\"}", r#"a{instance="i", job="x"}"#);
        check("metric_relabel_configs: [{source_labels: [__name__], regex: a, action: drop}]", "a", "dropped");
    }

    #[test]
    fn bounds_of_classic_histograms_and_summaries_have_one_form() {
        let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\n\
                    # TYPE s summary\ns{quantile=\"0.50\"} 3\n# TYPE g gauge\ng{le=\"1\"} 4\n";
        let got = Run::new("honor_labels: false").step(Some(body));
        let want = "g{le=\"1\"}=4 h_bucket{le=\"+Inf\"}=2 h_bucket{le=\"1.0\"}=1 s{quantile=\"0.5\"}=3 | 1 4 4 4";
        assert_eq!(got, want);
    }

    #[test]
    fn native_histograms_are_made_as_coarse_as_wanted() {
        let histogram = |schema, n: u64| {
            let counts = BucketCounts { count: n, zero: 0, positive: vec![1; n as usize], negative: Vec::new() };
            let positive_spans = vec![BucketSpan { offset: 1, length: n as u32 }];
            Arc::new(Histogram { schema, positive_spans, counts: Counts::Integer(counts), ..Histogram::stale() })
        };
        let check = |job: &str, given: Arc<Histogram>, want: Result<(i32, usize), &str>| {
            let got = limited(&Run::new(job).config, given).map(|h| (h.schema, h.n_buckets()));
            assert_eq!(
                got.as_ref().map_err(|e| e.split(' ').next().unwrap_or("")),
                want.as_ref().map_err(|e| *e),
                "{job}"
            );
        };
        check("honor_labels: false", histogram(3, 16), Ok((3, 16)));
        check("native_histogram_bucket_limit: 8", histogram(3, 16), Ok((2, 8)));
        check("native_histogram_bucket_limit: 3", histogram(3, 16), Ok((0, 2)));
        // Schema 2 grows by 1.19; schema 3 by 1.09, which is less than wanted.
        check("native_histogram_min_bucket_factor: 1.1", histogram(8, 4), Ok((2, 1)));
        check("native_histogram_min_bucket_factor: 2", histogram(3, 16), Ok((0, 2)));
        check("native_histogram_bucket_limit: 1", histogram(-4, 2), Err("native_histogram_bucket_limit"));
    }

    #[test]
    fn limits_fail_the_scrape() {
        assert!(Run::new("sample_limit: 1").step(Some("a 1\nb 1\n")).contains("sample limit of 1"));
        assert!(Run::new("label_limit: 1").step(Some("a{b=\"c\"} 1\n")).contains("line 1: 2 labels"));
        assert!(Run::new("sample_limit: 1").step(Some("a{b=\"c\",b=\"d\"} 1\n")).contains("occurs twice"));
    }
}
