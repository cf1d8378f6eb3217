//! Functions on numbers.

use weir_go::template::{Functions, Value};

use super::{arg, float, int, text};
use crate::units::parse_bytes;

pub(super) fn register(f: &mut Functions) {
    type OfInts = fn(i64, i64) -> Option<i64>;
    let ints: [(&'static str, OfInts); 7] = [
        // Go's integers wrap around.
        ("add", |a, b| Some(a.wrapping_add(b))),
        ("sub", |a, b| Some(a.wrapping_sub(b))),
        ("mul", |a, b| Some(a.wrapping_mul(b))),
        ("div", i64::checked_div),
        ("mod", i64::checked_rem),
        ("max", |a, b| Some(a.max(b))),
        ("min", |a, b| Some(a.min(b))),
    ];
    for (name, function) in ints {
        f.register(name, move |_, a| {
            let mut total = int(arg(a, 0)?)?;
            for one in &a[1..] {
                total = function(total, int(one)?).ok_or_else(|| "runtime error: integer divide by zero".to_owned())?;
            }
            Ok(Value::Int(total))
        });
    }
    type OfFloats = fn(f64, f64) -> f64;
    let floats: [(&'static str, OfFloats); 6] = [
        ("addf", |a, b| decimal(a, b, Decimal::add).unwrap_or(a + b)),
        ("subf", |a, b| decimal(a, b, Decimal::sub).unwrap_or(a - b)),
        ("mulf", |a, b| decimal(a, b, Decimal::mul).unwrap_or(a * b)),
        ("divf", |a, b| decimal(a, b, Decimal::div).unwrap_or(a / b)),
        ("maxf", f64::max),
        ("minf", f64::min),
    ];
    for (name, function) in floats {
        f.register(name, move |_, a| {
            let mut total = float(arg(a, 0)?)?;
            for one in &a[1..] {
                total = function(total, float(one)?);
            }
            Ok(Value::Float(total))
        });
    }
    f.register("int", |_, a| Ok(Value::Int(int(arg(a, 0)?)?)));
    f.register("float64", |_, a| Ok(Value::Float(float(arg(a, 0)?)?)));
    f.register("ceil", |_, a| Ok(Value::Float(float(arg(a, 0)?)?.ceil())));
    f.register("floor", |_, a| Ok(Value::Float(float(arg(a, 0)?)?.floor())));
    f.register("round", |_, a| {
        let power = 10_f64.powi(int(arg(a, 1)?)?.clamp(-300, 300) as i32);
        Ok(Value::Float((float(arg(a, 0)?)? * power).round() / power))
    });
    f.register("bytes", |_, a| {
        let s = text(a, 0)?;
        parse_bytes(&s).map(Value::Float).ok_or_else(|| format!("cannot read {s:?} as bytes"))
    });
    for name in ["duration", "duration_seconds"] {
        f.register(name, |_, a| {
            let s = text(a, 0)?;
            let nanos =
                weir_go::parse_go_duration(&s).ok().ok_or_else(|| format!("cannot read {s:?} as a duration"))?;
            Ok(Value::Float(nanos as f64 / 1e9))
        });
    }
}

/// A number as its digits and a power of ten: 0.1 and 0.2 make 0.3 here, as with sprig, which
/// computes in decimals too.
#[derive(Clone, Copy)]
struct Decimal {
    digits: i128,
    power: i32,
}

impl Decimal {
    fn of(value: f64) -> Option<Self> {
        let text = format!("{value:e}");
        let (mantissa, power) = text.split_once('e')?;
        let decimals = mantissa.split_once('.').map_or(0, |(_, d)| d.len() as i32);
        Some(Self { digits: mantissa.replace('.', "").parse().ok()?, power: power.parse::<i32>().ok()? - decimals })
    }
    fn aligned(self, other: Self) -> Option<(i128, i128, i32)> {
        let power = self.power.min(other.power);
        let scale = |one: Self| {
            let factor = 10_i128.checked_pow(u32::try_from(one.power - power).ok()?)?;
            one.digits.checked_mul(factor)
        };
        Some((scale(self)?, scale(other)?, power))
    }
    fn add(self, other: Self) -> Option<Self> {
        let (a, b, power) = self.aligned(other)?;
        Some(Self { digits: a.checked_add(b)?, power })
    }
    fn sub(self, other: Self) -> Option<Self> {
        self.add(Self { digits: -other.digits, ..other })
    }
    fn mul(self, other: Self) -> Option<Self> {
        Some(Self { digits: self.digits.checked_mul(other.digits)?, power: self.power + other.power })
    }
    /// To 16 places after the point, half away from zero.
    fn div(self, other: Self) -> Option<Self> {
        const PLACES: i32 = 16;
        let shift = u32::try_from(PLACES + self.power - other.power).ok()?;
        let dividend = self.digits.checked_mul(10_i128.checked_pow(shift)?)?;
        let quotient = dividend.checked_div(other.digits)?;
        let rest = dividend.checked_rem(other.digits)?;
        let up = rest.unsigned_abs().checked_mul(2)? >= other.digits.unsigned_abs();
        let away = if (dividend < 0) == (other.digits < 0) { 1 } else { -1 };
        Some(Self { digits: if up { quotient + away } else { quotient }, power: -PLACES })
    }
    fn value(self) -> Option<f64> {
        format!("{}e{}", self.digits, self.power).parse().ok()
    }
}

fn decimal(a: f64, b: f64, op: fn(Decimal, Decimal) -> Option<Decimal>) -> Option<f64> {
    if !a.is_finite() || !b.is_finite() {
        return None;
    }
    op(Decimal::of(a)?, Decimal::of(b)?)?.value()
}
