//! The level of a log line, in Loki's words (`detected_level`).

/// Names of labels, metadata and fields that hold a level; of several the first counts.
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

/// All that [`fold`], [`of_severity`] and [`scan`] answer, and what lines without a level get.
pub(crate) const WORDS: [&str; 8] = ["trace", "debug", "info", "warn", "error", "critical", "fatal", UNKNOWN];
pub(crate) const UNKNOWN: &str = "unknown";

/// Where in [`NAMES`] the name stands.
pub(crate) fn rank(name: &str) -> Option<usize> {
    // Most names are none of these; two letters tell.
    if !matches!(name.as_bytes().first(), Some(b'l' | b'L' | b's' | b'S')) {
        return None;
    }
    NAMES.iter().position(|known| *known == name)
}

pub(crate) fn is_level_key(name: &str) -> bool {
    rank(name).is_some() || name == "log_level"
}

const WORD_BYTES_MIN: usize = 3;
const WORD_BYTES_MAX: usize = 11;

/// The folded word of a level that a sender wrote; `None` for anything else.
pub(crate) fn fold(word: &str) -> Option<&'static str> {
    if !(WORD_BYTES_MIN..=WORD_BYTES_MAX).contains(&word.len()) {
        return None;
    }
    let mut lower = [0; WORD_BYTES_MAX];
    let lower = &mut lower[..word.len()];
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"trace" | b"trc" => "trace",
        b"debug" | b"dbg" => "debug",
        b"info" | b"inf" | b"information" | b"notice" => "info",
        b"warn" | b"wrn" | b"warning" => "warn",
        b"error" | b"err" | b"eror" => "error",
        b"critical" | b"crit" => "critical",
        b"fatal" | b"panic" => "fatal",
        _ => return None,
    })
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
    let text = &line.as_bytes()[..end];
    let mut from = 0;
    while from < end {
        let len = text[from..].iter().take_while(|b| b.is_ascii_alphabetic()).count();
        // The first letters of all words of a level.
        if (WORD_BYTES_MIN..=WORD_BYTES_MAX).contains(&len)
            && matches!(text[from] | 0x20, b't' | b'd' | b'i' | b'n' | b'w' | b'e' | b'c' | b'f' | b'p')
        {
            let word = &line[from..from + len];
            // `inf` and `trace` are ordinary words in text.
            let is_prose = matches!(word, "inf" | "Inf" | "trace" | "information" | "notice");
            if let Some(level) = fold(word).filter(|_| !is_prose) {
                return Some(level);
            }
        }
        from += len + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_folded() {
        let check = |word: &str, want: Option<&str>| assert_eq!(fold(word), want, "{word}");
        check("WARNING", Some("warn"));
        check("Information", Some("info"));
        check("eror", Some("error"));
        check("panic", Some("fatal"));
        check("no", None);
        check("informational", None);
        check("üinfo", None);
        assert!(NAMES.iter().all(|name| is_level_key(name)) && is_level_key("log_level"));
        assert!(!is_level_key("levels") && !is_level_key(""));
    }

    #[test]
    fn the_first_word_of_a_level_counts() {
        let check = |line: &str, want: Option<&str>| assert_eq!(scan(line), want, "{line}");
        check("2026-01-01 [ERROR] info", Some("error"));
        check("a trace of inf, notice: WARN", Some("warn"));
        check("TRACE", Some("trace"));
        check("über Error", Some("error"));
        check("errors, informations, warne", None);
        check(&format!("{}error", "x ".repeat(128)), None);
        check(&format!("{}é error", "x ".repeat(127)), None);
    }

    proptest! {
        /// The plain way to say the same.
        #[test]
        fn scanning_is_splitting_into_words(line in "(\\PC|[ .]|err|Info|trace|inf|fatal|x){0,30}") {
            let words = line.split(|c: char| !c.is_ascii_alphabetic()).filter(|w| (3..=11).contains(&w.len()));
            let is_prose = |w: &str| matches!(w, "inf" | "Inf" | "trace" | "information" | "notice");
            let want = words.filter(|w| !is_prose(w)).find_map(fold);
            // Both look at the same stretch of lines that are not longer than it.
            prop_assume!(line.len() <= SCAN_BYTES_MAX);
            prop_assert_eq!(scan(&line), want);
        }
    }
}
