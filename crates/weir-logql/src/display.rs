//! Queries as canonical text: what `format_query` answers. Parsing it gives the same query again.

use std::fmt::{self, Display, Formatter};

use weir_model::Matcher;

use crate::ast::*;
use crate::units::format_duration;

/// A string as Go quotes it.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

fn matcher(f: &mut Formatter<'_>, m: &Matcher) -> fmt::Result {
    write!(f, "{}{}{}", m.name, m.op.as_str(), Quoted(&m.value))
}

fn list<T>(
    f: &mut Formatter<'_>,
    items: &[T],
    mut one: impl FnMut(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (idx, item) in items.iter().enumerate() {
        if idx > 0 {
            f.write_str(", ")?;
        }
        one(f, item)?;
    }
    Ok(())
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(log) => log.fmt(f),
            Self::Metric(metric) => metric.fmt(f),
        }
    }
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        list(f, &self.matchers, matcher)?;
        f.write_str("}")?;
        self.stages.iter().try_for_each(|stage| write!(f, " {stage}"))
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pairs = |f: &mut Formatter<'_>, pairs: &[(&str, &str)]| {
            list(f, pairs, |f, (label, source)| write!(f, "{label}={}", Quoted(source)))
        };
        match self {
            Self::Line(filter) => filter.fmt(f),
            Self::Label(filter) => write!(f, "| {filter}"),
            Self::Json(fields) => {
                f.write_str(if fields.is_empty() { "| json" } else { "| json " })?;
                pairs(f, &fields.iter().map(|(l, _, s)| (l.as_str(), s.as_str())).collect::<Vec<_>>())
            }
            Self::Logfmt { strict, keep_empty, fields } => {
                f.write_str("| logfmt")?;
                f.write_str(if *strict { " --strict" } else { "" })?;
                f.write_str(if *keep_empty { " --keep-empty" } else { "" })?;
                f.write_str(if fields.is_empty() { "" } else { " " })?;
                pairs(f, &fields.iter().map(|(l, s)| (l.as_str(), s.as_str())).collect::<Vec<_>>())
            }
            Self::Pattern(pattern) => write!(f, "| pattern {}", Quoted(pattern.source())),
            Self::Regexp(regex) => write!(f, "| regexp {}", Quoted(regex.as_str())),
            Self::Unpack => f.write_str("| unpack"),
            Self::Decolorize => f.write_str("| decolorize"),
            Self::LineFormat(template) => write!(f, "| line_format {}", Quoted(template.source())),
            Self::LabelFormat(formats) => {
                f.write_str("| label_format ")?;
                list(f, formats, |f, one| match one {
                    LabelFormat::Rename { to, from } => write!(f, "{to}={from}"),
                    LabelFormat::Template { to, template } => write!(f, "{to}={}", Quoted(template.source())),
                })
            }
            Self::Drop(picks) | Self::Keep(picks) => {
                f.write_str(if matches!(self, Self::Drop(_)) { "| drop " } else { "| keep " })?;
                list(f, picks, |f, pick| match &pick.matcher {
                    Some(m) => matcher(f, m),
                    None => f.write_str(&pick.name),
                })
            }
        }
    }
}

impl Display for LineFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.op.as_str())?;
        for (idx, needle) in self.needles.iter().enumerate() {
            if idx > 0 {
                f.write_str(" or ")?;
            }
            match needle {
                Needle::Text(text) => Quoted(text).fmt(f)?,
                Needle::Regex(regex) => Quoted(regex.as_str()).fmt(f)?,
                Needle::Pattern(pattern) => Quoted(pattern.source()).fmt(f)?,
                Needle::Ip(ip) => write!(f, "ip({})", Quoted(ip.source()))?,
            }
        }
        Ok(())
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(a, b) => write!(f, "( {a} and {b} )"),
            Self::Or(a, b) => write!(f, "( {a} or {b} )"),
            Self::Text(m) => matcher(f, m),
            Self::Number { name, op, value } => write!(f, "{name}{}{value}", op.as_str()),
            Self::Duration { name, op, value } => write!(f, "{name}{}{}", op.as_str(), format_duration(*value)),
            Self::Bytes { name, op, text, value } => {
                write!(f, "{name}{}{}{text}", op.as_str(), if *value < 0.0 { "-" } else { "" })
            }
            Self::Ip { name, negated, ip } => {
                write!(f, "{name}{}ip({})", if *negated { "!=" } else { "=" }, Quoted(ip.source()))
            }
        }
    }
}

impl Display for Grouping {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {} ({})", if self.without { "without" } else { "by" }, self.labels.join(", "))
    }
}

impl Display for RangeAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.op.as_str())?;
        self.param.iter().try_for_each(|p| write!(f, "{p}, "))?;
        write!(f, "{}", self.log)?;
        if let Some(unwrap) = &self.unwrap {
            match &unwrap.function {
                Some(function) => write!(f, " | unwrap {function}({})", unwrap.label)?,
                None => write!(f, " | unwrap {}", unwrap.label)?,
            }
            unwrap.filters.iter().try_for_each(|filter| write!(f, " | {filter}"))?;
        }
        write!(f, " [{}]", format_duration(self.range_nanos))?;
        if self.offset_nanos != 0 {
            write!(f, " offset {}", format_duration(self.offset_nanos))?;
        }
        f.write_str(")")?;
        self.grouping.iter().try_for_each(|g| g.fmt(f))
    }
}

impl Display for MetricExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => range.fmt(f),
            Self::Vector { op, param, grouping, expr } => {
                f.write_str(op.as_str())?;
                grouping.iter().try_for_each(|g| g.fmt(f))?;
                f.write_str("(")?;
                param.iter().try_for_each(|p| write!(f, "{p}, "))?;
                write!(f, "{expr})")
            }
            Self::Binary { op, lhs, rhs, matching } => {
                write!(f, "({lhs} {}{matching} {rhs})", op.as_str())
            }
            Self::Literal(value) => write!(f, "{value}"),
            Self::Constant(value) => write!(f, "vector({value})"),
            Self::LabelReplace { expr, dst, replacement, src, pattern, .. } => {
                write!(
                    f,
                    "label_replace({expr}, {}, {}, {}, {})",
                    Quoted(dst),
                    Quoted(replacement),
                    Quoted(src),
                    Quoted(pattern)
                )
            }
        }
    }
}

impl Display for Matching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.return_bool {
            f.write_str(" bool")?;
        }
        if self.written {
            write!(f, " {} ({})", if self.on { "on" } else { "ignoring" }, self.labels.join(", "))?;
        }
        match self.cardinality {
            Cardinality::OneToOne => Ok(()),
            Cardinality::ManyToOne => write!(f, " group_left ({})", self.include.join(", ")),
            Cardinality::OneToMany => write!(f, " group_right ({})", self.include.join(", ")),
        }
    }
}
