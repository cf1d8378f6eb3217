//! Where secrets stand in a text. Each finder answers the first place at or behind `from`.

use std::ops::Range;

use regex::Regex;

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether nothing that belongs to it stands before.
fn begins(bytes: &[u8], at: usize) -> bool {
    at == 0 || !is_word(bytes[at - 1])
}

/// Digits in groups, parted by single blanks or hyphens: any groups in a row may be a card.
pub fn card(text: &str, from: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = from;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let groups = groups(bytes, at);
        let found = (0..groups.len()).find_map(|first| card_from(bytes, &groups[first..]));
        if let Some(found) = found {
            return Some(found);
        }
        at = groups.last().map_or(at + 1, |last| last.end);
    }
    None
}

fn groups(bytes: &[u8], start: usize) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut at = start;
    loop {
        let end = at + bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        out.push(at..end);
        let goes_on = matches!(bytes.get(end), Some(b' ' | b'-')) && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
        if !goes_on {
            return out;
        }
        at = end + 1;
    }
}

fn card_from(bytes: &[u8], groups: &[Range<usize>]) -> Option<Range<usize>> {
    let start = groups.first()?.start;
    let is_part = |at: usize| is_word(bytes[at]) || bytes[at] == b'.';
    if start > 0 && is_part(start - 1) {
        return None;
    }
    let mut digits = Vec::new();
    for (n, group) in groups.iter().enumerate() {
        digits.extend(bytes[group.clone()].iter().map(|b| b - b'0'));
        if digits.len() > 19 {
            return None;
        }
        // Whoever writes groups writes four digits first.
        let is_grouped = n == 0 || groups[0].len() == 4 && group.len() >= 3;
        let ends = bytes.get(group.end).is_none_or(|b| !is_word(*b));
        if ends && is_grouped && is_card(&digits) {
            return Some(start..group.end);
        }
    }
    None
}

/// Lengths and first digits of issuers (ISO/IEC 7812), and Luhn's check.
fn is_card(digits: &[u8]) -> bool {
    let len = digits.len();
    if !(13..=19).contains(&len) {
        return false;
    }
    let first = |n: usize| digits[..n].iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit));
    let is_issued = match first(1) {
        4 => matches!(len, 13 | 16 | 19),
        5 => len == 16 && (51..=55).contains(&first(2)),
        2 => len == 16 && (2221..=2720).contains(&first(4)),
        6 => len >= 16 && (first(4) == 6011 || matches!(first(2), 62 | 65) || (644..=649).contains(&first(3))),
        3 => match len {
            15 => matches!(first(2), 34 | 37),
            14 => matches!(first(2), 36 | 38) || (300..=305).contains(&first(3)),
            16 => (3528..=3589).contains(&first(4)),
            _ => false,
        },
        _ => false,
    };
    is_issued && luhn(digits)
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(n, digit)| {
            let doubled = u32::from(*digit) * if n % 2 == 1 { 2 } else { 1 };
            if doubled > 9 { doubled - 9 } else { doubled }
        })
        .sum();
    sum.is_multiple_of(10)
}

pub fn email(text: &str, from: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let is_local = |b: u8| b.is_ascii_alphanumeric() || b"._%+-".contains(&b);
    memchr::memchr_iter(b'@', &bytes[from..]).map(|n| from + n).find_map(|at| {
        let n_local = bytes[from..at].iter().rev().take_while(|b| is_local(**b)).count();
        let is_domain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        let n_domain = bytes[at + 1..].iter().take_while(|b| is_domain(**b)).count();
        let domain = text[at + 1..at + 1 + n_domain].trim_end_matches(['.', '-']);
        let (host, last) = domain.rsplit_once('.')?;
        let is_email = n_local > 0
            && !host.is_empty()
            && !host.split('.').any(str::is_empty)
            && last.len() >= 2
            && last.bytes().all(|b| b.is_ascii_alphabetic());
        is_email.then(|| at - n_local..at + 1 + domain.len())
    })
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// The nearer of the two kinds.
pub fn token(text: &str, from: usize) -> Option<Range<usize>> {
    let (bearer, jwt) = (bearer(text, from), jwt(text, from));
    match (bearer, jwt) {
        (Some(bearer), Some(jwt)) => Some(if bearer.start <= jwt.start { bearer } else { jwt }),
        (bearer, jwt) => bearer.or(jwt),
    }
}

/// What follows the word; it is longer than words are.
fn bearer(text: &str, from: usize) -> Option<Range<usize>> {
    const WORD: &str = "bearer";
    const LEN_MIN: usize = 12;
    let bytes = text.as_bytes();
    memchr::memchr2_iter(b'b', b'B', &bytes[from..]).map(|n| from + n).find_map(|at| {
        let behind = at + WORD.len();
        let is_it = bytes.get(at..behind).is_some_and(|word| word.eq_ignore_ascii_case(WORD.as_bytes()));
        if !is_it || !begins(bytes, at) {
            return None;
        }
        let n_blanks = bytes[behind..].iter().take_while(|b| **b == b' ').count();
        let start = behind + n_blanks;
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
        let len = bytes[start..].iter().take_while(|b| is_token(**b)).count();
        (n_blanks > 0 && len >= LEN_MIN).then_some(start..start + len)
    })
}

/// `{"` in base64, and three parts.
fn jwt(text: &str, from: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    memchr::memmem::find_iter(&bytes[from..], b"eyJ").map(|n| from + n).find_map(|at| {
        let part = |start: usize| start + bytes[start..].iter().take_while(|b| is_base64url(**b)).count();
        let header = part(at);
        if at > 0 && is_base64url(bytes[at - 1]) || header - at < 10 || bytes.get(header) != Some(&b'.') {
            return None;
        }
        let claims = part(header + 1);
        if claims - header < 3 || bytes.get(claims) != Some(&b'.') {
            return None;
        }
        Some(at..part(claims + 1))
    })
}

/// The nearer of the two kinds.
pub fn key(text: &str, from: usize) -> Option<Range<usize>> {
    let (aws, block) = (aws(text, from), private_key(text, from));
    match (aws, block) {
        (Some(aws), Some(block)) => Some(if aws.start <= block.start { aws } else { block }),
        (aws, block) => aws.or(block),
    }
}

/// Kinds of identifiers that AWS documents, and sixteen capitals or digits.
fn aws(text: &str, from: usize) -> Option<Range<usize>> {
    const KINDS: [&[u8]; 8] = [b"AKIA", b"ASIA", b"ABIA", b"ACCA", b"AGPA", b"AIDA", b"AIPA", b"AROA"];
    const LEN: usize = 20;
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'A', &bytes[from..]).map(|n| from + n).find_map(|at| {
        let whole = bytes.get(at..at + LEN)?;
        let is_key = KINDS.contains(&&whole[..4])
            && whole.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            && begins(bytes, at)
            && bytes.get(at + LEN).is_none_or(|b| !is_word(*b));
        is_key.then_some(at..at + LEN)
    })
}

/// To the end of the block, or of the text when lines of it come one by one.
fn private_key(text: &str, from: usize) -> Option<Range<usize>> {
    const BEGIN: &str = "-----BEGIN ";
    const KIND: &str = "PRIVATE KEY-----";
    let mut at = from;
    loop {
        let start = at + text[at..].find(BEGIN)?;
        let behind = start + BEGIN.len();
        // `RSA `, `EC `, `ENCRYPTED `, `OPENSSH ` or nothing.
        let kind = text[behind..].bytes().take_while(|b| b.is_ascii_uppercase() || *b == b' ').count();
        let (title, rest) = text[behind..].split_at(kind);
        if !title.ends_with("PRIVATE KEY") || !rest.starts_with("-----") {
            at = behind;
            continue;
        }
        let end = text[behind..].find("-----END ").and_then(|n| {
            let closing = behind + n;
            Some(closing + text[closing..].find(KIND)? + KIND.len())
        });
        return Some(start..end.unwrap_or(text.len()));
    }
}

/// What a pattern of one's own matches; matches of nothing are passed over.
pub fn own(regex: &Regex, text: &str, from: usize) -> Option<Range<usize>> {
    let mut at = from;
    loop {
        let found = regex.find_at(text, at)?;
        if !found.is_empty() {
            return Some(found.range());
        }
        at = found.end() + text[found.end()..].chars().next()?.len_utf8();
    }
}
