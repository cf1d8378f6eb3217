//! Alloy's own configuration language, as far as it is about logs: what was written becomes the same jobs and
//! clients that a Promtail configuration describes.
//!
//! `scan` and `syntax` read text, `eval` and `functions` its expressions, `components` what its components make of
//! targets, `stages` the stages of `loki.process`, and this file follows receivers from each source to `loki.write`.
//! Absent: modules (`import`, `declare`, `foreach`), components of other signals; each is refused by name with line
//! and column. Source: Alloy's documentation and the grammar in its `syntax` package.

mod components;
mod eval;
mod functions;
mod scan;
mod stages;
mod syntax;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use components::{Args, Graph};
use eval::{Origin, TargetSet, Value};
use scan::{Fault, Pos};
use serde_json::json;
use syntax::Block;
use weir_model::Labels;

use super::config::{ClientFile, GoDur, LogScrape, PositionsConfig, PromtailConfig, SyslogFile};
use super::stage::{self, Stage};
use super::tailer::TailerOptions;
use super::targets::Job;
use crate::config::{KubernetesRole, SdConfig};
use crate::discover::TargetGroup;
use crate::relabel::RelabelConfig;

/// Receivers behind one another; more is a circle.
const STEPS_MAX: usize = 32;
/// Ways from one source.
const WAYS_MAX: usize = 100;
/// Of a file, in all.
const LOOKS_MAX: usize = 10_000;

/// From a receiver to `loki.write`.
#[derive(Clone)]
struct Way {
    stages: Vec<Arc<Stage>>,
    writes: BTreeSet<usize>,
}

/// What comes of a file; `env` answers what `sys.env` asks for.
pub(super) fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<PromtailConfig, String> {
    let body = syntax::parse(text).map_err(|fault| fault.to_string())?;
    let mut graph = Graph::new(&body, env).map_err(|fault| fault.to_string())?;
    lower(&mut graph).map_err(|fault| fault.to_string())
}

fn lower(graph: &mut Graph<'_>) -> Result<PromtailConfig, Fault> {
    let mut lowered = Lowered::default();
    for idx in 0..graph.blocks.len() {
        let block = graph.blocks[idx];
        match block.name.as_str() {
            "loki.source.file" => lowered.file(graph, block)?,
            "loki.source.kubernetes" => lowered.kubernetes(graph, block)?,
            "loki.source.syslog" => lowered.syslog(graph, block)?,
            "loki.process" => drop(lowered.stages(graph, idx)?),
            // Also what nobody refers to is checked.
            _ => drop(graph.export(idx, block.pos)?),
        }
    }
    let used: BTreeSet<usize> = lowered.ends.iter().flat_map(|(_, _, writes)| writes).copied().collect();
    for (id, pos, writes) in &lowered.ends {
        if let Some(missing) = used.difference(writes).next() {
            let other = graph.id(*missing);
            return pos.fault(format!(
                "lines of {id} do not reach {other}, which others do: here all go to every loki.write; forward them \
                 to it too, or run an agent for each"
            ));
        }
    }
    let mut clients = Vec::new();
    for idx in 0..graph.blocks.len() {
        if graph.blocks[idx].name == "loki.write" {
            if !used.contains(&idx) {
                graph.warnings.push(format!("{}: no lines reach it", graph.id(idx)));
            }
            let found = write(graph, graph.blocks[idx], clients.len())?;
            clients.extend(found.into_iter().filter(|_| used.contains(&idx)));
        }
    }
    let stages = lowered.scrapes.iter().flat_map(|scrape| &scrape.job.stages);
    stage::metrics::check_names(stages).or_else(|what| Pos { line: 1, column: 1 }.fault(what))?;
    let default = TailerOptions::default();
    let tailer = TailerOptions { poll: lowered.poll.unwrap_or(default.poll), ..default };
    Ok(PromtailConfig {
        clients,
        positions: lowered.positions,
        scrape_configs: lowered.scrapes,
        tailer,
        warnings: std::mem::take(&mut graph.warnings),
    })
}

/// What came together so far.
#[derive(Default)]
struct Lowered {
    scrapes: Vec<LogScrape>,
    /// Which `loki.write` the lines of each source reach.
    ends: Vec<(String, Pos, BTreeSet<usize>)>,
    /// Those of each `loki.process`: limits are for all that goes through it.
    stages: HashMap<usize, Vec<Arc<Stage>>>,
    positions: PositionsConfig,
    poll: Option<std::time::Duration>,
    /// Receivers that were looked at.
    n_looks: usize,
}

impl Lowered {
    fn file(&mut self, graph: &mut Graph<'_>, block: &Block) -> Result<(), Fault> {
        let mut args = Args::of(block);
        args.refuse(graph, "tail_from_end", &json!(false), "files are read from their start")?;
        args.refuse(graph, "encoding", &json!("utf-8"), "files are read as UTF-8; convert others")?;
        args.ignore("on_positions_file_error");
        let targets = args.targets(graph, "targets")?;
        if let Some(path) = args.text(graph, "legacy_positions_file")? {
            self.positions.filename = Some(path.into());
        }
        for inner in args.blocks("decompression") {
            let mut inner = Args::of(inner);
            inner.refuse(graph, "enabled", &json!(false), "packed files are not read: rotation packs what was read")?;
            ["format", "initial_delay"].iter().for_each(|name| inner.ignore(name));
            inner.end()?;
        }
        for inner in args.blocks("file_match") {
            let mut inner = Args::of(inner);
            inner.refuse(graph, "ignore_older_than", &json!("0s"), "files of every age are read")?;
            ["enabled", "sync_period"].iter().for_each(|name| inner.ignore(name));
            inner.end()?;
        }
        for inner in args.blocks("file_watch") {
            let mut inner = Args::of(inner);
            for name in ["min_poll_frequency", "max_poll_frequency"] {
                let given: Option<GoDur> = inner.typed(graph, name)?;
                let (Some(GoDur(poll)), "min_poll_frequency") = (given, name) else { continue };
                if poll < std::time::Duration::from_millis(10) {
                    return inner.block.pos.fault("min_poll_frequency is below 10ms");
                }
                self.poll = Some(self.poll.map_or(poll, |known| known.min(poll)));
            }
            inner.end()?;
        }
        let ways = self.ways(graph, &mut args)?;
        args.end()?;
        self.follow(graph, block, targets, &ways)
    }

    /// Files of this node's pods hold the same lines as the API gives.
    fn kubernetes(&mut self, graph: &mut Graph<'_>, block: &Block) -> Result<(), Fault> {
        let mut args = Args::of(block);
        let mut targets = args.targets(graph, "targets")?;
        let is_own = |set: &TargetSet| match &set.origin {
            Origin::Discovered(sd) => match &**sd {
                SdConfig::Kubernetes(sd) => {
                    let selector = sd.selectors.get(&KubernetesRole::Pod);
                    sd.role == KubernetesRole::Pod
                        && selector.is_some_and(|(_, field)| field.contains("spec.nodeName="))
                }
                _ => false,
            },
            Origin::Static(_) => false,
        };
        if !targets.iter().all(is_own) {
            return block.pos.fault(
                "loki.source.kubernetes: weir reads the files of its node's pods, not their API: run it on every \
                 node, and let discovery.kubernetes select role \"pod\" with field \"spec.nodeName=\" + the node's name",
            );
        }
        args.ignore("client");
        args.ignore("clustering");
        let rules = components::pod_rules(&graph.id_of(block)).or_else(|what| block.pos.fault(what))?;
        targets.iter_mut().for_each(|set| set.rules.extend(rules.iter().cloned()));
        let mut ways = self.ways(graph, &mut args)?;
        args.end()?;
        let unwrapped = stages::built(json!([{"cri": {}}, {"labeldrop": ["stream", "filename"]}]));
        let unwrapped = unwrapped.or_else(|what| block.pos.fault(what))?;
        for way in &mut ways {
            way.stages.splice(0..0, unwrapped.iter().cloned());
        }
        self.follow(graph, block, targets, &ways)
    }

    fn syslog(&mut self, graph: &mut Graph<'_>, block: &Block) -> Result<(), Fault> {
        let mut args = Args::of(block);
        let rules = args.rules(graph, "relabel_rules")?;
        let listeners = args.blocks("listener");
        let ways = self.ways(graph, &mut args)?;
        args.end()?;
        if ways.len() > 1 {
            return block.pos.fault("loki.source.syslog: forward to one receiver, and from there to others");
        }
        let Some(way) = ways.into_iter().next() else { return Ok(()) };
        for (n, listener) in listeners.into_iter().enumerate() {
            let mut keys = graph.json(&listener.body, &[])?;
            for (name, known) in [("address", "listen_address"), ("protocol", "listen_protocol")] {
                if let Some(value) = keys.remove(name) {
                    keys.insert(known.to_owned(), value);
                }
            }
            let file: SyslogFile = components::typed(keys.into(), &listener.body, listener.pos)?;
            let job = self.job(graph, block, n, &way, rules.clone());
            let limit = TailerOptions::default().limit;
            let syslog = file.check(&job, limit).or_else(|what| listener.pos.fault(what))?;
            self.scrapes.push(LogScrape { job, groups: Vec::new(), sd: Vec::new(), syslog: Some(syslog) });
        }
        self.ends.push((graph.id_of(block), block.pos, way.writes));
        Ok(())
    }

    fn follow(
        &mut self,
        graph: &mut Graph<'_>,
        block: &Block,
        targets: Vec<TargetSet>,
        ways: &[Way],
    ) -> Result<(), Fault> {
        let mut n = 0;
        for way in ways {
            for set in &targets {
                let job = self.job(graph, block, n, way, set.rules.clone());
                let mut scrape = LogScrape { job, groups: Vec::new(), sd: Vec::new(), syslog: None };
                match &set.origin {
                    Origin::Static(targets) => scrape.groups.push(Arc::new(TargetGroup {
                        source: "0".to_owned(),
                        labels: Default::default(),
                        targets: targets.to_vec(),
                    })),
                    Origin::Discovered(sd) => scrape.sd.push((**sd).clone()),
                }
                self.scrapes.push(scrape);
                n += 1;
            }
            self.ends.push((graph.id_of(block), block.pos, way.writes.clone()));
        }
        Ok(())
    }

    /// Positions are kept by its name.
    fn job(&self, graph: &Graph<'_>, block: &Block, n: usize, way: &Way, relabel: Vec<RelabelConfig>) -> Arc<Job> {
        let id = graph.id_of(block);
        let name = if n == 0 { id } else { format!("{id}#{}", n + 1) };
        Arc::new(Job { name, stages: way.stages.clone(), relabel })
    }

    /// The ways from a component's `forward_to`.
    fn ways(&mut self, graph: &mut Graph<'_>, args: &mut Args<'_>) -> Result<Vec<Way>, Fault> {
        let receivers = args.receivers(graph)?;
        if receivers.is_empty() {
            graph.warnings.push(format!("{}: its lines go nowhere", graph.id_of(args.block)));
        }
        self.onward(graph, &receivers, args.block.pos, 0)
    }

    fn onward(
        &mut self,
        graph: &mut Graph<'_>,
        receivers: &[usize],
        pos: Pos,
        n_steps: usize,
    ) -> Result<Vec<Way>, Fault> {
        self.n_looks += 1;
        if self.n_looks > LOOKS_MAX {
            return pos.fault("too many ways to loki.write");
        }
        if n_steps > STEPS_MAX {
            return pos.fault(format!("more than {STEPS_MAX} receivers behind one another; do they form a circle?"));
        }
        let (mut out, mut direct) = (Vec::new(), BTreeSet::new());
        for idx in receivers {
            let block = graph.blocks[*idx];
            let own = match block.name.as_str() {
                "loki.write" => {
                    direct.insert(*idx);
                    continue;
                }
                "loki.process" => self.stages(graph, *idx)?,
                _ => vec![Arc::new(Stage::Relabel(graph.rules(block)?))],
            };
            let next = Args::of(block).receivers(graph)?;
            for way in self.onward(graph, &next, block.pos, n_steps + 1)? {
                let stages = own.iter().cloned().chain(way.stages).collect();
                out.push(Way { stages, writes: way.writes });
            }
            if out.len() > WAYS_MAX {
                return pos.fault(format!("more than {WAYS_MAX} ways to loki.write"));
            }
        }
        if !direct.is_empty() {
            out.push(Way { stages: Vec::new(), writes: direct });
        }
        Ok(out)
    }

    fn stages(&mut self, graph: &mut Graph<'_>, idx: usize) -> Result<Vec<Arc<Stage>>, Fault> {
        if let Some(known) = self.stages.get(&idx) {
            return Ok(known.clone());
        }
        let block = graph.blocks[idx];
        let mut args = Args::of(block);
        args.receivers(graph)?;
        let inner = args.blocks_with("stage.");
        args.end()?;
        let mut stages = Vec::new();
        for inner in inner {
            stages.push(stages::stage(graph, inner)?);
        }
        // What another loki.process extracted is not seen here.
        if stages.iter().any(|stage| stage.reads_extracted()) {
            stages.insert(0, Arc::new(Stage::Fresh));
        }
        self.stages.insert(idx, stages.clone());
        Ok(stages)
    }
}

/// The endpoints of a `loki.write`. `n`: of those before it.
fn write(graph: &mut Graph<'_>, block: &Block, n: usize) -> Result<Vec<super::LogClient>, Fault> {
    let mut args = Args::of(block);
    let labels: Option<std::collections::BTreeMap<String, String>> = args.typed(graph, "external_labels")?;
    let external_labels = Labels::from_pairs(labels.unwrap_or_default());
    args.ignore("max_streams");
    if !args.blocks("wal").is_empty() {
        graph.warnings.push(format!("{}: wal has no effect here: what was read waits in its file", graph.id_of(block)));
    }
    let endpoints = args.blocks("endpoint");
    args.end()?;
    let mut out = Vec::new();
    for endpoint in endpoints {
        let keys = components::endpoint(graph, endpoint)?;
        let file: ClientFile = components::typed(keys.into(), &endpoint.body, endpoint.pos)?;
        let client = file.check(n + out.len(), Path::new(""), &mut graph.warnings);
        let mut client = client.or_else(|what| endpoint.pos.fault(what))?;
        client.external_labels = external_labels.clone();
        out.push(client);
    }
    Ok(out)
}

impl Value {
    /// As a list of receivers.
    fn receivers(self, pos: Pos) -> Result<Vec<usize>, Fault> {
        let Self::List(list) = self else {
            return pos.fault(format!("forward_to is a list of receivers, not {}", self.kind()));
        };
        let one = |value: Self| match value {
            Self::Receiver(idx) => Ok(idx),
            other => pos.fault(format!("forward_to: expected a receiver, got {}", other.kind())),
        };
        list.into_iter().map(one).collect()
    }
}
