//! Requests of OTLP that go through pipelines: what these keep on disk while they decide is clean too.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

use super::{DEPTH_MAX, Redactor};
use crate::otlp::{ExportLogsServiceRequest, ExportTraceServiceRequest};

impl Redactor {
    pub fn trace_request(&self, request: &mut ExportTraceServiceRequest) {
        let scopes = request.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans);
        for span in scopes.flat_map(|scope| &mut scope.spans) {
            self.owned(&mut span.name);
            if let Some(status) = &mut span.status {
                self.owned(&mut status.message);
            }
            self.pairs(&mut span.attributes, 0);
            for event in &mut span.events {
                self.owned(&mut event.name);
                self.pairs(&mut event.attributes, 0);
            }
            span.links.iter_mut().for_each(|link| self.pairs(&mut link.attributes, 0));
        }
    }

    pub fn logs_request(&self, request: &mut ExportLogsServiceRequest) {
        let scopes = request.resource_logs.iter_mut().flat_map(|resource| &mut resource.scope_logs);
        for record in scopes.flat_map(|scope| &mut scope.log_records) {
            self.pairs(&mut record.attributes, 0);
            record.body.iter_mut().for_each(|body| self.any(body, 0));
        }
    }

    fn owned(&self, text: &mut String) {
        if let Some(clean) = self.text(text) {
            *text = clean;
        }
    }

    fn pairs(&self, pairs: &mut [KeyValue], depth: usize) {
        pairs.iter_mut().filter_map(|pair| pair.value.as_mut()).for_each(|value| self.any(value, depth));
    }

    fn any(&self, value: &mut AnyValue, depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        match &mut value.value {
            Some(Value::StringValue(text)) => self.owned(text),
            Some(Value::ArrayValue(list)) => list.values.iter_mut().for_each(|value| self.any(value, depth + 1)),
            Some(Value::KvlistValue(map)) => self.pairs(&mut map.values, depth + 1),
            Some(Value::IntValue(number)) => {
                if let Some(clean) = self.text(&number.to_string()) {
                    value.value = Some(Value::StringValue(clean));
                }
            }
            _ => {}
        }
    }
}
