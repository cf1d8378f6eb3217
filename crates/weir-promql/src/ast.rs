//! The syntax tree. Every node knows where in the query it stands.

use std::time::Duration;

use weir_model::{Matcher, Timestamp};

use crate::function::Function;

/// Bytes `start..end` of the query, and line and column (in bytes, from 1) of the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    Scalar,
    Vector,
    Matrix,
    String,
}

impl ValueType {
    /// As the HTTP API names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::String => "string",
        }
    }

    /// As error messages name it.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::String => "string",
        }
    }
}

/// A checked expression. Its tree is at most [`Expr::MAX_DEPTH`] deep, so recursion over it is safe.
#[derive(Clone, Debug)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
    depth: u16,
}

#[derive(Clone, Debug)]
pub enum ExprKind {
    Number(f64),
    String(String),
    Vector(VectorSelector),
    Matrix(VectorSelector, Duration),
    Subquery(Subquery),
    Call(Call),
    Aggregate(Aggregate),
    Binary(Binary),
    Unary { negative: bool, expr: Box<Expr> },
    Paren(Box<Expr>),
}

/// The instant that `@` fixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Time(Timestamp),
    /// `start()`: the first step of the whole query.
    Start,
    End,
}

/// How a selector reaches past its own time for samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// A range begins with the newest sample before it.
    Anchored,
    /// Values at the edges are interpolated from the samples around.
    Smoothed,
}

impl Extended {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anchored => "anchored",
            Self::Smoothed => "smoothed",
        }
    }
}

/// Arithmetic in place of a duration; its value is known once the query's times are.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationExpr {
    /// Seconds; `true` when it was written with units.
    Literal(f64, bool),
    Step,
    Range,
    MinOf(Box<Self>, Box<Self>),
    MaxOf(Box<Self>, Box<Self>),
    Binary(BinaryOp, Box<Self>, Box<Self>),
    Unary {
        negative: bool,
        expr: Box<Self>,
    },
    Paren(Box<Self>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct VectorSelector {
    /// The metric name where it was written outside label matching; it is among `matchers` as well.
    pub name: Option<String>,
    pub matchers: Vec<Matcher>,
    pub offset_ms: i64,
    pub at: Option<At>,
    pub extended: Option<Extended>,
    /// What `offset_ms` is computed from, where it was written as an expression.
    pub offset_expr: Option<Box<DurationExpr>>,
    /// What the range of a matrix is computed from, where it was written as an expression.
    pub range_expr: Option<Box<DurationExpr>>,
    /// Which of a plan's fetches holds the data; the parser leaves it 0.
    pub(crate) slot: usize,
}

impl VectorSelector {
    pub(crate) fn has_offset(&self) -> bool {
        self.offset_ms != 0 || self.offset_expr.is_some()
    }
}

#[derive(Clone, Debug)]
pub struct Subquery {
    pub expr: Box<Expr>,
    pub range: Duration,
    /// `None`: the engine's default.
    pub step: Option<Duration>,
    pub offset_ms: i64,
    pub at: Option<At>,
    pub range_expr: Option<Box<DurationExpr>>,
    pub step_expr: Option<Box<DurationExpr>>,
    pub offset_expr: Option<Box<DurationExpr>>,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub function: &'static Function,
    pub args: Vec<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    pub const ALL: [(&'static str, Self); 14] = [
        ("sum", Self::Sum),
        ("avg", Self::Avg),
        ("count", Self::Count),
        ("min", Self::Min),
        ("max", Self::Max),
        ("group", Self::Group),
        ("stddev", Self::Stddev),
        ("stdvar", Self::Stdvar),
        ("topk", Self::Topk),
        ("bottomk", Self::Bottomk),
        ("count_values", Self::CountValues),
        ("quantile", Self::Quantile),
        ("limitk", Self::Limitk),
        ("limit_ratio", Self::LimitRatio),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, op)| *op == self).map_or("", |(name, _)| name)
    }

    /// Whether a first argument parametrises it.
    pub fn takes_param(self) -> bool {
        matches!(
            self,
            Self::Topk | Self::Bottomk | Self::CountValues | Self::Quantile | Self::Limitk | Self::LimitRatio
        )
    }
}

#[derive(Clone, Debug)]
pub struct Aggregate {
    pub op: AggregateOp,
    pub expr: Box<Expr>,
    pub param: Option<Box<Expr>>,
    pub grouping: Vec<String>,
    pub without: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    And,
    Or,
    Unless,
    /// Cuts off a histogram's observations above a value.
    TrimUpper,
    /// Cuts off a histogram's observations below a value.
    TrimLower,
}

impl BinaryOp {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Gt => ">",
            Self::Lt => "<",
            Self::Ge => ">=",
            Self::Le => "<=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
        }
    }

    pub fn is_comparison(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Gt | Self::Lt | Self::Ge | Self::Le)
    }

    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// Higher binds tighter; all but `^` group to the left.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Eq | Self::Ne | Self::Gt | Self::Lt | Self::Ge | Self::Le => 3,
            Self::TrimUpper | Self::TrimLower => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorMatching {
    pub card: Cardinality,
    pub labels: Vec<String>,
    /// `on (labels)`; otherwise `ignoring (labels)`.
    pub on: bool,
    /// Labels that `group_left` or `group_right` takes over from the one side.
    pub include: Vec<String>,
    /// Stands in for a series that one side lacks.
    pub fill_left: Option<f64>,
    pub fill_right: Option<f64>,
}

#[derive(Clone, Debug)]
pub struct Binary {
    pub op: BinaryOp,
    pub lhs: Box<Expr>,
    pub rhs: Box<Expr>,
    pub return_bool: bool,
    /// Present exactly between two instant vectors.
    pub matching: Option<VectorMatching>,
}

impl Expr {
    /// Deepest nesting that is parsed: bounds the stack of every walk over the tree.
    pub const MAX_DEPTH: u16 = 256;

    pub(crate) fn new(kind: ExprKind, span: Span) -> Self {
        let mut depth = 0;
        kind.for_each_child(&mut |child| depth = depth.max(child.depth));
        Self { kind, span, depth: depth + 1 }
    }

    pub(crate) fn depth(&self) -> u16 {
        self.depth
    }

    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number(_) => ValueType::Scalar,
            ExprKind::String(_) => ValueType::String,
            ExprKind::Vector(_) | ExprKind::Aggregate(_) => ValueType::Vector,
            ExprKind::Matrix(..) | ExprKind::Subquery(_) => ValueType::Matrix,
            ExprKind::Call(call) => call.function.returns,
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => expr.value_type(),
            ExprKind::Binary(b) => match (b.lhs.value_type(), b.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
        }
    }

    /// The expression inside any parentheses.
    pub fn unparen(&self) -> &Self {
        match &self.kind {
            ExprKind::Paren(inner) => inner.unparen(),
            _ => self,
        }
    }

    /// Calls `visit` on this node and all below it, parents first, left to right.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Self)) {
        visit(self);
        self.kind.for_each_child(&mut |child| child.walk(visit));
    }
}

impl ExprKind {
    /// Calls `visit` on the nodes just below, left to right.
    pub fn for_each_child<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        match self {
            Self::Number(_) | Self::String(_) | Self::Vector(_) | Self::Matrix(..) => {}
            Self::Subquery(sub) => visit(&sub.expr),
            Self::Call(call) => call.args.iter().for_each(visit),
            Self::Aggregate(agg) => {
                if let Some(param) = &agg.param {
                    visit(param);
                }
                visit(&agg.expr);
            }
            Self::Binary(b) => {
                visit(&b.lhs);
                visit(&b.rhs);
            }
            Self::Unary { expr, .. } | Self::Paren(expr) => visit(expr),
        }
    }
}
