//! Whole blocks on a disk, of the loads that weir is measured with: bytes a sample, and times.

use std::sync::Arc;

use weir_model::source::Cancel;
use weir_model::{Labels, Matcher, TenantId, TimeRange, Timestamp};
use weir_tsdb::block::{BlockIndex, Blocks, BlocksOptions};
use weir_wal::{Dir, OsDir};

use crate::cpu_ns;
use crate::data::{self, Random, Series};

const START_MS: i64 = 1_795_229_160_000;

fn labels_of(key: &str, instance: usize) -> Labels {
    let (name, rest) = key.split_once('{').unwrap_or((key, ""));
    let own = rest.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
    let mut pairs: Vec<(String, String)> = own.map(|(n, v)| (n.into(), v.trim_matches('"').into())).collect();
    pairs.push(("__name__".into(), name.into()));
    pairs.push(("cluster".into(), "prod-eu-1".into()));
    pairs.push(("env".into(), "production".into()));
    pairs.push(("instance".into(), format!("10.0.{}.{}:9100", instance / 256, instance % 256)));
    pairs.push(("job".into(), "node-exporter".into()));
    pairs.push(("namespace".into(), format!("team-{}", instance % 20)));
    pairs.push(("pod".into(), format!("node-exporter-{:05x}", instance.wrapping_mul(2_654_435_761) & 0xf_ffff)));
    Labels::from_pairs(pairs)
}

pub fn measure(recorded: &[Series], folder: &str) {
    println!("| load | samples | blocks | bytes/sample cut | merged | cut, ns/sample | merge | read one metric |");
    println!("|---|---|---|---|---|---|---|---|");
    for (load, n_instances, n) in [("base", 200, 120), ("long", 40, 1400)] {
        one(load, recorded, n_instances, n, folder);
    }
}

fn one(load: &str, recorded: &[Series], n_instances: usize, n: usize, folder: &str) {
    let dir: Arc<dyn Dir> = Arc::new(OsDir::open(std::path::Path::new(folder)).expect("a folder"));
    let blocks = Arc::new(Blocks::open(dir.clone(), load, BlocksOptions::default()).expect("a folder").blocks);
    let mut random = Random(7);
    let rows = data::redrawn(recorded, n_instances, n);
    let mut series = Vec::with_capacity(rows.len());
    for (instance, rows) in rows.chunks(recorded.len()).enumerate() {
        let phase = (random.next() % 15_000) as i64;
        let at = |k: i64, random: &mut Random| START_MS + k * 15_000 + phase + (random.next() % 4) as i64;
        let times: Arc<[i64]> = (0..n as i64).map(|k| at(k, &mut random)).collect();
        series.extend(recorded.iter().zip(rows).map(|(s, row)| (labels_of(&s.key, instance), times.clone(), row)));
    }
    series.sort_by(|a, b| a.0.cmp(&b.0));
    series.dedup_by(|a, b| a.0 == b.0);
    let n_samples = (series.len() * n) as f64;
    let tenant = TenantId::anonymous();
    let start = cpu_ns();
    let mut cut = blocks.cut();
    for (labels, times, values) in &series {
        cut.add(&tenant, labels, times, values, &[]).expect("ascending");
    }
    let cut_blocks = cut.commit(None).expect("a disk");
    let cut_ns = (cpu_ns() - start) as f64 / n_samples;
    let n_bytes = || blocks.manifest().blocks.iter().map(|b| b.n_bytes).sum::<u64>() as f64 / n_samples;
    let cut_bytes = n_bytes();
    let start = cpu_ns();
    while let Some(plan) = blocks.plan(Timestamp(START_MS * 2)) {
        blocks.compact(&plan, &Cancel::default()).expect("a disk");
    }
    let merge_ns = (cpu_ns() - start) as f64 / n_samples;
    let merged = blocks.manifest().blocks[0].clone();
    let path = format!("{load}/anonymous/{:016x}.block", merged.id);
    let index = Arc::new(BlockIndex::open(&*dir, &path).expect("a block"));
    let start = cpu_ns();
    let metric = [Matcher::equal("__name__", "node_cpu_seconds_total")];
    let found = index.read_all(&metric, TimeRange::ALL).expect("own bytes");
    let n_read = found.iter().map(|s| s.samples.len()).sum::<usize>() as f64;
    println!(
        "| {load} | {n_samples} | {} | {cut_bytes:.3} | {:.3} | {cut_ns:.1} | {merge_ns:.2} | {:.2} ns/sample of {n_read} |",
        cut_blocks.len(),
        n_bytes(),
        (cpu_ns() - start) as f64 / n_read,
    );
}
