//! The level of a log line, in Loki's words (`detected_level`).

/// Names of labels, metadata and fields that hold a level.
pub(crate) const NAMES: [&str; 14] = [
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];

pub(crate) fn is_level_key(name: &str) -> bool {
    NAMES.contains(&name) || name == "log_level"
}

/// The folded word of a level that a sender wrote; `None` for anything else.
pub(crate) fn fold(word: &str) -> Option<&'static str> {
    const WORDS: [(&str, &str); 18] = [
        ("trace", "trace"),
        ("trc", "trace"),
        ("debug", "debug"),
        ("dbg", "debug"),
        ("info", "info"),
        ("inf", "info"),
        ("information", "info"),
        ("notice", "info"),
        ("warn", "warn"),
        ("wrn", "warn"),
        ("warning", "warn"),
        ("error", "error"),
        ("err", "error"),
        ("eror", "error"),
        ("critical", "critical"),
        ("crit", "critical"),
        ("fatal", "fatal"),
        ("panic", "fatal"),
    ];
    WORDS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known)).map(|(_, level)| *level)
}

/// OpenTelemetry's severity numbers, four to a level.
pub(crate) fn of_severity(number: i32) -> Option<&'static str> {
    Some(match number {
        1..=4 => "trace",
        5..=8 => "debug",
        9..=12 => "info",
        13..=16 => "warn",
        17..=20 => "error",
        21..=24 => "fatal",
        _ => return None,
    })
}

/// Lines say their level at the start; further in, words such as `error` are mostly prose.
const SCAN_BYTES_MAX: usize = 256;

/// The first word of the line that is a level.
pub(crate) fn scan(line: &str) -> Option<&'static str> {
    let mut end = line.len().min(SCAN_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].split(|c: char| !c.is_ascii_alphabetic()).filter(|word| (3..=11).contains(&word.len())).find_map(
        |word| {
            // `inf` and `trace` are ordinary words in text.
            let is_prose = matches!(word, "inf" | "Inf" | "trace" | "information" | "notice");
            if is_prose { None } else { fold(word) }
        },
    )
}
