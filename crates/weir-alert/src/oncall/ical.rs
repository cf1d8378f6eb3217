//! A schedule as iCalendar, for the calendar programs of those who are on call.
//!
//! Source: RFC 5545. Times are UTC, so that no rules of zones need to be sent along.

use weir_model::Timestamp;

use super::schedule::Shift;

/// Octets of a line before it is folded.
const LINE_MAX: usize = 75;

/// `name`: of the calendar. `shifts`: with the name of their schedule and how their person is shown. `made`: when
/// this was asked for.
pub fn calendar(name: &str, shifts: &[(String, String, Shift)], made: Timestamp) -> String {
    let mut out = String::new();
    for line in ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//weir//on-call//EN", "CALSCALE:GREGORIAN"] {
        fold(line, &mut out);
    }
    fold(&format!("X-WR-CALNAME:{}", escape(name)), &mut out);
    fold("REFRESH-INTERVAL;VALUE=DURATION:PT1H", &mut out);
    for (schedule, shown, shift) in shifts {
        let Some(person) = &shift.person else { continue };
        fold("BEGIN:VEVENT", &mut out);
        // The same shift has the same name at each refresh.
        fold(&format!("UID:{}-{}-{}@weir", word(schedule), word(person), shift.start.0), &mut out);
        fold(&format!("DTSTAMP:{}", utc(made)), &mut out);
        fold(&format!("DTSTART:{}", utc(shift.start)), &mut out);
        fold(&format!("DTEND:{}", utc(shift.end)), &mut out);
        fold(&format!("SUMMARY:{}", escape(&format!("{shown} on call ({schedule})"))), &mut out);
        fold("END:VEVENT", &mut out);
    }
    fold("END:VCALENDAR", &mut out);
    out
}

fn utc(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_second(at.0.div_euclid(1000)).unwrap_or_default();
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Letters and digits as they are, all else as numbers: names differ when their persons do.
fn word(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("_{:x}", u32::from(c)) })
        .collect()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | ';' | ',' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// A line; what is longer goes on after a line break and a space, never within a character.
fn fold(line: &str, out: &mut String) {
    let mut length = 0;
    for c in line.chars() {
        if length + c.len_utf8() > LINE_MAX {
            out.push_str("\r\n ");
            length = 1;
        }
        out.push(c);
        length += c.len_utf8();
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oncall::schedule::Source;

    #[test]
    fn events_are_escaped_and_folded() {
        let shift = |person: Option<&str>, start| Shift {
            start: Timestamp(start),
            end: Timestamp(start + 3_600_000),
            person: person.map(str::to_owned),
            source: Source::Nobody,
        };
        let shown = "Ana; Søren, the one who has a name that goes on and on beyond the line's øøøøøø end";
        let shifts = [
            ("primary".to_owned(), shown.to_owned(), shift(Some("a-b"), 1_767_600_000_000)),
            ("primary".to_owned(), String::new(), shift(None, 0)),
        ];
        let text = calendar("primary", &shifts, Timestamp(1_767_000_000_000));
        assert!(text.lines().all(|l| l.len() <= LINE_MAX), "{text}");
        assert!(text.split("\r\n").count() == text.lines().count() + 1, "each line ends with CR LF");
        let unfolded = text.replace("\r\n ", "");
        assert!(unfolded.contains("\r\nUID:primary-a_2db-1767600000000@weir\r\n"), "{unfolded}");
        assert!(unfolded.contains("\r\nDTSTART:20260105T080000Z\r\nDTEND:20260105T090000Z\r\n"), "{unfolded}");
        assert!(unfolded.contains("SUMMARY:Ana\\; Søren\\, the one"), "{unfolded}");
        assert_eq!(text.matches("BEGIN:VEVENT").count(), 1);
    }
}
