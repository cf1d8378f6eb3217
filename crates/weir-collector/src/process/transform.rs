//! `transform`: edits what passes.

use weir_model::Nanos;

use super::filter::{conditions, fits, paths_of};
use super::walk::retain;
use super::{ErrorMode, Stateless, report};
use crate::config::{Field, Node, Section};
use crate::data::{Data, Signal};
use crate::ottl::{Condition, Context, EvalError, Paths, Statement};

#[derive(Clone, Debug, Default)]
pub struct TransformConfig {
    blocks: Vec<Block>,
}

/// Statements that run one after another on each item of a context.
#[derive(Clone, Debug)]
struct Block {
    signal: Signal,
    context: Context,
    error_mode: ErrorMode,
    conditions: Vec<Condition>,
    statements: Vec<Statement>,
}

const KEYS: [(&str, Signal); 3] =
    [("trace_statements", Signal::Traces), ("metric_statements", Signal::Metrics), ("log_statements", Signal::Logs)];

impl TransformConfig {
    pub(crate) fn read(section: Section<'_>) -> Self {
        let error_mode = ErrorMode::read(section.get("error_mode"));
        let mut config = Self::default();
        for (key, signal) in KEYS {
            for item in section.items(key) {
                config.read_item(signal, error_mode, &item);
            }
        }
        section.without_effect(&["flatten_data"], "log records are not flattened");
        section.finish();
        config
    }

    fn read_item(&mut self, signal: Signal, error_mode: ErrorMode, item: &Field<'_>) {
        let (mode, given, paths, statements) = match item.node {
            Node::Map(_) => {
                let inner = item.section();
                let mode = inner.get("error_mode").map_or(error_mode, |field| ErrorMode::read(Some(field)));
                let paths = paths_of(&inner, signal);
                let given = conditions(&inner.items("conditions"), paths);
                let statements = statements(&inner.items("statements"), paths);
                inner.unsupported(&["shared_cache"]);
                inner.finish();
                (mode, given, paths, statements)
            }
            _ => (error_mode, Vec::new(), Paths::Prefixed, statements(std::slice::from_ref(item), Paths::Prefixed)),
        };
        let widest = match paths {
            Paths::Of(context) => Some(context),
            // One item is looked at by all: the narrowest that any of them names.
            Paths::Prefixed => given.iter().map(|c| c.context).chain(statements.iter().map(|s| s.context)).max(),
        };
        let Some(context) = widest else { return };
        let seen = given.iter().map(|c| c.context).chain(statements.iter().map(|s| s.context));
        if !fits(signal, context) {
            item.error(format!("{} have no `{}`", signal.as_str(), context.as_str()));
        } else if let Some(other) = seen.into_iter().find(|c| !context.sees(*c)) {
            item.error(format!("`{}` and `{}` are not of one item", context.as_str(), other.as_str()));
        } else {
            self.blocks.push(Block { signal, context, error_mode: mode, conditions: given, statements });
        }
    }
}

fn statements(items: &[Field<'_>], paths: Paths) -> Vec<Statement> {
    let parsed = |item: &Field<'_>| match Statement::parse(&item.text()?, paths) {
        Ok(statement) => Some(statement),
        Err(error) => {
            report(item, &error);
            None
        }
    };
    items.iter().filter_map(parsed).collect()
}

impl Stateless for TransformConfig {
    fn process(&self, data: &mut Data, now: Nanos) -> Result<(), EvalError> {
        let signal = data.signal();
        for block in self.blocks.iter().filter(|block| block.signal == signal) {
            retain(data, block.context, now, &mut |scene| {
                let mut applies = block.conditions.is_empty();
                for condition in &block.conditions {
                    match condition.is_true(scene) {
                        Ok(true) => applies = true,
                        Ok(false) => {}
                        Err(error) => block.error_mode.settle(error)?,
                    }
                }
                if applies {
                    for statement in &block.statements {
                        if let Err(error) = statement.apply(scene) {
                            block.error_mode.settle(error)?;
                        }
                    }
                }
                Ok::<_, EvalError>(true)
            })?;
        }
        Ok(())
    }
}
