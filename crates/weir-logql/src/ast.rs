//! What a query says, regular expressions already compiled.

use weir_model::Matcher;

use crate::pipeline::ip::IpMatcher;
use crate::pipeline::json::JsonPath;
use crate::pipeline::line_pattern::LinePattern;
use crate::pipeline::pattern::PatternParser;
use crate::pipeline::template::LineTemplate;

#[derive(Clone, Debug)]
pub enum Expr {
    Log(LogExpr),
    Metric(MetricExpr),
}

/// A selector and its pipeline.
#[derive(Clone, Debug)]
pub struct LogExpr {
    pub matchers: Vec<Matcher>,
    pub stages: Vec<Stage>,
}

#[derive(Clone, Debug)]
pub enum Stage {
    Line(LineFilter),
    /// `| json`, or with expressions only these paths.
    Json(Vec<(String, JsonPath, String)>),
    Logfmt {
        strict: bool,
        keep_empty: bool,
        fields: Vec<(String, String)>,
    },
    Pattern(PatternParser),
    Regexp(regex::Regex),
    Unpack,
    Label(LabelFilter),
    LineFormat(LineTemplate),
    LabelFormat(Vec<LabelFormat>),
    Decolorize,
    Drop(Vec<LabelPick>),
    Keep(Vec<LabelPick>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineOp {
    Contains,
    NotContains,
    Regex,
    NotRegex,
    Pattern,
    NotPattern,
}

impl LineOp {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contains => "|=",
            Self::NotContains => "!=",
            Self::Regex => "|~",
            Self::NotRegex => "!~",
            Self::Pattern => "|>",
            Self::NotPattern => "!>",
        }
    }
    pub fn is_negative(self) -> bool {
        matches!(self, Self::NotContains | Self::NotRegex | Self::NotPattern)
    }
}

/// One filter with its `or` alternatives: a positive one wants any of them, a negative one none.
#[derive(Clone, Debug)]
pub struct LineFilter {
    pub op: LineOp,
    pub needles: Vec<Needle>,
}

#[derive(Clone, Debug)]
pub enum Needle {
    Text(String),
    Regex(regex::Regex),
    Pattern(LinePattern),
    Ip(IpMatcher),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

impl Compare {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Less => "<",
            Self::LessEqual => "<=",
        }
    }
    pub fn holds(self, a: f64, b: f64) -> bool {
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

#[derive(Clone, Debug)]
pub enum LabelFilter {
    And(Box<LabelFilter>, Box<LabelFilter>),
    Or(Box<LabelFilter>, Box<LabelFilter>),
    Text(Matcher),
    Number {
        name: String,
        op: Compare,
        value: f64,
    },
    /// Nanoseconds.
    Duration {
        name: String,
        op: Compare,
        value: i64,
    },
    Bytes {
        name: String,
        op: Compare,
        value: f64,
        text: String,
    },
    Ip {
        name: String,
        negated: bool,
        ip: IpMatcher,
    },
}

/// `to=from` moves a label, `to="{{…}}"` makes one.
#[derive(Clone, Debug)]
pub enum LabelFormat {
    Rename { to: String, from: String },
    Template { to: String, template: LineTemplate },
}

impl LabelFormat {
    pub fn to(&self) -> &str {
        match self {
            Self::Rename { to, .. } | Self::Template { to, .. } => to,
        }
    }
}

/// A label by name, or only where its value matches.
#[derive(Clone, Debug)]
pub struct LabelPick {
    pub name: String,
    pub matcher: Option<Matcher>,
}

impl LabelPick {
    pub fn picks(&self, name: &str, value: &str) -> bool {
        self.name == name && self.matcher.as_ref().is_none_or(|m| m.matches(value))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    Number,
    /// To seconds.
    Duration,
    Bytes,
}

#[derive(Clone, Debug)]
pub struct Unwrap {
    pub label: String,
    pub conversion: Conversion,
    /// The function as written; `duration` and `duration_seconds` are one.
    pub function: Option<String>,
    pub filters: Vec<LabelFilter>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grouping {
    pub without: bool,
    pub labels: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeOp {
    Rate,
    RateCounter,
    CountOverTime,
    BytesRate,
    BytesOverTime,
    AbsentOverTime,
    SumOverTime,
    AvgOverTime,
    MinOverTime,
    MaxOverTime,
    StddevOverTime,
    StdvarOverTime,
    QuantileOverTime,
    FirstOverTime,
    LastOverTime,
}

impl RangeOp {
    pub const ALL: &'static [(&'static str, RangeOp)] = &[
        ("rate", Self::Rate),
        ("rate_counter", Self::RateCounter),
        ("count_over_time", Self::CountOverTime),
        ("bytes_rate", Self::BytesRate),
        ("bytes_over_time", Self::BytesOverTime),
        ("absent_over_time", Self::AbsentOverTime),
        ("sum_over_time", Self::SumOverTime),
        ("avg_over_time", Self::AvgOverTime),
        ("min_over_time", Self::MinOverTime),
        ("max_over_time", Self::MaxOverTime),
        ("stddev_over_time", Self::StddevOverTime),
        ("stdvar_over_time", Self::StdvarOverTime),
        ("quantile_over_time", Self::QuantileOverTime),
        ("first_over_time", Self::FirstOverTime),
        ("last_over_time", Self::LastOverTime),
    ];
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, op)| *op == self).map_or("", |(name, _)| name)
    }
    pub fn needs_unwrap(self) -> bool {
        !self.allows_plain()
    }
    pub fn allows_plain(self) -> bool {
        matches!(self, Self::Rate | Self::CountOverTime | Self::BytesRate | Self::BytesOverTime | Self::AbsentOverTime)
    }
    pub fn allows_unwrap(self) -> bool {
        !matches!(self, Self::CountOverTime | Self::BytesRate | Self::BytesOverTime)
    }
    pub fn allows_grouping(self) -> bool {
        matches!(
            self,
            Self::AvgOverTime
                | Self::MinOverTime
                | Self::MaxOverTime
                | Self::StddevOverTime
                | Self::StdvarOverTime
                | Self::QuantileOverTime
                | Self::FirstOverTime
                | Self::LastOverTime
        )
    }
}

#[derive(Clone, Debug)]
pub struct RangeAggregation {
    pub op: RangeOp,
    /// φ of `quantile_over_time`.
    pub param: Option<f64>,
    pub log: LogExpr,
    pub unwrap: Option<Unwrap>,
    pub range_nanos: i64,
    pub offset_nanos: i64,
    pub grouping: Option<Grouping>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    ApproxTopk,
    Sort,
    SortDesc,
}

impl VectorOp {
    pub const ALL: &'static [(&'static str, VectorOp)] = &[
        ("sum", Self::Sum),
        ("avg", Self::Avg),
        ("min", Self::Min),
        ("max", Self::Max),
        ("count", Self::Count),
        ("stddev", Self::Stddev),
        ("stdvar", Self::Stdvar),
        ("topk", Self::Topk),
        ("bottomk", Self::Bottomk),
        ("approx_topk", Self::ApproxTopk),
        ("sort", Self::Sort),
        ("sort_desc", Self::SortDesc),
    ];
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, op)| *op == self).map_or("", |(name, _)| name)
    }
    pub fn needs_param(self) -> bool {
        matches!(self, Self::Topk | Self::Bottomk | Self::ApproxTopk)
    }
    pub fn allows_grouping(self) -> bool {
        !matches!(self, Self::Sort | Self::SortDesc | Self::ApproxTopk)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    Or,
    And,
    Unless,
    Compare(Compare),
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

impl BinaryOp {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Unless => "unless",
            Self::Compare(op) => op.as_str(),
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
        }
    }
    pub fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }
    /// Higher binds tighter, as in PromQL.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Compare(_) => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod => 5,
            Self::Pow => 6,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cardinality {
    #[default]
    OneToOne,
    /// `group_left`: many on the left.
    ManyToOne,
    /// `group_right`.
    OneToMany,
}

#[derive(Clone, Debug, Default)]
pub struct Matching {
    pub return_bool: bool,
    /// `on` when true, else `ignoring`.
    pub on: bool,
    /// Whether `on` or `ignoring` was written.
    pub written: bool,
    pub labels: Vec<String>,
    pub cardinality: Cardinality,
    pub include: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum MetricExpr {
    Range(Box<RangeAggregation>),
    Vector {
        op: VectorOp,
        param: Option<usize>,
        grouping: Option<Grouping>,
        expr: Box<MetricExpr>,
    },
    Binary {
        op: BinaryOp,
        lhs: Box<MetricExpr>,
        rhs: Box<MetricExpr>,
        matching: Matching,
    },
    Literal(f64),
    /// `vector(s)`: one series without labels.
    Constant(f64),
    LabelReplace {
        expr: Box<MetricExpr>,
        dst: String,
        replacement: String,
        src: String,
        /// Anchored, and its source.
        regex: regex::Regex,
        pattern: String,
    },
}
