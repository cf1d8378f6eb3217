//! Spans that are in no block yet, seen as columns.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::source::{ReadContext, ReadError, SpanBatch, SpanColumns, SpanForm, ValueCode};
use weir_model::{AttrValue, Nanos, Reservation, Span, SpanKind, StatusCode, TraceId};

use super::encode::{BOOL, DOUBLE, INT, type_of};
use super::head::Head;
use super::scan::LeftOut;

const BATCH_ROWS: usize = 4096;
/// What a span takes here beside itself.
const ROW_BYTES: u64 = 16;

#[derive(PartialEq, Eq, Hash)]
struct FormKey {
    /// By address: the spans keep them alive.
    resource: usize,
    scope: usize,
    name: Arc<str>,
    kind: SpanKind,
    code: StatusCode,
    message: Arc<str>,
}

pub struct HeldSpans {
    table: u64,
    attributes: Vec<String>,
    spans: Vec<Arc<Span>>,
    at: std::ops::Range<usize>,
    forms: Vec<SpanForm>,
    /// Of each span.
    form_of: Vec<u32>,
    /// Of each attribute, the codes of the spans and the values that are no plain numbers.
    codes: Vec<Vec<ValueCode>>,
    values: Vec<AttrValue>,
    bounds: (Nanos, Nanos),
    _memory: Reservation,
}

impl HeldSpans {
    pub fn new(
        table: u64,
        head: &Head,
        columns: &SpanColumns,
        left_out: LeftOut,
        context: &ReadContext,
    ) -> Result<Self, ReadError> {
        let counts = |span: &&Arc<Span>| {
            columns.start <= span.start
                && span.start < columns.end
                && (left_out.is_empty() || !left_out.contains(&(span.trace_id, span.span_id, span.kind)))
        };
        let spans: Vec<Arc<Span>> = head.traces().flat_map(|(_, spans)| spans).filter(counts).cloned().collect();
        let row_bytes = ROW_BYTES * (1 + columns.attributes.len() as u64);
        let memory = context.budget.try_reserve(spans.len() as u64 * row_bytes)?;
        let bounds = spans
            .iter()
            .fold((Nanos::MAX, Nanos::MIN), |(first, last), span| (first.min(span.start), last.max(span.start)));
        let mut held = Self {
            table,
            attributes: columns.attributes.clone(),
            at: 0..0,
            forms: Vec::new(),
            form_of: Vec::with_capacity(spans.len()),
            codes: Vec::new(),
            values: Vec::new(),
            spans,
            bounds,
            _memory: memory,
        };
        held.find_forms();
        held.find_codes();
        Ok(held)
    }

    fn find_forms(&mut self) {
        let mut known: AHashMap<FormKey, u32> = AHashMap::new();
        for span in &self.spans {
            let key = FormKey {
                resource: Arc::as_ptr(&span.resource).addr(),
                scope: Arc::as_ptr(&span.scope).addr(),
                name: span.name.clone(),
                kind: span.kind,
                code: span.status.code,
                message: span.status.message.clone(),
            };
            let forms = &mut self.forms;
            let number = *known.entry(key).or_insert_with(|| {
                forms.push(form_of(span));
                forms.len() as u32 - 1
            });
            self.form_of.push(number);
        }
    }

    fn find_codes(&mut self) {
        for name in &self.attributes {
            let mut known: AHashMap<Arc<str>, u64> = AHashMap::new();
            let values = &mut self.values;
            let mut push = |value: &AttrValue| {
                values.push(value.clone());
                values.len() as u64 - 1
            };
            let mut code = |span: &Arc<Span>| {
                let Some(value) = span.get(name) else { return ValueCode::ABSENT };
                let raw = match value {
                    AttrValue::Int(v) => *v as u64,
                    AttrValue::Bool(v) => u64::from(*v),
                    AttrValue::Double(v) => v.to_bits(),
                    AttrValue::Str(text) => match known.get(text) {
                        Some(number) => *number,
                        None => {
                            let number = push(value);
                            known.insert(text.clone(), number);
                            number
                        }
                    },
                    other => push(other),
                };
                ValueCode { column: u32::from(type_of(value)), raw }
            };
            self.codes.push(self.spans.iter().map(&mut code).collect());
        }
    }

    pub fn advance(&mut self) -> bool {
        let from = self.at.end;
        self.at = from..(from + BATCH_ROWS).min(self.spans.len());
        !self.at.is_empty()
    }
}

fn form_of(span: &Span) -> SpanForm {
    SpanForm {
        name: span.name.clone(),
        kind: span.kind,
        status: span.status.clone(),
        resource: span.resource.clone(),
        scope: span.scope.clone(),
    }
}

impl SpanBatch for &HeldSpans {
    fn n_rows(&self) -> usize {
        self.at.len()
    }
    fn n_traces(&self) -> usize {
        let ids = |pair: &[Arc<Span>]| pair.len() == 2 && pair[0].trace_id != pair[1].trace_id;
        1 + self.spans[self.at.clone()].windows(2).filter(|pair| ids(pair)).count()
    }
    fn table(&self) -> u64 {
        self.table
    }
    fn bounds(&self) -> (Nanos, Nanos) {
        self.bounds
    }
    fn forms(&self, out: &mut Vec<u32>) {
        out.extend_from_slice(&self.form_of[self.at.clone()]);
    }
    fn form(&self, number: u32) -> Result<SpanForm, ReadError> {
        self.forms.get(number as usize).cloned().ok_or_else(|| ReadError::Storage("a form is missing".to_owned()))
    }
    fn starts(&self, out: &mut Vec<i64>) {
        out.extend(self.spans[self.at.clone()].iter().map(|span| span.start.0));
    }
    fn durations(&self, out: &mut Vec<i64>) {
        out.extend(self.spans[self.at.clone()].iter().map(|span| span.duration_nanos()));
    }
    fn has_values(&self, k: usize) -> bool {
        self.codes[k][self.at.clone()].iter().any(|code| *code != ValueCode::ABSENT)
    }
    fn values(&self, k: usize, out: &mut Vec<ValueCode>) {
        out.extend_from_slice(&self.codes[k][self.at.clone()]);
    }
    fn value(&self, _k: usize, code: ValueCode) -> Result<Option<AttrValue>, ReadError> {
        let kind = u8::try_from(code.column).unwrap_or(u8::MAX);
        Ok(match kind {
            _ if code == ValueCode::ABSENT => None,
            INT => Some(AttrValue::Int(code.raw as i64)),
            BOOL => Some(AttrValue::Bool(code.raw != 0)),
            DOUBLE => Some(AttrValue::Double(f64::from_bits(code.raw))),
            _ => self.values.get(code.raw as usize).cloned(),
        })
    }
    fn trace_id(&self, row: usize) -> TraceId {
        self.spans[self.at.start + row].trace_id
    }
    fn times(&self, row: usize) -> Result<(Nanos, Nanos), ReadError> {
        let span = &self.spans[self.at.start + row];
        Ok((span.start, span.end))
    }
}
