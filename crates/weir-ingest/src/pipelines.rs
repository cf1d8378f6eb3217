//! Requests of OTLP that go through pipelines before they are stored.

use weir_model::TenantId;
use weir_model::sink::{Outcome, WriteError};
use weir_model::usage::Signal;

use crate::otlp::{ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest};
use crate::sender::SenderRef;

/// Takes requests in place of [`crate::Ingest`]'s own conversion; what is kept comes back by its `write_*`.
///
/// `Ok` is an acknowledgement: what was accepted is stored, or waits where a crash does not reach it.
pub trait OtlpPipelines: Send + Sync {
    /// A signal that it does not take is stored at once.
    fn takes(&self, signal: Signal) -> bool;
    fn traces(
        &self,
        tenant: &TenantId,
        sender: &SenderRef,
        request: ExportTraceServiceRequest,
    ) -> Result<Outcome, WriteError>;
    fn metrics(
        &self,
        tenant: &TenantId,
        sender: &SenderRef,
        request: ExportMetricsServiceRequest,
    ) -> Result<Outcome, WriteError>;
    fn logs(
        &self,
        tenant: &TenantId,
        sender: &SenderRef,
        request: ExportLogsServiceRequest,
    ) -> Result<Outcome, WriteError>;
}
