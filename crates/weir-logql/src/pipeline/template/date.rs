//! Functions on times.

use jiff::tz::TimeZone;
use weir_go::template::{Functions, Value};
use weir_go::time::{GoTime, format_layout, parse_layout};

use super::{LineEnv, arg, text};

pub(super) fn register(f: &mut Functions) {
    f.register("__timestamp__", |call, _| {
        let env = call.env.downcast_ref::<LineEnv>().ok_or("no line here")?;
        at(env.nanos)
    });
    f.register("now", |call, _| {
        let env = call.env.downcast_ref::<LineEnv>().ok_or("no line here")?;
        at(env.now_nanos)
    });
    f.register("date", |call, a| {
        let (layout, value) = (text(a, 0)?, arg(a, 1)?);
        let seconds = |s: i64| GoTime::at_nanos(s.saturating_mul(1_000_000_000)).ok_or("time out of range");
        let shown = match value {
            Value::Int(s) => seconds(*s)?,
            other => match (GoTime::of(other), call.env.downcast_ref::<LineEnv>()) {
                (Some(time), _) => time.clone(),
                // sprig takes what is no time for now.
                (None, Some(env)) => GoTime::at_nanos(env.now_nanos).ok_or("time out of range")?,
                (None, None) => return Err("no line here".to_owned()),
            },
        };
        Ok(format_layout(&shown.0, &layout).into())
    });
    f.register("toDate", |_, a| Ok(read(&text(a, 0)?, &text(a, 1)?, &TimeZone::UTC)));
    f.register("toDateInZone", |_, a| {
        // An unknown zone counts as UTC, as in Loki.
        let zone = TimeZone::get(&text(a, 1)?).unwrap_or(TimeZone::UTC);
        Ok(read(&text(a, 0)?, &text(a, 2)?, &zone))
    });
    f.register("unixToTime", |_, a| {
        let digits = text(a, 0)?;
        let bad = || format!("unable to parse time '{digits}'");
        let n: i64 = digits.parse().map_err(|_| bad())?;
        // Days, seconds, milliseconds, microseconds or nanoseconds, by the count of digits.
        let unit = match digits.len() {
            5 => 86_400_000_000_000,
            10 => 1_000_000_000,
            13 => 1_000_000,
            16 => 1_000,
            19 => 1,
            _ => return Err(bad()),
        };
        at(n.saturating_mul(unit))
    });
    for (name, unit) in [("unixEpoch", 1_000_000_000), ("unixEpochMillis", 1_000_000), ("unixEpochNanos", 1)] {
        f.register(name, move |_, a| {
            let value = arg(a, 0)?;
            let time = GoTime::of(value).ok_or_else(|| format!("wants a time, not a {}", value.type_name()))?;
            Ok(time.0.timestamp().as_nanosecond().div_euclid(unit).to_string().into())
        });
    }
}

fn at(nanos: i64) -> Result<Value, String> {
    GoTime::at_nanos(nanos).map(Value::object).ok_or_else(|| "time out of range".to_owned())
}

/// What cannot be read is the zero time, as in Go when the error is not looked at.
fn read(layout: &str, text: &str, zone: &TimeZone) -> Value {
    Value::object(parse_layout(layout, text, zone).map_or_else(GoTime::zero, GoTime))
}
