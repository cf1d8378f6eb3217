//! `baggage`: names and values that travel with a trace. Source: W3C Baggage.

use opentelemetry::baggage::{Baggage, BaggageExt as _};
use opentelemetry::{Context, StringValue};

use crate::{ReadHeaders, WriteHeaders};

const BAGGAGE: &str = "baggage";
/// As the specification bounds what has to be carried.
const BYTES_MAX: usize = 8192;
const ENTRIES_MAX: usize = 64;

pub(crate) fn inject(context: &Context, headers: &mut impl WriteHeaders) {
    let mut out = String::new();
    for (name, (value, metadata)) in context.baggage() {
        let before = out.len();
        if before > 0 {
            out.push(',');
        }
        out.push_str(name.as_str());
        out.push('=');
        encode(value.as_str(), &mut out);
        if !metadata.as_str().is_empty() {
            out.push(';');
            out.push_str(metadata.as_str());
        }
        // Whole entries, as many as there is room for.
        if out.len() > BYTES_MAX {
            out.truncate(before);
            break;
        }
    }
    if !out.is_empty() {
        headers.set(BAGGAGE, out.as_bytes());
    }
}

pub(crate) fn extract(context: &Context, headers: &(impl ReadHeaders + ?Sized)) -> Context {
    let text =
        headers.get(BAGGAGE).filter(|bytes| bytes.len() <= BYTES_MAX).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let Some(text) = text else { return context.clone() };
    let mut baggage = Baggage::new();
    for entry in text.split(',').take(ENTRIES_MAX) {
        let (pair, metadata) = entry.split_once(';').unwrap_or((entry, ""));
        let Some((name, value)) = pair.split_once('=') else { continue };
        if let Some(value) = decode(value.trim()) {
            baggage.insert_with_metadata(name.trim().to_owned(), StringValue::from(value), metadata.trim());
        }
    }
    if baggage.is_empty() { context.clone() } else { context.with_baggage(baggage) }
}

/// Per cent and two digits for what may not stand in a value, and for a plus, which the SDK for Python reads as a space.
fn encode(value: &str, out: &mut String) {
    for byte in value.bytes() {
        match byte {
            0x21 | 0x23..=0x24 | 0x26..=0x2a | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use opentelemetry::KeyValue;
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let headers = vec![("baggage".to_owned(), text.as_bytes().to_vec())];
        let context = extract(&Context::new(), &headers);
        let mut all: Vec<(String, String)> =
            context.baggage().iter().map(|(k, (v, _))| (k.to_string(), v.to_string())).collect();
        all.sort();
        all
    }

    #[test]
    fn entries_are_those_of_the_specification() {
        let of =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
        assert_eq!(read("a=1, b = 2;p=x;q ,c=%20x%2C%22"), of(&[("a", "1"), ("b", "2"), ("c", " x,\"")]));
        assert_eq!(read("a,=1,b=%zz,c=%2,d=ok"), of(&[("d", "ok")]));
        assert_eq!(read(""), of(&[]));
        assert_eq!(read(&"x".repeat(BYTES_MAX + 1)), of(&[]));
    }

    proptest! {
        #[test]
        fn what_is_injected_is_extracted(pairs in prop::collection::btree_map("[a-z.]{1,8}", any::<String>(), 0..8)) {
            let all = pairs.iter().map(|(k, v)| KeyValue::new(k.clone(), v.clone()));
            let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
            inject(&Context::new().with_baggage(all), &mut headers);
            let text = headers.first().map(|(_, v)| String::from_utf8(v.clone()).unwrap()).unwrap_or_default();
            let kept: Vec<(String, String)> = pairs.into_iter().collect();
            prop_assert_eq!(read(&text), kept);
        }
    }
}
