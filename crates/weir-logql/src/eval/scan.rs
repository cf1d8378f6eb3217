//! Range aggregations over columns: rows are counted and values added up where they lie; only rows of
//! which the columns do not tell are rebuilt and sent through the pipeline.

use weir_model::columns::{LogColumns, LogScan, Matched, ScanRun};
use weir_model::log::{SAMPLING_WEIGHT, sampling_weight};
use weir_model::source::StreamData;
use weir_model::{Labels, LogEntry};

use super::columns::{Steps, Template, Told};
use super::range::{OpenRange, Table, is_additive};
use super::{QueryError, Statistics};
use crate::ast::{Grouping, RangeAggregation, RangeOp};
use crate::pipeline::symbolic::Source;
use crate::pipeline::{Needed, Scratch, convert};

/// Rows rebuilt at a time.
const BATCH_ROWS: usize = 1_024;
/// Most different values of a key for which rows are gathered before they are added.
const GATHERED_MAX: usize = 4_096;

/// What the columns of this aggregation can answer; `None` when order among equal times counts, or a
/// stage needs the line.
pub(super) fn steps(aggregation: &RangeAggregation) -> Option<Steps> {
    let by_order = matches!(aggregation.op, RangeOp::FirstOverTime | RangeOp::LastOverTime | RangeOp::RateCounter);
    if by_order { None } else { Steps::of(&aggregation.log.stages) }
}

/// What an aggregation adds up for the rows of a template.
enum Worth {
    One,
    Values(Vec<f64>),
    /// The same of rows of which some stand for more lines than themselves; what they stand for is in it.
    Weighted(Vec<f64>),
}

/// Values of a template's rows, by place in the key.
type Key = Vec<(String, Source)>;

#[derive(Clone, Copy)]
enum Number {
    Is(f64),
    Absent,
    Unreadable,
}

/// A scan's rows on their way into the table.
struct Rows<'a> {
    runs: &'a [ScanRun],
    matched: Matched<'a>,
    times: &'a [i64],
    /// What is left to the pipeline.
    left: Vec<u32>,
    passed: u64,
    weighted: u64,
}

impl OpenRange {
    pub(super) fn take_scan(
        &self,
        scan: &mut dyn LogScan,
        steps: &Steps,
        needed: &Needed,
        (scratch, table): (&mut Scratch, &mut Table),
        statistics: &mut Statistics,
    ) -> Result<(), QueryError> {
        if !scan.may_match()? {
            return Ok(());
        }
        let runs = scan.open()?;
        let matched = scan.matched()?;
        if runs.is_empty() || matches!(matched, Matched::None) {
            return Ok(());
        }
        let columns = scan.columns()?;
        let mut rows = Rows { runs: &runs, matched, times: columns.times()?, left: Vec::new(), passed: 0, weighted: 0 };
        self.take_columns(columns, steps, needed, &mut rows, table)?;
        rows.left.sort_unstable();
        count(statistics, &runs, matched, &rows);
        let left = rows.left;
        let mut rest = left.as_slice();
        for run in &runs {
            let (of_run, after) = rest.split_at(rest.partition_point(|row| *row < run.rows.end));
            rest = after;
            for batch in of_run.chunks(BATCH_ROWS) {
                self.context.cancel.check()?;
                let entries: Result<Vec<LogEntry>, _> = batch.iter().map(|row| scan.entry(*row)).collect();
                let batch = StreamData { labels: run.labels.clone(), entries: entries? };
                self.take_batch(&batch, needed, scratch, table, statistics)?;
            }
        }
        Ok(())
    }

    fn take_columns(
        &self,
        columns: &dyn LogColumns,
        steps: &Steps,
        needed: &Needed,
        rows: &mut Rows<'_>,
        table: &mut Table,
    ) -> Result<(), QueryError> {
        let streams: Vec<&Labels> = rows.runs.iter().map(|run| &run.labels).collect();
        for t in 0..columns.n_templates() {
            self.context.cancel.check()?;
            let of_template = columns.rows(t)?;
            if !of_template.iter().any(|row| rows.matched.has(*row)) {
                continue;
            }
            let template = Template::new(steps, needed, columns, t, &streams)?;
            let answered = match template {
                Some(mut template) => match (self.weighted_worth(&mut template)?, self.key(&template, table)) {
                    (Some(worth), Some(key)) => Some((template, worth, key)),
                    _ => None,
                },
                None => None,
            };
            match answered {
                Some((template, worth, key)) => add(&template, &worth, &key, of_template, rows, table)?,
                None => {
                    let matched = rows.matched;
                    let is_in = |row: &&u32| matched.has(**row) && rows.runs.iter().any(|r| r.rows.contains(*row));
                    let left: Vec<u32> = of_template.iter().filter(is_in).copied().collect();
                    rows.left.extend(left);
                }
            }
        }
        Ok(())
    }

    /// What is added, with what sampling left out. A mean of weighted rows is the pipeline's affair.
    fn weighted_worth(&self, template: &mut Template<'_>) -> Result<Option<Worth>, QueryError> {
        let worth = self.worth(template)?;
        let source = template.symbols.metadata_of(SAMPLING_WEIGHT);
        let is_mean = self.aggregation.op == RangeOp::AvgOverTime;
        if source == Source::Absent || !(is_mean || is_additive(self.aggregation.op)) {
            return Ok(worth);
        }
        let Some(worth) = worth.filter(|_| !is_mean) else { return Ok(None) };
        let Some(weights) = template.each(&source, |text| text.map_or(1.0, sampling_weight))? else { return Ok(None) };
        Ok(Some(Worth::Weighted(match worth {
            Worth::One => weights,
            Worth::Values(values) | Worth::Weighted(values) => values.iter().zip(weights).map(|(v, w)| v * w).collect(),
        })))
    }

    /// Row by row what is added; rows without a value fail. `None`: the columns do not tell.
    fn worth(&self, template: &mut Template<'_>) -> Result<Option<Worth>, QueryError> {
        let Some(unwrap) = &self.aggregation.unwrap else {
            let is_bytes = matches!(self.aggregation.op, RangeOp::BytesRate | RangeOp::BytesOverTime);
            return Ok(Some(if is_bytes { Worth::Values(lengths(template)?) } else { Worth::One }));
        };
        let source = template.symbols.resolve(&unwrap.label);
        if let Some(numbers) = template.numbers(&source, unwrap.conversion)? {
            unwrap.filters.iter().try_for_each(|filter| template.take(filter))?;
            return Ok(Some(Worth::Values(numbers)));
        }
        let read = |value: Option<&str>| match value.filter(|text| !text.is_empty()) {
            None => Number::Absent,
            Some(text) => convert(unwrap.conversion, text).map_or(Number::Unreadable, Number::Is),
        };
        let Some(numbers) = template.each(&source, read)? else { return Ok(None) };
        for (told, number) in template.told.iter_mut().zip(&numbers) {
            match (*told, number) {
                (Told::Passes, Number::Absent) => *told = Told::Fails,
                (Told::Passes, Number::Unreadable) => *told = Told::Unknown,
                _ => {}
            }
        }
        unwrap.filters.iter().try_for_each(|filter| template.take(filter))?;
        let value = |number: &Number| if let Number::Is(value) = number { *value } else { 0.0 };
        Ok(Some(Worth::Values(numbers.iter().map(value).collect())))
    }

    /// The labels of the series that the rows belong to; `None`: the columns do not tell.
    fn key(&self, template: &Template<'_>, table: &Table) -> Option<Key> {
        let names = match &table.grouping {
            Some(Grouping { without: false, labels }) => labels.clone(),
            grouping => {
                let dropped: &[String] = grouping.as_ref().map_or(&[], |g| g.labels.as_slice());
                let is_kept = |name: &String| {
                    table.unwrapped.as_ref() != Some(name) && name != SAMPLING_WEIGHT && !dropped.contains(name)
                };
                template.symbols.names()?.into_iter().filter(is_kept).collect()
            }
        };
        let with_source = |name: String| {
            let source = template.symbols.resolve(&name);
            (name, source)
        };
        let key: Key = names.into_iter().map(with_source).filter(|(_, source)| *source != Source::Absent).collect();
        key.iter().all(|(_, source)| *source != Source::Unknown).then_some(key)
    }
}

/// What was read without being rebuilt.
fn count(statistics: &mut Statistics, runs: &[ScanRun], matched: Matched<'_>, rows: &Rows<'_>) {
    let mut n_left = rows.left.iter().peekable();
    for run in runs {
        let mut left = 0;
        while n_left.next_if(|row| **row < run.rows.end).is_some() {
            left += 1;
        }
        let n = match matched {
            Matched::All => run.rows.len() as u64,
            _ => run.rows.clone().filter(|row| matched.has(*row)).count() as u64,
        };
        let n = n - left;
        statistics.lines += n;
        statistics.bytes += run.line_bytes * n / run.rows.len().max(1) as u64;
    }
    statistics.lines_passed += rows.passed;
    statistics.lines_weighted += rows.weighted;
}

fn lengths(template: &Template<'_>) -> Result<Vec<f64>, QueryError> {
    let of = template.symbols.view();
    let fixed: usize = of.literals.iter().map(|l| l.len()).sum();
    let mut lengths = vec![fixed as u64; of.n_rows];
    for column in 0..of.n_line_columns() {
        template.symbols.columns.add_lengths(template.symbols.template, column, &mut lengths)?;
    }
    Ok(lengths.into_iter().map(|n| n as f64).collect())
}

/// Rows of one run that go to one series.
#[derive(Default)]
struct Gathered {
    times: Vec<i64>,
    values: Vec<f64>,
    first_rank: usize,
}

fn add(
    template: &Template<'_>,
    worth: &Worth,
    key: &Key,
    of_template: &[u32],
    rows: &mut Rows<'_>,
    table: &mut Table,
) -> Result<(), QueryError> {
    let varying: Vec<&Source> = key.iter().map(|(_, s)| s).filter(|s| matches!(s, Source::Value { .. })).collect();
    // Dictionaries number their values, so that the series of a row is found by arithmetic.
    let mut ids: Option<Vec<(&[u32], usize)>> = Some(Vec::new());
    for source in &varying {
        let next = template.ids(source)?;
        ids = ids.zip(next).map(|(mut ids, next)| {
            ids.push(next);
            ids
        });
    }
    let n_groups = |ids: &Vec<(&[u32], usize)>| ids.iter().try_fold(1_usize, |n, (_, many)| n.checked_mul(*many));
    let ids = ids.filter(|ids| n_groups(ids).is_some_and(|n| n <= GATHERED_MAX));
    let mut gathered: Vec<Gathered> = Vec::new();
    gathered.resize_with(ids.as_ref().and_then(n_groups).unwrap_or(1), Gathered::default);
    let mut from = 0;
    for run in rows.runs {
        let begin = from + of_template[from..].partition_point(|row| *row < run.rows.start);
        let end = begin + of_template[begin..].partition_point(|row| *row < run.rows.end);
        from = end;
        for rank in begin..end {
            let row = of_template[rank];
            if template.told[rank] == Told::Fails || !rows.matched.has(row) {
                continue;
            }
            if template.told[rank] == Told::Unknown {
                rows.left.push(row);
                continue;
            }
            rows.passed += 1;
            let group = ids.as_ref().map_or(0, |ids| ids.iter().fold(0, |g, (ids, n)| g * n + ids[rank] as usize));
            let group = &mut gathered[group];
            if group.times.is_empty() {
                group.first_rank = rank;
            }
            group.times.push(rows.times[row as usize]);
            if let Worth::Values(values) | Worth::Weighted(values) = worth {
                group.values.push(values[rank]);
            }
            rows.weighted += u64::from(matches!(worth, Worth::Weighted(_)));
            if ids.is_none() {
                flush(template, key, &run.labels, group, table)?;
            }
        }
        for group in &mut gathered {
            flush(template, key, &run.labels, group, table)?;
        }
    }
    Ok(())
}

fn flush(
    template: &Template<'_>,
    key: &Key,
    stream: &Labels,
    group: &mut Gathered,
    table: &mut Table,
) -> Result<(), QueryError> {
    if group.times.is_empty() {
        return Ok(());
    }
    let (mut pairs, mut text) = (Vec::with_capacity(key.len()), Vec::new());
    for (name, source) in key {
        let value = template.value(source, group.first_rank, stream, &mut text, |value| value.map(str::to_owned))?;
        pairs.extend(value.map(|value| (name.as_str(), value)));
    }
    let pairs = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let idx = table.series_of_pairs(pairs)?;
    table.add_all(idx, &group.times, &group.values)?;
    group.times.clear();
    group.values.clear();
    Ok(())
}
