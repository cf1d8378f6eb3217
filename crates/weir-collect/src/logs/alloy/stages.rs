//! `stage.*` of `loki.process`, which are Promtail's stages under other keys.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::components::{Graph, typed};
use super::scan::Fault;
use super::syntax::Block;
use crate::logs::stage::{self, Stage, StageFile};

/// Those whose keys are the same.
const SAME: [&str; 15] = [
    "cri",
    "decolorize",
    "docker",
    "drop",
    "json",
    "limit",
    "logfmt",
    "multiline",
    "output",
    "pack",
    "regex",
    "replace",
    "sampling",
    "template",
    "tenant",
];

/// Those that keep their keys under `values`, and what they are called in Promtail.
const VALUES: [(&str, &str); 5] = [
    ("labels", "labels"),
    ("static_labels", "static_labels"),
    ("structured_metadata", "structured_metadata"),
    ("label_drop", "labeldrop"),
    ("label_keep", "labelallow"),
];

pub fn stage(graph: &mut Graph<'_>, block: &Block) -> Result<Arc<Stage>, Fault> {
    let value = written(graph, block)?;
    let file: StageFile = typed(value, &block.body, block.pos)?;
    stage::check_one(file).or_else(|what| block.pos.fault(format!("{}: {what}", block.name)))
}

/// Stages that are not written in a file.
pub fn built(list: Value) -> Result<Vec<Arc<Stage>>, String> {
    let files: Vec<StageFile> = serde_json::from_value(list).map_err(|e| e.to_string())?;
    stage::check(files)
}

/// As Promtail would have it.
fn written(graph: &mut Graph<'_>, block: &Block) -> Result<Value, Fault> {
    let name = block.name.strip_prefix("stage.").unwrap_or(&block.name);
    if SAME.contains(&name) || name == "timestamp" {
        return Ok(json!({ name: graph.json(&block.body, &[])? }));
    }
    if let Some((_, known)) = VALUES.iter().find(|(own, _)| *own == name) {
        let mut keys = graph.json(&block.body, &[])?;
        let values = keys.remove("values").unwrap_or(Value::Null);
        if keys.remove("source_type").is_some_and(|given| given != json!("extracted")) {
            let pos = block.body.attribute("source_type").map_or(block.pos, |attribute| attribute.pos);
            return pos.fault("source_type: labels come from what was extracted; use \"extracted\"");
        }
        if let Some(attribute) = block.body.attributes.iter().find(|a| keys.contains_key(&a.name)) {
            return attribute
                .pos
                .fault(format!("`{}` is no argument of {} that weir reads", attribute.name, block.name));
        }
        return Ok(json!({ *known: values }));
    }
    match name {
        "match" => matching(graph, block),
        "metrics" => metrics(graph, block),
        _ => block.pos.fault(format!("`{}` is no stage that weir has: remove it", block.name)),
    }
}

fn matching(graph: &mut Graph<'_>, block: &Block) -> Result<Value, Fault> {
    let mut keys = Map::new();
    let mut stages = Vec::new();
    for inner in &block.body.blocks {
        if !inner.name.starts_with("stage.") {
            return inner.pos.fault(format!("`{}` is no stage", inner.name));
        }
        // By itself first, so that its mistakes are told where it stands.
        stage(graph, inner)?;
        stages.push(written(graph, inner)?);
    }
    let attributes = super::syntax::Body { attributes: block.body.attributes.clone(), blocks: Vec::new() };
    keys.extend(graph.json(&attributes, &[])?);
    if !stages.is_empty() {
        keys.insert("stages".to_owned(), Value::Array(stages));
    }
    Ok(json!({ "match": keys }))
}

fn metrics(graph: &mut Graph<'_>, block: &Block) -> Result<Value, Fault> {
    if let Some(attribute) = block.body.attributes.first() {
        return attribute.pos.fault(format!("`{}` is no argument of stage.metrics", attribute.name));
    }
    let mut out = Map::new();
    for inner in &block.body.blocks {
        let Some(kind @ ("counter" | "gauge" | "histogram")) = inner.name.strip_prefix("metric.") else {
            return inner.pos.fault(format!("`{}`: a metric is a counter, gauge or histogram", inner.name));
        };
        let mut keys = graph.json(&inner.body, &[])?;
        let Some(Value::String(name)) = keys.remove("name") else { return inner.pos.fault("a metric needs a `name`") };
        let mut config = Map::new();
        for key in ["value", "action", "match_all", "count_entry_bytes", "buckets"] {
            config.extend(keys.remove(key).map(|value| (key.to_owned(), value)));
        }
        keys.entry("prefix").or_insert_with(|| json!("loki_process_custom_"));
        keys.insert("type".to_owned(), json!(kind));
        keys.insert("config".to_owned(), Value::Object(config));
        if out.insert(name.clone(), Value::Object(keys)).is_some() {
            return inner.pos.fault(format!("metric `{name}` stands twice in the stage"));
        }
    }
    Ok(json!({ "metrics": out }))
}
