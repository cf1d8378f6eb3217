//! What can go wrong in a demo, with what was being done.

use crate::telemetry::TelemetryError;
use crate::topology::{AssignmentError, TopologyError};

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("cannot {doing}")]
    Io { doing: String, source: std::io::Error },
    #[error("cannot {doing}")]
    Kafka { doing: String, source: rdkafka::error::KafkaError },
    #[error("cannot {doing}")]
    Database { doing: String, source: rusqlite::Error },
    #[error("cannot {doing}")]
    Http { doing: String, source: reqwest::Error },
    #[error("{what} is not ready after {seconds} s: {last}")]
    NotReady { what: String, seconds: u64, last: String },
    #[error("`{name}` ended: {status}; its last words are in {log}")]
    ChildEnded { name: String, status: String, log: String },
    #[error("there is no fault `{id}`; GET the list for the ids")]
    NoSuchFault { id: String },
    #[error("`{id}` cannot be broken now: {why}")]
    NotNow { id: String, why: String },
    #[error("a task ended early")]
    Task(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Topology(#[from] TopologyError),
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
}

impl DemoError {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
    pub(crate) fn kafka(doing: impl Into<String>) -> impl FnOnce(rdkafka::error::KafkaError) -> Self {
        let doing = doing.into();
        move |source| Self::Kafka { doing, source }
    }
    pub(crate) fn database(doing: impl Into<String>) -> impl FnOnce(rusqlite::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Database { doing, source }
    }
    pub(crate) fn http(doing: impl Into<String>) -> impl FnOnce(reqwest::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Http { doing, source }
    }

    /// The error and its causes on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}
