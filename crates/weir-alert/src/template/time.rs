//! Times as templates see them, and Go's way to write them.

use jiff::tz::TimeZone;
use weir_go::humanize::go_time;
use weir_go::template::{Object, Value};
use weir_model::Timestamp;

/// A time in a zone.
pub(super) struct Time(pub jiff::Zoned);

impl Time {
    pub fn at(t: Timestamp) -> Self {
        let t = jiff::Timestamp::from_millisecond(t.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Self(t.to_zoned(TimeZone::UTC))
    }
}

impl Object for Time {
    fn type_name(&self) -> &str {
        "time.Time"
    }
    fn member(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        Some(match (name, args) {
            ("Format", [layout]) => Ok(go_layout(&self.0, &layout.text()).into()),
            ("Unix", []) => Ok(Value::Int(self.0.timestamp().as_second())),
            ("UTC", []) => Ok(Value::object(Time(self.0.with_time_zone(TimeZone::UTC)))),
            ("Format", _) => Err("wants a layout".to_owned()),
            _ => return None,
        })
    }
    fn print(&self) -> Option<String> {
        Some(go_time(self.0.timestamp()))
    }
}

/// Parts of Go's reference time, longest first, and jiff's directive for each.
const PARTS: [(&str, &str); 26] = [
    ("January", "%B"),
    ("Monday", "%A"),
    ("2006", "%Y"),
    ("Z07:00", "%:z"),
    ("-07:00", "%:z"),
    ("-0700", "%z"),
    ("Jan", "%b"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    (".000000000", ".%9f"),
    (".000000", ".%6f"),
    (".000", ".%3f"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("PM", "%p"),
    ("_2", "%e"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
];

/// Formats by Go's reference time, `Mon Jan 2 15:04:05 MST 2006`.
pub(super) fn go_layout(time: &jiff::Zoned, layout: &str) -> String {
    let mut out = String::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        match PARTS.iter().find(|(go, _)| rest.starts_with(go)) {
            Some(("Z07:00", _)) if time.offset().is_zero() => {
                out.push('Z');
                rest = &rest[6..];
            }
            Some((go, format)) => {
                out.push_str(&time.strftime(format).to_string());
                rest = &rest[go.len()..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

/// A text in Go's layout read as a time; parts that are not given are those of year one in UTC.
pub(super) fn parse_layout(layout: &str, text: &str) -> Result<jiff::Zoned, String> {
    let mut format = String::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        match PARTS.iter().find(|(go, _)| rest.starts_with(go)) {
            Some((go, part)) => {
                format.push_str(part);
                rest = &rest[go.len()..];
            }
            None => {
                if c == '%' {
                    format.push('%');
                }
                format.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    let fail = |e: jiff::Error| format!("cannot read {text:?} by the layout {layout:?}: {e}");
    // Jiff reads an offset of `Z` by a directive of its own.
    let (format, text) = match text.strip_suffix('Z') {
        Some(before) if layout.ends_with("Z07:00") => (format, format!("{before}+00:00")),
        _ => (format, text.to_owned()),
    };
    let broken = jiff::fmt::strtime::parse(&format, &text).map_err(fail)?;
    match broken.offset() {
        Some(_) => Ok(broken.to_timestamp().map_err(fail)?.to_zoned(TimeZone::UTC)),
        None => {
            let date = broken.to_date().unwrap_or(jiff::civil::date(1, 1, 1));
            let time = broken.to_time().unwrap_or_default();
            date.to_datetime(time).to_zoned(TimeZone::UTC).map_err(fail)
        }
    }
}
