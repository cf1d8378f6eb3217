//! A trace with its tree.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::{Nanos, Span, SpanId};

/// Spans with parents, nested-set numbers and what concerns the whole trace.
pub(crate) struct Trace<'a> {
    pub(crate) spans: &'a [Arc<Span>],
    /// Index of the parent, where it is in the trace.
    pub(crate) parent: Vec<Option<usize>>,
    pub(crate) children: Vec<u32>,
    /// 0 for spans that no root leads to.
    pub(crate) left: Vec<i64>,
    pub(crate) right: Vec<i64>,
    /// The earliest span without parent.
    pub(crate) root: Option<usize>,
    pub(crate) start: Nanos,
    pub(crate) end: Nanos,
}

impl<'a> Trace<'a> {
    pub(crate) fn new(spans: &'a [Arc<Span>]) -> Self {
        let mut by_id: AHashMap<SpanId, usize> = AHashMap::with_capacity(spans.len());
        for (idx, span) in spans.iter().enumerate() {
            // Two spans may share an id (client and server of old Zipkin clients); the first is the parent.
            by_id.entry(span.span_id).or_insert(idx);
        }
        let parent: Vec<Option<usize>> = spans
            .iter()
            .enumerate()
            .map(|(idx, span)| span.parent.and_then(|id| by_id.get(&id).copied()).filter(|p| *p != idx))
            .collect();
        let mut trace = Self {
            spans,
            children: vec![0; spans.len()],
            left: vec![0; spans.len()],
            right: vec![0; spans.len()],
            root: (0..spans.len()).filter(|i| spans[*i].parent.is_none()).min_by_key(|i| spans[*i].start),
            start: spans.iter().map(|s| s.start).min().unwrap_or_default(),
            end: spans.iter().map(|s| s.end).max().unwrap_or_default(),
            parent,
        };
        trace.number();
        trace
    }

    /// Nested sets from the roots down, as a walk that enters and leaves each span once.
    fn number(&mut self) {
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); self.spans.len()];
        for (idx, parent) in self.parent.iter().enumerate() {
            if let Some(parent) = parent {
                children[*parent].push(idx);
                self.children[*parent] += 1;
            }
        }
        let mut next = 1;
        for root in (0..self.spans.len()).filter(|i| self.spans[*i].parent.is_none()) {
            let mut stack = vec![(root, 0)];
            self.left[root] = next;
            next += 1;
            while let Some((span, child)) = stack.last_mut() {
                match children[*span].get(*child) {
                    Some(one) => {
                        *child += 1;
                        self.left[*one] = next;
                        next += 1;
                        stack.push((*one, 0));
                    }
                    None => {
                        self.right[*span] = next;
                        next += 1;
                        stack.pop();
                    }
                }
            }
        }
    }

    /// The parent, its parent, and so on; ends even where ids form a ring.
    pub(crate) fn ancestors(&self, span: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(self.parent[span], |idx| self.parent[*idx]).take(self.spans.len())
    }
}
