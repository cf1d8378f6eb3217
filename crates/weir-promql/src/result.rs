//! What a query answers.

use std::sync::Arc;
use weir_model::source::{ReadError, SeriesData};

use weir_model::{BudgetExceeded, FloatHistogram, Labels, Sample, Timestamp};

use crate::ast::ValueType;

#[derive(Clone, Debug)]
pub struct QueryResult {
    pub value: Value,
    /// Something is wrong with the data or the query; the value may mislead.
    pub warnings: Vec<String>,
    /// Something looks odd.
    pub infos: Vec<String>,
    pub stats: Stats,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// In the order of `sort` or `topk` where the query asks for one, else sorted by labels.
    Vector(Vec<VectorSample>),
    /// Sorted by labels; no series is empty.
    Matrix(Vec<SeriesData>),
    Scalar(Sample),
    String(Timestamp, String),
}

impl Value {
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Vector(_) => ValueType::Vector,
            Self::Matrix(_) => ValueType::Matrix,
            Self::Scalar(_) => ValueType::Scalar,
            Self::String(..) => ValueType::String,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    pub labels: Labels,
    pub at: Timestamp,
    /// NaN where there is a histogram.
    pub value: f64,
    pub histogram: Option<Arc<FloatHistogram>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples that selectors saw, summed over steps.
    pub samples_total: u64,
    /// Most memory that the query held at once, in samples of 16 bytes.
    pub samples_peak: u64,
    pub series: u64,
    /// Of `samples_total`, those seen at each step.
    pub samples_per_step: Vec<u64>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    /// The request itself is wrong: too many points, end before start, wrong type.
    #[error("{0}")]
    Bad(String),
    /// The data does not fit the query, for instance many-to-many matching.
    #[error("{0}")]
    Execution(String),
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    #[error("query timed out in query execution")]
    Timeout,
    #[error("query was canceled in query execution")]
    Cancelled,
    #[error(transparent)]
    Budget(BudgetExceeded),
    #[error("{0}")]
    Storage(String),
}

impl From<ReadError> for QueryError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Budget(full) => Self::Budget(full),
            ReadError::Cancelled => Self::Cancelled,
            ReadError::Storage(text) => Self::Storage(text),
        }
    }
}
