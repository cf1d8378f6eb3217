//! Test cases in Prometheus' script format (`promql/promqltest`): `load`, `clear`, `eval`.
//!
//! ```text
//! load 1m
//!   x{job="a"} 0+1x5
//!
//! eval instant at 5m sum(x)
//!   {} 5
//! ```
//!
//! [`Script::parse`] reads, [`Script::run`] answers what became of each `eval`.

mod check;
mod expect;
mod store;
mod values;

use std::time::Duration;

use weir_model::source::ReadContext;
use weir_model::{TenantId, Timestamp};

use crate::{Engine, EngineOptions, Query, QueryError, QueryResult, Value, parse, parse_duration};
use expect::Expected;
use store::Store;

/// Where and why a text is no script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ScriptError {
    /// From 1.
    pub line: usize,
    pub reason: String,
}

/// Test cases, and the data that they run on.
#[derive(Debug)]
pub struct Script {
    commands: Vec<Command>,
}

#[derive(Debug)]
enum Command {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
}

#[derive(Debug)]
struct Load {
    step_ms: i64,
    /// Classic histograms become native ones with custom buckets as well.
    with_custom_buckets: bool,
    series: Vec<values::SeriesLine>,
}

#[derive(Debug)]
struct Eval {
    line: usize,
    query: String,
    when: Times,
    expected: Expected,
}

#[derive(Clone, Copy, Debug)]
enum Times {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

/// What became of one `eval`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub line: usize,
    pub query: String,
    /// Why it failed.
    pub result: Result<(), String>,
}

/// A line without what is around it; comments are empty.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).map(|l| if l.starts_with('#') { "" } else { l }).collect()
}

impl Script {
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let lines = lines(text);
        let mut commands = Vec::new();
        let mut idx = 0;
        while idx < lines.len() {
            let (line, at) = (lines[idx], idx);
            idx += 1;
            if line.is_empty() {
                continue;
            }
            // What follows belongs to the command, up to an empty line.
            let block = lines[idx..].iter().take_while(|l| !l.is_empty()).count();
            let word = line.split_whitespace().next().unwrap_or_default();
            let error = |(offset, reason): (usize, String)| ScriptError { line: at + 1 + offset, reason };
            let command = if word == "clear" {
                commands.push(Command::Clear);
                continue;
            } else if word.starts_with("load") {
                load(line, &lines[idx..idx + block]).map(Command::Load).map_err(error)?
            } else if word.starts_with("eval") {
                let eval = expect::eval(at + 1, line, &lines[idx..idx + block]).map_err(error)?;
                Command::Eval(Box::new(eval))
            } else {
                return Err(error((0, format!("`{word}` is no command; expected load, clear or eval"))));
            };
            commands.push(command);
            idx += block;
        }
        Ok(Self { commands })
    }

    /// Runs the commands in order. Names of metrics go at the end of each query, as in upstream's own tests.
    pub async fn run(&self) -> Vec<Outcome> {
        let engine = Engine::new(EngineOptions { late_names: true, ..EngineOptions::default() });
        let mut store = Store::default();
        let mut outcomes = Vec::new();
        for command in &self.commands {
            match command {
                Command::Clear => store = Store::default(),
                Command::Load(load) => store.load(load),
                Command::Eval(eval) => {
                    let result = eval.run(&engine, &store).await;
                    outcomes.push(Outcome { line: eval.line, query: eval.query.clone(), result });
                }
            }
        }
        outcomes
    }
}

fn load(line: &str, block: &[&str]) -> Result<Load, (usize, String)> {
    let mut words = line.split_whitespace();
    let with_custom_buckets = match words.next() {
        Some("load") => false,
        Some("load_with_nhcb") => true,
        other => return Err((0, format!("`{}` is no command", other.unwrap_or_default()))),
    };
    let step = words.next().unwrap_or_default();
    let step_ms = parse_duration(step).ok_or_else(|| (0, format!("`{step}` is no interval")))?;
    let series = block.iter().enumerate().map(|(k, line)| values::series_line(line).map_err(|e| (k + 1, e)));
    Ok(Load { step_ms, with_custom_buckets, series: series.collect::<Result<_, _>>()? })
}

impl Eval {
    async fn run(&self, engine: &Engine, store: &Store) -> Result<(), String> {
        let got = self.query(engine, store, self.when).await;
        self.expected.check(self.when, &got)?;
        // Columns over several steps say the same as a single one.
        let (Times::Instant(at), Ok(QueryResult { value: Value::Vector(one), .. })) = (self.when, &got) else {
            return Ok(());
        };
        if ["range()", "step()", "start()", "end()"].iter().any(|f| self.query.contains(f))
            || self.expected.is_ordered()
        {
            return Ok(());
        }
        let around = Times::Range { start: at - 60_000, end: at + 60_000, step: 60_000 };
        match self.query(engine, store, around).await.map(|r| r.value) {
            Ok(Value::Matrix(matrix)) => {
                check::same_at(at, one, &matrix).map_err(|e| format!("as one step of a range query: {e}"))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(format!("as a range query: {error}")),
        }
    }

    async fn query(&self, engine: &Engine, store: &Store, when: Times) -> Result<QueryResult, String> {
        let expr = parse(&self.query).map_err(|e| e.to_string())?;
        let query = match when {
            Times::Instant(at) => Query::instant(expr, Timestamp(at)),
            Times::Range { start, end, step } => {
                let step = Duration::from_millis(u64::try_from(step).unwrap_or(0));
                Query::range(expr, Timestamp(start), Timestamp(end), step)
            }
        };
        let (tenant, context) = (TenantId::anonymous(), ReadContext::unlimited());
        let prepared = engine.open(store, &tenant, &query, &context).await;
        prepared.and_then(|p| p.eval()).map_err(|e: QueryError| e.to_string())
    }
}

#[cfg(test)]
mod tests;
