//! What is sent of queued batches, and in which requests. Pure.

use std::time::Duration;

use weir_model::sink::{MetricBatch, SeriesBatch};
use weir_model::{Labels, Timestamp};

use super::frame::Queued;
use crate::config::{QueueConfig, RemoteWriteConfig};
use crate::relabel::relabel;

/// Requests by shard. Samples of a series are in one shard, in order.
pub(super) fn requests(
    config: &RemoteWriteConfig,
    external: &Labels,
    frames: Vec<Queued>,
    n_shards: usize,
) -> Vec<Vec<MetricBatch>> {
    let mut shards: Vec<Vec<MetricBatch>> = (0..n_shards.max(1)).map(|_| Vec::new()).collect();
    for series in frames.into_iter().flat_map(|frame| frame.batch.series) {
        let Some(series) = sent(config, external, series) else { continue };
        let shard = usize::try_from(series.labels.fingerprint() % shards.len() as u64).unwrap_or(0);
        push(&mut shards[shard], series, config.queue.max_samples_per_send);
    }
    shards.retain(|shard| !shard.is_empty());
    shards
}

/// `None` when `write_relabel_configs` drop it.
fn sent(config: &RemoteWriteConfig, external: &Labels, mut series: SeriesBatch) -> Option<SeriesBatch> {
    if !external.is_empty() || !config.write_relabel_configs.is_empty() {
        let mut labels = series.labels.to_builder();
        for label in external {
            if labels.get(&label.name).is_none() {
                labels.set(label.name.clone(), label.value.clone());
            }
        }
        series.labels = relabel(labels, &config.write_relabel_configs)?.build();
    }
    if !config.send_exemplars {
        series.exemplars.clear();
    }
    if !config.send_native_histograms {
        series.histograms.clear();
    }
    let is_something = series.n_samples() > 0 || !series.exemplars.is_empty();
    (is_something && !series.labels.is_empty()).then_some(series)
}

/// Adds to the last request while it has room.
fn push(requests: &mut Vec<MetricBatch>, mut series: SeriesBatch, samples_max: usize) {
    let n_of = |batch: &MetricBatch| batch.series.iter().map(SeriesBatch::n_samples).sum::<usize>();
    let mut room = requests.last().map_or(0, |last| samples_max.saturating_sub(n_of(last)));
    loop {
        if room == 0 {
            requests.push(MetricBatch::default());
            room = samples_max;
        }
        let last = requests.last_mut().expect("one was pushed when there was none with room");
        if series.n_samples() <= room {
            last.series.push(series);
            return;
        }
        let samples = series.samples.split_off(room.min(series.samples.len()));
        let histograms = series.histograms.split_off((room - series.samples.len()).min(series.histograms.len()));
        let labels = series.labels.clone();
        last.series.push(series);
        series = SeriesBatch { labels, samples, histograms, exemplars: Vec::new() };
        room = 0;
    }
}

/// Drops samples older than `sample_age_limit`; gives how many.
pub(super) fn drop_old(batch: &mut MetricBatch, limit: Option<Duration>, now: Timestamp) -> usize {
    let Some(limit) = limit else { return 0 };
    let oldest = now.minus(limit);
    let mut n = 0;
    batch.series.retain_mut(|series| {
        let before = series.n_samples();
        series.samples.retain(|sample| sample.at >= oldest);
        series.histograms.retain(|sample| sample.at >= oldest);
        n += before - series.n_samples();
        series.n_samples() > 0
    });
    n
}

/// More shards while requests wait, fewer while none does.
pub(super) fn next_shards(now: usize, has_more: bool, queue: &QueueConfig) -> usize {
    let next = if has_more { now.saturating_mul(2) } else { now / 2 };
    next.clamp(queue.min_shards, queue.max_shards)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PrometheusConfig;
    use std::path::Path;
    use weir_model::{Sample, TenantId};

    fn config(keys: &str) -> RemoteWriteConfig {
        let text = format!("remote_write:\n- {{url: 'http://r', {keys}}}\n");
        PrometheusConfig::parse(&text, Path::new(".")).unwrap().remote_write.remove(0)
    }

    fn queued(series: &[(&str, &[i64])]) -> Queued {
        let one = |(name, times): &(&str, &[i64])| SeriesBatch {
            labels: Labels::from_pairs([("__name__", *name)]),
            samples: times.iter().map(|at| Sample::new(*at, 1.0)).collect(),
            ..SeriesBatch::default()
        };
        let batch = MetricBatch { series: series.iter().map(one).collect(), ..MetricBatch::default() };
        Queued { tenant: TenantId::anonymous(), at: Timestamp(0), batch }
    }

    fn show(requests: &[Vec<MetricBatch>]) -> Vec<Vec<String>> {
        let series =
            |s: &SeriesBatch| format!("{}@{:?}", s.labels, s.samples.iter().map(|s| s.at.0).collect::<Vec<_>>());
        let request = |b: &MetricBatch| b.series.iter().map(series).collect::<Vec<_>>().join(" ");
        requests.iter().map(|shard| shard.iter().map(request).collect()).collect()
    }

    #[test]
    fn requests_hold_so_many_samples_in_order() {
        let config = config("queue_config: {max_samples_per_send: 2}");
        let frames = vec![queued(&[("a", &[1, 2, 3]), ("b", &[1])]), queued(&[("a", &[4])])];
        let got = requests(&config, &Labels::empty(), frames, 1);
        assert_eq!(show(&got), [["a@[1, 2]", "a@[3] b@[1]", "a@[4]"]]);
    }

    #[test]
    fn labels_of_the_sender_come_before_relabelling() {
        let keys = "write_relabel_configs: [{source_labels: [__name__], regex: 'go_.*', action: drop}, \
                    {source_labels: [cluster], target_label: c}]";
        let external = Labels::from_pairs([("cluster", "x")]);
        let got = requests(&config(keys), &external, vec![queued(&[("go_a", &[1]), ("b", &[1])])], 3);
        assert_eq!(show(&got), [[r#"b{c="x", cluster="x"}@[1]"#]]);
    }

    #[test]
    fn shards_follow_what_waits() {
        let queue = config("queue_config: {min_shards: 1, max_shards: 5}").queue;
        let steps: Vec<usize> = [true, true, true, false, false, false]
            .iter()
            .scan(1, |n, more| {
                *n = next_shards(*n, *more, &queue);
                Some(*n)
            })
            .collect();
        assert_eq!(steps, [2, 4, 5, 2, 1, 1]);
    }

    #[test]
    fn old_samples_are_given_up() {
        let mut batch = queued(&[("a", &[1000, 9000]), ("b", &[1])]).batch;
        assert_eq!(drop_old(&mut batch, Some(Duration::from_secs(5)), Timestamp(10_000)), 2);
        assert_eq!(show(&[vec![batch]]), [["a@[9000]"]]);
    }
}
