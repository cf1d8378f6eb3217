//! What components export, and how their arguments are read.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, json};

use super::eval::{Origin, SETS_MAX, Scope, TargetSet, Value, eval};
use super::scan::{Fault, Pos};
use super::syntax::{Attribute, Block, Body};
use crate::config::sd::KubernetesSdFile;
use crate::relabel::{RelabelConfig, RelabelFile, parse_relabel};

/// Read by `local.file`.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Components that are read.
const READ: [&str; 10] = [
    "discovery.kubernetes",
    "discovery.relabel",
    "local.file",
    "local.file_match",
    "loki.process",
    "loki.relabel",
    "loki.source.file",
    "loki.source.kubernetes",
    "loki.source.syslog",
    "loki.write",
];

/// Blocks without effect here.
const IGNORED: [&str; 4] = ["logging", "livedebugging", "tracing", "http"];

/// Ways out for the others, by the beginning of their name.
const WAYS_OUT: [(&str, &str); 12] = [
    ("prometheus.", "give scraping and remote write as a prometheus.yml with --prometheus-config"),
    ("otelcol.", "give pipelines as a configuration of the OpenTelemetry Collector with --collector-config"),
    ("loki.source.journal", "let `journalctl --follow --output json` write a file, and follow that with stage.json"),
    ("loki.source.docker", "follow /var/lib/docker/containers/*/*-json.log with loki.source.file and stage.docker"),
    ("loki.source.podlogs", "use discovery.kubernetes and loki.source.file"),
    ("loki.source.api", "weir serve takes Loki's push at its main address"),
    ("discovery.", "use discovery.kubernetes, or name the targets"),
    ("import.", "write the components into the file"),
    ("declare", "write the components into the file"),
    ("foreach", "write the components into the file"),
    ("loki.echo", "query the lines where they are stored"),
    ("remotecfg", "read the file from this machine"),
];

/// The components of a file.
pub struct Graph<'a> {
    pub blocks: Vec<&'a Block>,
    by_id: HashMap<String, usize>,
    exports: Vec<Export>,
    env: &'a dyn Fn(&str) -> Option<String>,
    pub warnings: Vec<String>,
}

#[derive(Clone)]
enum Export {
    New,
    /// Being found out: whoever asks now is part of a circle.
    Busy,
    Known(Value),
}

impl<'a> Graph<'a> {
    pub fn new(body: &'a Body, env: &'a dyn Fn(&str) -> Option<String>) -> Result<Self, Fault> {
        if let Some(Attribute { name, pos, .. }) = body.attributes.first() {
            return pos.fault(format!("`{name}` stands in no block"));
        }
        let (mut blocks, mut by_id, mut warnings) = (Vec::new(), HashMap::new(), Vec::new());
        for block in &body.blocks {
            let name = block.name.as_str();
            if IGNORED.contains(&name) {
                warnings.push(format!("{name} has no effect here"));
                continue;
            }
            if !READ.contains(&name) {
                let way = WAYS_OUT.iter().find(|(start, _)| name.starts_with(start));
                let way = way.map_or("remove the block", |(_, way)| *way);
                return block.pos.fault(format!("`{name}` is not read by weir: {way}"));
            }
            let Some(label) = &block.label else { return block.pos.fault(format!("`{name}` needs a label")) };
            if by_id.insert(format!("{name}.{label}"), blocks.len()).is_some() {
                return block.pos.fault(format!("`{name} \"{label}\"` stands twice in the file"));
            }
            blocks.push(block);
        }
        let exports = vec![Export::New; blocks.len()];
        Ok(Self { blocks, by_id, exports, env, warnings })
    }

    pub fn id(&self, idx: usize) -> String {
        self.id_of(self.blocks[idx])
    }

    pub fn id_of(&self, block: &Block) -> String {
        format!("{}.{}", block.name, block.label.as_deref().unwrap_or_default())
    }

    /// What a component exports; `pos`: of whoever asks.
    pub fn export(&mut self, idx: usize, pos: Pos) -> Result<Value, Fault> {
        match &self.exports[idx] {
            Export::Known(value) => return Ok(value.clone()),
            Export::Busy => return pos.fault(format!("{} refers to itself", self.id(idx))),
            Export::New => {}
        }
        self.exports[idx] = Export::Busy;
        let fields = self.exported(idx)?;
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let value = Value::Map(fields);
        self.exports[idx] = Export::Known(value.clone());
        Ok(value)
    }

    fn exported(&mut self, idx: usize) -> Result<Vec<(&'static str, Value)>, Fault> {
        let block = self.blocks[idx];
        let mut args = Args::of(block);
        Ok(match block.name.as_str() {
            "discovery.kubernetes" => vec![("targets", self.discovered(block)?)],
            "discovery.relabel" => {
                let mut sets = args.targets(self, "targets")?;
                let rules = self.rules(block)?;
                args.blocks("rule");
                args.end()?;
                sets.iter_mut().for_each(|set| set.rules.extend(rules.iter().cloned()));
                vec![("output", Value::Targets(sets)), ("rules", Value::Rules(Arc::new(rules)))]
            }
            "local.file_match" => {
                let sets = args.targets(self, "path_targets")?;
                args.refuse(self, "ignore_older_than", &json!("0s"), "files of every age are read")?;
                args.ignore("sync_period");
                args.end()?;
                vec![("targets", Value::Targets(sets))]
            }
            "local.file" => vec![("content", self.content(&mut args)?)],
            "loki.relabel" => {
                let rules = self.rules(block)?;
                args.blocks("rule");
                args.ignore("max_cache_size");
                args.later("forward_to");
                args.end()?;
                vec![("receiver", Value::Receiver(idx)), ("rules", Value::Rules(Arc::new(rules)))]
            }
            "loki.process" | "loki.write" => vec![("receiver", Value::Receiver(idx))],
            other => return block.pos.fault(format!("`{other}` exports nothing, or is not read by weir")),
        })
    }

    fn discovered(&mut self, block: &Block) -> Result<Value, Fault> {
        let mut keys = self.json(&block.body, &["selectors"])?;
        tls(&mut keys);
        let file: KubernetesSdFile = typed(keys.into(), &block.body, block.pos)?;
        let sd = file.check(Path::new("")).or_else(|what| block.pos.fault(what))?;
        Ok(Value::Targets(vec![TargetSet { origin: Origin::Discovered(Arc::new(sd)), rules: Vec::new() }]))
    }

    fn content(&mut self, args: &mut Args<'_>) -> Result<Value, Fault> {
        let pos = args.block.pos;
        let Some(path) = args.text(self, "filename")? else { return pos.fault("local.file needs a `filename`") };
        ["is_secret", "detector", "poll_frequency"].iter().for_each(|name| args.ignore(name));
        args.end()?;
        let cannot = |what: String| pos.fault(format!("local.file: {path}: {what}"));
        match std::fs::metadata(&path) {
            Ok(about) if about.len() > FILE_BYTES_MAX => return cannot(format!("above {FILE_BYTES_MAX} bytes")),
            _ => {}
        }
        std::fs::read_to_string(&path).map(Value::Text).or_else(|e| cannot(e.to_string()))
    }

    /// The steps of its `rule` blocks.
    pub fn rules(&mut self, block: &Block) -> Result<Vec<RelabelConfig>, Fault> {
        let mut out = Vec::new();
        for rule in block.body.blocks.iter().filter(|inner| inner.name == "rule") {
            let keys = self.json(&rule.body, &[])?;
            let file: RelabelFile = typed(keys.into(), &rule.body, rule.pos)?;
            out.push(file.check().or_else(|what| rule.pos.fault(what))?);
        }
        Ok(out)
    }

    /// Attributes and blocks as keys; blocks that may be repeated are `lists`.
    pub fn json(&mut self, body: &Body, lists: &[&str]) -> Result<Map<String, serde_json::Value>, Fault> {
        let mut out = Map::new();
        for attribute in &body.attributes {
            out.insert(attribute.name.clone(), self.plain(attribute)?);
        }
        for block in &body.blocks {
            if block.label.is_some() {
                return block.pos.fault(format!("`{}` has no label", block.name));
            }
            let inner = serde_json::Value::Object(self.json(&block.body, &[])?);
            if lists.contains(&block.name.as_str()) {
                let list = out.entry(block.name.clone()).or_insert_with(|| json!([]));
                list.as_array_mut().into_iter().for_each(|list| list.push(inner.clone()));
            } else if out.insert(block.name.clone(), inner).is_some() {
                return block.pos.fault(format!("`{}` is given twice", block.name));
            }
        }
        Ok(out)
    }

    fn plain(&mut self, attribute: &Attribute) -> Result<serde_json::Value, Fault> {
        let value = eval(&attribute.value, self)?;
        let kind = value.kind();
        value.json().map_or_else(|| attribute.value.pos.fault(format!("`{}` cannot be {kind}", attribute.name)), Ok)
    }
}

impl Scope for Graph<'_> {
    fn component(&mut self, path: &[&str], pos: Pos) -> Option<Result<(Value, usize), Fault>> {
        let found = (2..=path.len()).find_map(|n| Some((*self.by_id.get(&path[..n].join("."))?, n)));
        let (idx, n) = found?;
        // Receivers may form a net; who refers to one need not know what it does.
        let is_receiver = path.get(n) == Some(&"receiver");
        if is_receiver && matches!(&*self.blocks[idx].name, "loki.process" | "loki.relabel" | "loki.write") {
            return Some(Ok((Value::Receiver(idx), n + 1)));
        }
        Some(self.export(idx, pos).map(|value| (value, n)))
    }

    fn env(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }
}

/// Reads a component's arguments one by one; what is left over is refused.
pub struct Args<'a> {
    pub block: &'a Block,
    taken: Vec<String>,
}

impl<'a> Args<'a> {
    pub fn of(block: &'a Block) -> Self {
        Self { block, taken: Vec::new() }
    }

    fn take(&mut self, name: &str) -> Option<&'a Attribute> {
        self.later(name);
        self.block.body.attribute(name)
    }

    /// Somebody else reads it.
    pub fn later(&mut self, name: &str) {
        self.taken.push(name.to_owned());
    }

    /// Whatever it says makes no difference here; also for blocks.
    pub fn ignore(&mut self, name: &str) {
        self.later(name);
    }

    pub fn blocks(&mut self, name: &str) -> Vec<&'a Block> {
        self.later(name);
        self.block.body.blocks.iter().filter(|inner| inner.name == name).collect()
    }

    pub fn blocks_with(&mut self, start: &str) -> Vec<&'a Block> {
        let found: Vec<&Block> = self.block.body.blocks.iter().filter(|inner| inner.name.starts_with(start)).collect();
        found.iter().for_each(|inner| self.later(&inner.name));
        found
    }

    pub fn end(&self) -> Result<(), Fault> {
        let name = &self.block.name;
        let is_left = |found: &str| !self.taken.iter().any(|taken| taken == found);
        if let Some(attribute) = self.block.body.attributes.iter().find(|a| is_left(&a.name)) {
            return attribute.pos.fault(format!("`{}` is no argument of {name} that weir reads", attribute.name));
        }
        match self.block.body.blocks.iter().find(|inner| is_left(&inner.name)) {
            Some(inner) => inner.pos.fault(format!("`{}` is no block of {name} that weir reads", inner.name)),
            None => Ok(()),
        }
    }

    pub fn typed<T: DeserializeOwned>(&mut self, graph: &mut Graph<'_>, name: &str) -> Result<Option<T>, Fault> {
        let Some(attribute) = self.take(name) else { return Ok(None) };
        let value = graph.plain(attribute)?;
        let read = serde_json::from_value(value);
        read.or_else(|e| attribute.value.pos.fault(format!("`{name}`: {e}")))
    }

    pub fn text(&mut self, graph: &mut Graph<'_>, name: &str) -> Result<Option<String>, Fault> {
        Ok(self.typed::<String>(graph, name)?.filter(|text| !text.is_empty()))
    }

    /// Anything but the one value that weir behaves like.
    pub fn refuse(
        &mut self,
        graph: &mut Graph<'_>,
        name: &str,
        only: &serde_json::Value,
        why: &str,
    ) -> Result<(), Fault> {
        let Some(attribute) = self.take(name) else { return Ok(()) };
        let given = graph.plain(attribute)?;
        let is_same = match (&given, only) {
            (serde_json::Value::String(given), serde_json::Value::String(only)) => {
                given.is_empty() || given.eq_ignore_ascii_case(only)
            }
            (given, only) => given == only,
        };
        if is_same { Ok(()) } else { attribute.value.pos.fault(format!("`{name}` can only be {only} here: {why}")) }
    }

    pub fn targets(&mut self, graph: &mut Graph<'_>, name: &str) -> Result<Vec<TargetSet>, Fault> {
        let Some(attribute) = self.take(name) else {
            return self.block.pos.fault(format!("{} needs `{name}`", self.block.name));
        };
        let sets = eval(&attribute.value, graph)?.targets(attribute.value.pos)?;
        if sets.len() > SETS_MAX {
            return attribute.value.pos.fault(format!("more than {SETS_MAX} origins of targets"));
        }
        Ok(sets)
    }

    pub fn rules(&mut self, graph: &mut Graph<'_>, name: &str) -> Result<Vec<RelabelConfig>, Fault> {
        let Some(attribute) = self.take(name) else { return Ok(Vec::new()) };
        match eval(&attribute.value, graph)? {
            Value::Rules(rules) => Ok(rules.to_vec()),
            other => attribute.value.pos.fault(format!("`{name}` is a component's `rules`, not {}", other.kind())),
        }
    }

    pub fn receivers(&mut self, graph: &mut Graph<'_>) -> Result<Vec<usize>, Fault> {
        let Some(attribute) = self.take("forward_to") else {
            return self.block.pos.fault(format!("{} needs `forward_to`", self.block.name));
        };
        eval(&attribute.value, graph)?.receivers(attribute.value.pos)
    }
}

/// Reads keys; a mistake is told where the key that it names stands.
pub fn typed<T: DeserializeOwned>(value: serde_json::Value, body: &Body, pos: Pos) -> Result<T, Fault> {
    serde_json::from_value(value).or_else(|error| {
        let what = error.to_string();
        let key = what.split('`').nth(1).unwrap_or_default();
        let attribute = body.attribute(key).map(|attribute| attribute.pos);
        let block = body.blocks.iter().find(|block| block.name == key).map(|block| block.pos);
        attribute.or(block).unwrap_or(pos).fault(what)
    })
}

/// Keys of an endpoint under the names that Promtail has for them.
pub fn endpoint(graph: &mut Graph<'_>, block: &Block) -> Result<Map<String, serde_json::Value>, Fault> {
    let mut keys = graph.json(&block.body, &[])?;
    tls(&mut keys);
    if let Some(oauth) = keys.get_mut("oauth2").and_then(serde_json::Value::as_object_mut) {
        tls(oauth);
    }
    let renamed = [
        ("remote_timeout", "timeout"),
        ("batch_wait", "batchwait"),
        ("batch_size", "batchsize"),
        ("min_backoff_period", "backoff_config"),
        ("max_backoff_period", "backoff_config"),
        ("max_backoff_retries", "backoff_config"),
    ];
    for (name, known) in renamed {
        if let Some(value) = keys.remove(name) {
            keys.insert(known.to_owned(), value);
        }
    }
    if keys.remove("retry_on_http_429") == Some(json!(false)) {
        keys.insert("drop_rate_limited_batches".to_owned(), json!(true));
    }
    if keys.remove("queue_config").is_some() {
        graph.warnings.push("endpoint: queue_config has no effect here: what was read waits in its file".to_owned());
    }
    if let Some(headers) = keys.get_mut("http_headers").and_then(serde_json::Value::as_object_mut) {
        headers.values_mut().for_each(|values| *values = json!({ "values": values.take() }));
    }
    Ok(keys)
}

fn tls(keys: &mut Map<String, serde_json::Value>) {
    let Some(tls) = keys.get_mut("tls_config").and_then(serde_json::Value::as_object_mut) else { return };
    for (name, known) in [("ca_pem", "ca"), ("cert_pem", "cert"), ("key_pem", "key")] {
        if let Some(value) = tls.remove(name) {
            tls.insert(known.to_owned(), value);
        }
    }
}

/// What `loki.source.kubernetes` sets itself, and where the lines of a container are.
pub fn pod_rules(id: &str) -> Result<Vec<RelabelConfig>, String> {
    let steps = json!([
        {
            "source_labels": ["__meta_kubernetes_pod_uid", "__meta_kubernetes_pod_container_name"],
            "separator": "/",
            "target_label": "__path__",
            "replacement": "/var/log/pods/*$1/*.log",
        },
        {
            "source_labels":
                ["instance", "__meta_kubernetes_namespace", "__meta_kubernetes_pod_name", "__meta_kubernetes_pod_container_name"],
            "regex": ";(.+);(.+);(.+)",
            "target_label": "instance",
            "replacement": "$1/$2:$3",
        },
        { "source_labels": ["job"], "regex": "", "target_label": "job", "replacement": id },
    ]);
    parse_relabel(&steps.to_string())
}
