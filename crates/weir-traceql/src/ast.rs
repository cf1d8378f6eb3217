//! What a query says.

use std::sync::Arc;

use weir_model::{Nanos, SpanKind, StatusCode};

#[derive(Clone, Debug)]
pub struct Query {
    pub pipeline: Pipeline,
    pub metrics: Option<MetricsStage>,
    /// `with(most_recent=true)` and the like, as written; unknown ones are carried along.
    pub hints: Vec<(String, Literal)>,
}

impl Query {
    pub fn hint(&self, name: &str) -> Option<&Literal> {
        self.hints.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }
}

#[derive(Clone, Debug)]
pub struct Pipeline {
    pub first: SpansetExpr,
    pub stages: Vec<Stage>,
}

#[derive(Clone, Debug)]
pub enum SpansetExpr {
    Filter(FieldExpr),
    Binary { op: SpansetOp, lhs: Box<SpansetExpr>, rhs: Box<SpansetExpr> },
    Pipeline(Box<Pipeline>),
}

/// How a right-hand span relates to a left-hand one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Child,
    Descendant,
    Parent,
    Ancestor,
    Sibling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Right-hand spans that relate to a left-hand one.
    Right,
    /// Right-hand spans that relate to none.
    Unrelated,
    /// Both sides of each relation.
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpansetOp {
    And,
    Or,
    Structural(Relation, Selection),
}

#[derive(Clone, Debug)]
pub enum Stage {
    Filter(SpansetExpr),
    Compare { lhs: ScalarExpr, op: CompareOp, rhs: ScalarExpr },
    By(FieldExpr, String),
    Coalesce,
    Select(Vec<Field>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateOp {
    Count,
    Avg,
    Min,
    Max,
    Sum,
}

/// One number about a span set.
#[derive(Clone, Debug)]
pub enum ScalarExpr {
    Literal(Literal),
    Aggregate(AggregateOp, Option<FieldExpr>),
    Binary(ArithmeticOp, Box<ScalarExpr>, Box<ScalarExpr>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Nil,
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    Bool(bool),
    /// Nanoseconds.
    Duration(i64),
    Status(StatusCode),
    Kind(SpanKind),
}

impl Literal {
    /// Durations in nanoseconds.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(v) | Self::Duration(v) => Some(*v as f64),
            Self::Float(v) => Some(*v),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

impl CompareOp {
    pub fn holds<T: PartialOrd>(self, a: &T, b: &T) -> bool {
        match self {
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::Greater => a > b,
            Self::GreaterEqual => a >= b,
            Self::Less => a < b,
            Self::LessEqual => a <= b,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArithmeticOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

impl ArithmeticOp {
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Mod => a % b,
            Self::Pow => a.powf(b),
        }
    }
}

#[derive(Clone, Debug)]
pub enum FieldExpr {
    Literal(Literal),
    Field(Field),
    Not(Box<FieldExpr>),
    Negate(Box<FieldExpr>),
    And(Box<FieldExpr>, Box<FieldExpr>),
    Or(Box<FieldExpr>, Box<FieldExpr>),
    Compare(CompareOp, Box<FieldExpr>, Box<FieldExpr>),
    /// The pattern is anchored at both ends.
    Match {
        negated: bool,
        value: Box<FieldExpr>,
        regex: regex::Regex,
    },
    Arithmetic(ArithmeticOp, Box<FieldExpr>, Box<FieldExpr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `.a`: the span's, then the resource's.
    None,
    Span,
    Resource,
    Event,
    Link,
    Instrumentation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intrinsic {
    Name,
    Status,
    StatusMessage,
    Kind,
    Duration,
    SpanId,
    ParentId,
    ChildCount,
    RootName,
    RootService,
    TraceDuration,
    TraceId,
    NestedSetLeft,
    NestedSetRight,
    NestedSetParent,
    EventName,
    EventTimeSinceStart,
    LinkSpanId,
    LinkTraceId,
    InstrumentationName,
    InstrumentationVersion,
    /// The bare word `parent`: present on spans whose parent is in the trace.
    Parent,
}

impl Intrinsic {
    /// Every spelling. The first of each is how answers name it.
    pub const NAMES: &'static [(&'static str, Intrinsic)] = &[
        ("name", Self::Name),
        ("span:name", Self::Name),
        ("status", Self::Status),
        ("span:status", Self::Status),
        ("statusMessage", Self::StatusMessage),
        ("span:statusMessage", Self::StatusMessage),
        ("kind", Self::Kind),
        ("span:kind", Self::Kind),
        ("duration", Self::Duration),
        ("span:duration", Self::Duration),
        ("span:id", Self::SpanId),
        ("span:parentID", Self::ParentId),
        ("span:childCount", Self::ChildCount),
        ("rootName", Self::RootName),
        ("trace:rootName", Self::RootName),
        ("rootServiceName", Self::RootService),
        ("trace:rootService", Self::RootService),
        ("traceDuration", Self::TraceDuration),
        ("trace:duration", Self::TraceDuration),
        ("trace:id", Self::TraceId),
        ("nestedSetLeft", Self::NestedSetLeft),
        ("nestedSetRight", Self::NestedSetRight),
        ("nestedSetParent", Self::NestedSetParent),
        ("event:name", Self::EventName),
        ("event:timeSinceStart", Self::EventTimeSinceStart),
        ("link:spanID", Self::LinkSpanId),
        ("link:traceID", Self::LinkTraceId),
        ("instrumentation:name", Self::InstrumentationName),
        ("instrumentation:version", Self::InstrumentationVersion),
        ("parent", Self::Parent),
    ];
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(_, i)| *i == self).map_or("", |(name, _)| name)
    }
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, i)| *i)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    Intrinsic(Intrinsic),
    /// `of_parent`: of the parent span instead (`parent.span.a`).
    Attribute {
        scope: Scope,
        name: String,
        of_parent: bool,
    },
}

impl Field {
    /// The name alone, as span attributes of a search answer carry it.
    pub fn bare_name(&self) -> &str {
        match self {
            Self::Intrinsic(intrinsic) => intrinsic.as_str(),
            Self::Attribute { name, .. } => name,
        }
    }
}

/// As `by()` labels show it.
impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Intrinsic(intrinsic) => f.write_str(intrinsic.as_str()),
            Self::Attribute { scope, name, of_parent } => {
                let prefix = match scope {
                    Scope::None => ".",
                    Scope::Span => "span.",
                    Scope::Resource => "resource.",
                    Scope::Event => "event.",
                    Scope::Link => "link.",
                    Scope::Instrumentation => "instrumentation.",
                };
                let parent = match (of_parent, scope) {
                    (true, Scope::None) => "parent",
                    (true, _) => "parent.",
                    _ => "",
                };
                write!(f, "{parent}{prefix}{name}")
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsOp {
    Rate,
    CountOverTime,
    MinOverTime,
    MaxOverTime,
    AvgOverTime,
    SumOverTime,
    QuantileOverTime,
    HistogramOverTime,
    Compare,
}

impl MetricsOp {
    pub const ALL: &'static [(&'static str, MetricsOp)] = &[
        ("rate", Self::Rate),
        ("count_over_time", Self::CountOverTime),
        ("min_over_time", Self::MinOverTime),
        ("max_over_time", Self::MaxOverTime),
        ("avg_over_time", Self::AvgOverTime),
        ("sum_over_time", Self::SumOverTime),
        ("quantile_over_time", Self::QuantileOverTime),
        ("histogram_over_time", Self::HistogramOverTime),
        ("compare", Self::Compare),
    ];
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, op)| *op == self).map_or("", |(name, _)| name)
    }
    pub fn needs_field(self) -> bool {
        !matches!(self, Self::Rate | Self::CountOverTime | Self::Compare)
    }
}

/// A stage after the metrics: `| topk(5)`, `> 3`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SecondStage {
    Topk(usize),
    Bottomk(usize),
    Filter(CompareOp, f64),
}

/// The argument of `compare`.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub selection: FieldExpr,
    /// Values shown of each attribute.
    pub top: usize,
    /// Spans that start in [from, to) alone can be selected.
    pub window: Option<(Nanos, Nanos)>,
}

#[derive(Clone, Debug)]
pub struct MetricsStage {
    pub op: MetricsOp,
    pub field: Option<Field>,
    pub quantiles: Vec<f64>,
    pub by: Vec<Field>,
    /// Of `compare` alone.
    pub comparison: Option<Comparison>,
    pub then: Vec<SecondStage>,
}
