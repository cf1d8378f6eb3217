//! Names of operations that do not name the one thing that was operated on.

use std::borrow::Cow;

const SEPARATORS: [char; 10] = ['/', ' ', '?', '&', '=', ',', ':', ';', '(', ')'];
/// Hexadecimal texts of at least this length with a digit in them are ids.
const HEX_MIN: usize = 8;
/// So many digits in a row are a number that somebody counts.
const DIGITS_MIN: usize = 4;
/// Longer names are cut.
const CHARS_MAX: usize = 200;

/// `GET /users/8813/cart` is `GET /users/{id}/cart`: numbers, UUIDs, hexadecimal ids and texts with long numbers in
/// them become `{id}`, so that a sender that puts them into span names does not make a series of each.
pub fn operation(name: &str) -> Cow<'_, str> {
    let is_short = name.len() <= CHARS_MAX;
    if is_short && (!name.bytes().any(|b| b.is_ascii_digit()) || !name.split(SEPARATORS).any(is_id)) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len());
    for part in name.split_inclusive(SEPARATORS) {
        let word = part.trim_end_matches(SEPARATORS);
        out.push_str(if is_id(word) { "{id}" } else { word });
        out.push_str(&part[word.len()..]);
    }
    Cow::Owned(if out.chars().nth(CHARS_MAX).is_some() { out.chars().take(CHARS_MAX).collect() } else { out })
}

fn is_id(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 {
        return false;
    }
    let is_number = digits == word.len() && digits > 1;
    let is_hex = word.len() >= HEX_MIN && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let has_long_number = word.split(|c: char| !c.is_ascii_digit()).any(|run| run.len() >= DIGITS_MIN);
    is_number || is_hex || has_long_number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_out_and_words_stay() {
        let check = |name: &str, want: &str| assert_eq!(operation(name), want, "{name}");
        check("events.raw publish", "events.raw publish");
        check("GET /v1/users/8813/cart", "GET /v1/users/{id}/cart");
        check("GET /a/2f3e0cee-77ae-5dc9-c17a-de3689eb2e54?x=12", "GET /a/{id}?x={id}");
        check("process match-0042", "process {id}");
        check("block 2f3e0cee", "block {id}");
        check("step 2", "step 2");
        check("decade", "decade");
        check("SELECT s3_objects", "SELECT s3_objects");
        check("/77/", "/{id}/");
        check("", "");
        check(&"ä".repeat(300), &"ä".repeat(200));
    }
}
