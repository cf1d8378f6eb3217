//! `filter`: drops what matches.

use weir_model::Nanos;

use super::include::{Include, include_blocks};
use super::walk::retain;
use super::{ErrorMode, Stateless, report};
use crate::config::{Field, Section};
use crate::data::{Data, Signal};
use crate::ottl::{Condition, Context, EvalError, Paths};

/// The conditions of a `filter`, by signal in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub struct FilterConfig {
    error_mode: ErrorMode,
    conditions: Vec<(Signal, Context, Vec<Condition>)>,
    /// The old form: what is not included, or is excluded, is dropped.
    blocks: Vec<(Signal, Include)>,
}

const SECTIONS: [(Signal, &str, &[(&str, Context)]); 3] = [
    (
        Signal::Traces,
        "traces",
        &[("resource", Context::Resource), ("span", Context::Span), ("spanevent", Context::SpanEvent)],
    ),
    (
        Signal::Metrics,
        "metrics",
        &[("resource", Context::Resource), ("metric", Context::Metric), ("datapoint", Context::DataPoint)],
    ),
    (Signal::Logs, "logs", &[("resource", Context::Resource), ("log_record", Context::Log)]),
];

impl FilterConfig {
    pub(crate) fn read(section: Section<'_>) -> Self {
        let mut config = Self { error_mode: ErrorMode::read(section.get("error_mode")), ..Self::default() };
        for (signal, name, contexts) in SECTIONS {
            let Some(inner) = section.section(name) else { continue };
            for (key, context) in contexts {
                let conditions = conditions(&inner.items(key), Paths::Of(*context));
                config.add(signal, *context, conditions);
            }
            if let Some(block) = include_blocks(&inner, signal) {
                config.blocks.push((signal, block));
            }
            inner.finish();
        }
        let keys = [
            ("trace_conditions", Signal::Traces),
            ("metric_conditions", Signal::Metrics),
            ("log_conditions", Signal::Logs),
        ];
        for (key, signal) in keys {
            for item in section.items(key) {
                config.read_new(signal, &item);
            }
        }
        if config.conditions.is_empty() && config.blocks.is_empty() {
            section.error("has no condition: nothing would be dropped");
        }
        section.finish();
        config
    }

    /// A text with prefixed paths, or a context with its conditions.
    fn read_new(&mut self, signal: Signal, item: &Field<'_>) {
        let list = match item.node {
            crate::config::Node::Map(_) => {
                let inner = item.section();
                let paths = paths_of(&inner, signal);
                let list = conditions(&inner.items("conditions"), paths);
                inner.finish();
                list
            }
            _ => conditions(std::slice::from_ref(item), Paths::Prefixed),
        };
        for condition in list {
            if fits(signal, condition.context) {
                self.add(signal, condition.context, vec![condition]);
            } else {
                item.error(format!("{} have no `{}`", signal.as_str(), condition.context.as_str()));
            }
        }
    }

    fn add(&mut self, signal: Signal, context: Context, more: Vec<Condition>) {
        if more.is_empty() {
            return;
        }
        match self.conditions.iter_mut().find(|(s, c, _)| (*s, *c) == (signal, context)) {
            Some((.., known)) => known.extend(more),
            None => self.conditions.push((signal, context, more)),
        }
        // A dropped resource need not be looked into.
        self.conditions.sort_by_key(|(_, context, _)| *context);
    }

    /// Signals for which it does anything.
    pub(crate) fn signals(&self) -> Vec<Signal> {
        let used = |signal: &Signal| {
            self.conditions.iter().any(|(s, ..)| s == signal) || self.blocks.iter().any(|(s, _)| s == signal)
        };
        Signal::ALL.into_iter().filter(used).collect()
    }
}

/// Whether items of a signal have a context.
pub(crate) fn fits(signal: Signal, context: Context) -> bool {
    match context {
        Context::Resource | Context::Scope => true,
        Context::Span | Context::SpanEvent => signal == Signal::Traces,
        Context::Metric | Context::DataPoint => signal == Signal::Metrics,
        Context::Log => signal == Signal::Logs,
    }
}

/// `context: span` of a block; without one paths are prefixed.
pub(crate) fn paths_of(section: &Section<'_>, signal: Signal) -> Paths {
    let Some(field) = section.get("context") else { return Paths::Prefixed };
    let Some(name) = field.text() else { return Paths::Prefixed };
    match Context::of_name(&name).filter(|context| fits(signal, *context)) {
        Some(context) => Paths::Of(context),
        None => {
            field.error(format!("`{name}` is no context of {}", signal.as_str()));
            Paths::Prefixed
        }
    }
}

pub(crate) fn conditions(items: &[Field<'_>], paths: Paths) -> Vec<Condition> {
    let parsed = |item: &Field<'_>| match Condition::parse(&item.text()?, paths) {
        Ok(condition) => Some(condition),
        Err(error) => {
            report(item, &error);
            None
        }
    };
    items.iter().filter_map(parsed).collect()
}

impl Stateless for FilterConfig {
    fn process(&self, data: &mut Data, now: Nanos) -> Result<(), EvalError> {
        let signal = data.signal();
        for (_, block) in self.blocks.iter().filter(|(s, _)| *s == signal) {
            let at = block.context(signal);
            retain(data, at, now, &mut |scene| Ok::<_, EvalError>(block.applies(scene)))?;
        }
        for (_, context, conditions) in self.conditions.iter().filter(|(s, ..)| *s == signal) {
            retain(data, *context, now, &mut |scene| {
                for condition in conditions {
                    match condition.is_true(scene) {
                        Ok(true) => return Ok(false),
                        Ok(false) => {}
                        Err(error) => self.error_mode.settle(error)?,
                    }
                }
                Ok(true)
            })?;
        }
        Ok(())
    }
}
