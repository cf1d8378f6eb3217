//! The list of functions: name, signature, and the room that computes each.

use crate::ast::ValueType::{self, Matrix as M, Scalar as S, String as St, Vector as V};
use crate::eval::{date, math, native, over_time, rate, window::WindowFn};
use weir_model::FloatHistogram;
use weir_model::source::Rollup;

/// A function as the language sees it.
pub struct Function {
    pub name: &'static str,
    pub args: &'static [ValueType],
    /// 0: exactly `args`. n > 0: the last argument may be left out or given up to n times.
    /// -1: any number of times, none included.
    pub variadic: i32,
    pub returns: ValueType,
    /// Behind `promql-experimental-functions` upstream; weir has it at all times.
    pub experimental: bool,
    pub(crate) imp: Imp,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Imp {
    /// Over the samples of a range vector, one window per step.
    Window(WindowFn),
    /// Over each value of an instant vector.
    Math(fn(f64) -> f64),
    /// Over each native histogram of an instant vector.
    Figure(fn(&FloatHistogram) -> f64),
    /// Over times in seconds; without an argument the step's own.
    Date(fn(f64) -> f64),
    Special(Special),
}

/// What needs more than one series, or the arguments themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Absent,
    AbsentOverTime,
    Clamp,
    ClampMin,
    ClampMax,
    End,
    HistogramFraction,
    HistogramQuantile,
    HistogramQuantiles,
    Info,
    LabelJoin,
    LabelReplace,
    MaxOf,
    MinOf,
    Pi,
    Range,
    Round,
    Scalar,
    Sort { descending: bool },
    SortByLabel { descending: bool },
    Start,
    Step,
    Time,
    Timestamp,
    Vector,
}

/// The function called `name`; names are case-sensitive.
pub fn find(name: &str) -> Option<&'static Function> {
    ALL.binary_search_by(|f| f.name.cmp(name)).ok().map(|idx| &ALL[idx])
}

const fn window(name: &'static str, f: WindowFn) -> Function {
    Function { name, args: &[M], variadic: 0, returns: V, experimental: false, imp: Imp::Window(f) }
}
const fn window_with(name: &'static str, args: &'static [ValueType], f: WindowFn) -> Function {
    Function { name, args, variadic: 0, returns: V, experimental: false, imp: Imp::Window(f) }
}
const fn math(name: &'static str, f: fn(f64) -> f64) -> Function {
    Function { name, args: &[V], variadic: 0, returns: V, experimental: false, imp: Imp::Math(f) }
}
const fn figure(name: &'static str, f: fn(&FloatHistogram) -> f64) -> Function {
    Function { name, args: &[V], variadic: 0, returns: V, experimental: false, imp: Imp::Figure(f) }
}
const fn date(name: &'static str, f: fn(f64) -> f64) -> Function {
    Function { name, args: &[V], variadic: 1, returns: V, experimental: false, imp: Imp::Date(f) }
}
const fn special(
    name: &'static str,
    args: &'static [ValueType],
    variadic: i32,
    returns: ValueType,
    which: Special,
) -> Function {
    Function { name, args, variadic, returns, experimental: false, imp: Imp::Special(which) }
}

impl Function {
    /// What it needs of a bucket of samples.
    pub(crate) fn rollup(&self) -> Rollup {
        match self.imp {
            Imp::Window(function) => function.buckets.rollup,
            _ => Rollup::Last,
        }
    }

    const fn behind_a_flag(mut self) -> Self {
        self.experimental = true;
        self
    }
}

/// Every function, sorted by name.
pub static ALL: &[Function] = &[
    math("abs", f64::abs),
    special("absent", &[V], 0, V, Special::Absent),
    special("absent_over_time", &[M], 0, V, Special::AbsentOverTime),
    math("acos", f64::acos),
    math("acosh", f64::acosh),
    math("asin", f64::asin),
    math("asinh", f64::asinh),
    math("atan", f64::atan),
    math("atanh", f64::atanh),
    window("avg_over_time", over_time::AVG),
    math("ceil", f64::ceil),
    window("changes", over_time::CHANGES),
    special("clamp", &[V, S, S], 0, V, Special::Clamp),
    special("clamp_max", &[V, S], 0, V, Special::ClampMax),
    special("clamp_min", &[V, S], 0, V, Special::ClampMin),
    math("cos", f64::cos),
    math("cosh", f64::cosh),
    window("count_over_time", over_time::COUNT),
    date("day_of_month", date::day_of_month),
    date("day_of_week", date::day_of_week),
    date("day_of_year", date::day_of_year),
    date("days_in_month", date::days_in_month),
    math("deg", math::deg),
    window("delta", rate::DELTA),
    window("deriv", rate::DERIV),
    window_with("double_exponential_smoothing", &[M, S, S], over_time::DOUBLE_EXPONENTIAL).behind_a_flag(),
    special("end", &[], 0, S, Special::End).behind_a_flag(),
    math("exp", f64::exp),
    window("first_over_time", over_time::FIRST),
    math("floor", f64::floor),
    figure("histogram_avg", native::avg),
    figure("histogram_count", native::count),
    special("histogram_fraction", &[S, S, V], 0, V, Special::HistogramFraction),
    special("histogram_quantile", &[S, V], 0, V, Special::HistogramQuantile),
    special("histogram_quantiles", &[V, St, S, S], 9, V, Special::HistogramQuantiles).behind_a_flag(),
    figure("histogram_stddev", native::stddev),
    figure("histogram_stdvar", native::stdvar),
    figure("histogram_sum", native::sum),
    date("hour", date::hour),
    window("idelta", rate::IDELTA),
    window("increase", rate::INCREASE),
    special("info", &[V, V], 1, V, Special::Info).behind_a_flag(),
    window("irate", rate::IRATE),
    special("label_join", &[V, St, St, St], -1, V, Special::LabelJoin),
    special("label_replace", &[V, St, St, St, St], 0, V, Special::LabelReplace),
    window("last_over_time", over_time::LAST),
    math("ln", f64::ln),
    math("log10", f64::log10),
    math("log2", f64::log2),
    window("mad_over_time", over_time::MAD).behind_a_flag(),
    special("max_of", &[S, S], 0, S, Special::MaxOf).behind_a_flag(),
    window("max_over_time", over_time::MAX),
    special("min_of", &[S, S], 0, S, Special::MinOf).behind_a_flag(),
    window("min_over_time", over_time::MIN),
    date("minute", date::minute),
    date("month", date::month),
    special("pi", &[], 0, S, Special::Pi),
    window_with("predict_linear", &[M, S], rate::PREDICT_LINEAR),
    window("present_over_time", over_time::PRESENT),
    window_with("quantile_over_time", &[S, M], over_time::QUANTILE),
    math("rad", math::rad),
    special("range", &[], 0, S, Special::Range).behind_a_flag(),
    window("rate", rate::RATE),
    window("resets", over_time::RESETS),
    special("round", &[V, S], 1, V, Special::Round),
    special("scalar", &[V], 0, S, Special::Scalar),
    math("sgn", math::sgn),
    math("sin", f64::sin),
    math("sinh", f64::sinh),
    special("sort", &[V], 0, V, Special::Sort { descending: false }),
    special("sort_by_label", &[V, St], -1, V, Special::SortByLabel { descending: false }).behind_a_flag(),
    special("sort_by_label_desc", &[V, St], -1, V, Special::SortByLabel { descending: true }).behind_a_flag(),
    special("sort_desc", &[V], 0, V, Special::Sort { descending: true }),
    math("sqrt", f64::sqrt),
    special("start", &[], 0, S, Special::Start).behind_a_flag(),
    window("stddev_over_time", over_time::STDDEV),
    window("stdvar_over_time", over_time::STDVAR),
    special("step", &[], 0, S, Special::Step).behind_a_flag(),
    window("sum_over_time", over_time::SUM),
    math("tan", f64::tan),
    math("tanh", f64::tanh),
    special("time", &[], 0, S, Special::Time),
    special("timestamp", &[V], 0, V, Special::Timestamp),
    window("ts_of_first_over_time", over_time::TS_OF_FIRST).behind_a_flag(),
    window("ts_of_last_over_time", over_time::TS_OF_LAST).behind_a_flag(),
    window("ts_of_max_over_time", over_time::TS_OF_MAX).behind_a_flag(),
    window("ts_of_min_over_time", over_time::TS_OF_MIN).behind_a_flag(),
    special("vector", &[S], 0, V, Special::Vector),
    date("year", date::year),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_so_that_every_name_is_found() {
        assert!(ALL.is_sorted_by(|a, b| a.name < b.name));
        for function in ALL {
            assert_eq!(find(function.name).map(|f| f.name), Some(function.name));
        }
        assert!(find("RATE").is_none());
    }
}
