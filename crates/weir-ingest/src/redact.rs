//! [`Redactor`]: takes what must not be kept out of lines, structured metadata and spans before anything is written.
//!
//! Off unless detectors are named. What is found is replaced by `[redacted:<detector>]` and counted. Not looked
//! at: labels of streams and attributes of resources, which say where something came from.

mod find;
mod otlp;

use std::ops::Range;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use weir_model::sink::StreamBatch;
use weir_model::span::Attributes;
use weir_model::{AttrValue, Span};

/// Nested attribute values; decoders bound them too.
const DEPTH_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detector {
    /// Numbers of payment cards, by length, issuer and Luhn's check.
    Cards,
    Emails,
    /// What follows `Bearer`, and JSON web tokens.
    Tokens,
    /// Access keys of AWS and blocks of private keys.
    Keys,
}

impl Detector {
    pub const ALL: [Self; 4] = [Self::Keys, Self::Tokens, Self::Cards, Self::Emails];

    pub fn name(self) -> &'static str {
        match self {
            Self::Cards => "cards",
            Self::Emails => "emails",
            Self::Tokens => "tokens",
            Self::Keys => "keys",
        }
    }

    pub fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|detector| detector.name() == name);
        found.ok_or_else(|| format!("`{name}` is no detector; there are cards, emails, tokens and keys"))
    }

    /// The first place at or behind `from`.
    fn find(self, text: &str, from: usize) -> Option<Range<usize>> {
        match self {
            Self::Cards => find::card(text, from),
            Self::Emails => find::email(text, from),
            Self::Tokens => find::token(text, from),
            Self::Keys => find::key(text, from),
        }
    }
}

/// A pattern of one's own: whatever matches is taken out.
#[derive(Clone, Debug)]
pub struct Pattern {
    name: String,
    regex: regex::Regex,
}

impl Pattern {
    /// `name=expression`, in the syntax of RE2.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, expression) = text.split_once('=').ok_or("write it as NAME=EXPRESSION")?;
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name {
            return Err(format!("`{name}`: a name has letters, digits and `_`"));
        }
        let regex = weir_go::regex(expression).map_err(|e| e.to_string())?;
        if regex.is_match("") {
            return Err(format!("`{expression}` matches nothing at all, and so everywhere"));
        }
        Ok(Self { name: name.to_owned(), regex })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DetectorLabel {
    detector: String,
}

/// Cheap to share; what it does depends on nothing but the text.
#[derive(Debug, Default)]
pub struct Redactor {
    detectors: Vec<Detector>,
    patterns: Vec<Pattern>,
    n_redacted: Family<DetectorLabel, Counter>,
}

impl Redactor {
    /// `None` when nothing is to be found.
    pub fn new(detectors: &[Detector], patterns: Vec<Pattern>) -> Option<Self> {
        // In the order of `ALL`, so that a key within a token is one finding.
        let detectors: Vec<Detector> = Detector::ALL.into_iter().filter(|d| detectors.contains(d)).collect();
        let has_any = !detectors.is_empty() || !patterns.is_empty();
        has_any.then(|| Self { detectors, patterns, n_redacted: Family::default() })
    }

    pub fn register(&self, registry: &mut Registry) {
        let help = "Places in lines and spans that were taken out before they were stored";
        registry.register("weir_ingest_redacted", help, self.n_redacted.clone());
    }

    /// The text without what must not be kept; `None` when it is as it was.
    pub fn text(&self, text: &str) -> Option<String> {
        let mut out: Option<String> = None;
        for detector in &self.detectors {
            let find = |text: &str, from| detector.find(text, from);
            out = self.replaced(out.as_deref().unwrap_or(text), detector.name(), find).or(out);
        }
        for Pattern { name, regex } in &self.patterns {
            out =
                self.replaced(out.as_deref().unwrap_or(text), name, |text, from| find::own(regex, text, from)).or(out);
        }
        out
    }

    fn replaced(&self, text: &str, name: &str, find: impl Fn(&str, usize) -> Option<Range<usize>>) -> Option<String> {
        let (mut out, mut at, mut n) = (String::new(), 0, 0);
        while let Some(found) = find(text, at) {
            out.push_str(&text[at..found.start]);
            out.push_str("[redacted:");
            out.push_str(name);
            out.push(']');
            at = found.end;
            n += 1;
        }
        if n == 0 {
            return None;
        }
        self.n_redacted.get_or_create(&DetectorLabel { detector: name.to_owned() }).inc_by(n);
        out.push_str(&text[at..]);
        Some(out)
    }

    fn shared(&self, text: &mut Arc<str>) -> bool {
        let clean = self.text(text);
        let is_changed = clean.is_some();
        if let Some(clean) = clean {
            *text = clean.into();
        }
        is_changed
    }

    /// Lines and their metadata; whether anything was taken out.
    pub fn streams(&self, streams: &mut [StreamBatch]) -> bool {
        let mut is_changed = false;
        for entry in streams.iter_mut().flat_map(|stream| &mut stream.entries) {
            is_changed |= self.shared(&mut entry.line);
            for (_, value) in &mut entry.metadata {
                is_changed |= self.shared(value);
            }
        }
        is_changed
    }

    /// Names, statuses, and attributes of spans, their events and links.
    pub fn spans(&self, spans: &mut [Arc<Span>]) {
        for span in spans {
            match Arc::get_mut(span) {
                Some(span) => {
                    self.span(span);
                }
                // Somebody else holds it.
                None => {
                    let mut clean = Span::clone(span);
                    if self.span(&mut clean) {
                        *span = Arc::new(clean);
                    }
                }
            }
        }
    }

    fn span(&self, span: &mut Span) -> bool {
        let mut is_changed = self.shared(&mut span.name) | self.shared(&mut span.status.message);
        is_changed |= self.attributes(&mut span.attributes);
        for event in &mut span.events {
            is_changed |= self.shared(&mut event.name) | self.attributes(&mut event.attributes);
        }
        for link in &mut span.links {
            is_changed |= self.attributes(&mut link.attributes);
        }
        is_changed
    }

    fn attributes(&self, attributes: &mut Attributes) -> bool {
        let mut is_changed = false;
        for (_, value) in attributes.iter_mut() {
            is_changed |= self.value(value, 0);
        }
        is_changed
    }

    fn value(&self, value: &mut AttrValue, depth: usize) -> bool {
        if depth > DEPTH_MAX {
            return false;
        }
        match value {
            AttrValue::Str(text) => self.shared(text),
            AttrValue::Array(list) => list.iter_mut().fold(false, |is, value| is | self.value(value, depth + 1)),
            AttrValue::Map(map) => map.iter_mut().fold(false, |is, (_, value)| is | self.value(value, depth + 1)),
            // A card's number may have been parsed as one.
            AttrValue::Int(number) => match self.text(&number.to_string()) {
                Some(clean) => {
                    *value = AttrValue::Str(clean.into());
                    true
                }
                None => false,
            },
            AttrValue::Double(_) | AttrValue::Bool(_) | AttrValue::Bytes(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weir_model::{Labels, LogEntry, Nanos};

    fn all() -> Redactor {
        let own = Pattern::parse("badge=B-\\d{4}").unwrap();
        Redactor::new(&Detector::ALL, vec![own]).unwrap()
    }

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(all().text(text).as_deref().unwrap_or(text), want, "{text}");
    }

    /// Numbers that issuers publish for tests.
    #[test]
    fn cards() {
        check("card=4111111111111111 ok", "card=[redacted:cards] ok");
        check("4012888888881881", "[redacted:cards]");
        check("{\"pan\":\"5555 5555 5555 4444\"}", "{\"pan\":\"[redacted:cards]\"}");
        check("3782-822463-10005,", "[redacted:cards],");
        check("2024-05-06 4111-1111-1111-1111", "2024-05-06 [redacted:cards]");
        check("6011111111111117 and 30569309025904", "[redacted:cards] and [redacted:cards]");
        check("2223003122003222", "[redacted:cards]");
        for kept in [
            "4111111111111112",
            "1700000000000000000",
            "trace 41111111111111111111",
            "x4111111111111111",
            "0.4111111111111111",
            "9111111111111111",
            "+49 170 1234567",
            "2024-01-01 12:00:00 1234567890123456",
        ] {
            check(kept, kept);
        }
    }

    #[test]
    fn emails() {
        check("user jane.doe+x@mail.example.org, next", "user [redacted:emails], next");
        check("<a@b.co>", "<[redacted:emails]>");
        check("a@b.co b@c.de.", "[redacted:emails] [redacted:emails].");
        for kept in ["a@b", "@example.org", "x @ y.org", "git@github", "a@b.1", "image@sha256.0"] {
            check(kept, kept);
        }
    }

    #[test]
    fn tokens_and_keys() {
        check("Authorization: Bearer abcdef0123456789", "Authorization: Bearer [redacted:tokens]");
        check("authorization=bearer  abc.def-ghi_jkl==;", "authorization=bearer  [redacted:tokens];");
        // The example of RFC 7519.
        let jwt = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODB9.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        check(&format!("t={jwt}&x=1"), "t=[redacted:tokens]&x=1");
        check("id AKIAIOSFODNN7EXAMPLE;", "id [redacted:keys];");
        let block = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----";
        check(&format!("a {block} b"), "a [redacted:keys] b");
        check("a -----BEGIN PRIVATE KEY-----\\nMIIE", "a [redacted:keys]");
        for kept in ["the bearer of bad news", "eyJhbGciOi", "XAKIAIOSFODNN7EXAMPLE", "-----BEGIN CERTIFICATE-----"] {
            check(kept, kept);
        }
    }

    #[test]
    fn own_patterns_and_what_is_refused() {
        check("badge B-1234 and B-12", "badge [redacted:badge] and B-12");
        assert!(Pattern::parse("x").unwrap_err().contains("NAME=EXPRESSION"));
        assert!(Pattern::parse("x=(").is_err());
        assert!(Pattern::parse("x=a*").unwrap_err().contains("everywhere"));
        assert!(Detector::parse("card").unwrap_err().contains("cards, emails"));
        assert!(Redactor::new(&[], Vec::new()).is_none());
    }

    #[test]
    fn lines_metadata_and_spans_are_cleaned() {
        let redactor = all();
        let entry = |line: &str, value: &str| LogEntry {
            at: Nanos(1),
            line: line.into(),
            metadata: vec![("user".into(), value.into())],
        };
        let stream = |entries| StreamBatch { labels: Labels::from_pairs([("a", "x@y.org")]), entries };
        let mut streams = [stream(vec![entry("plain", "a@b.co"), entry("B-1234", "plain")])];
        assert!(redactor.streams(&mut streams));
        let want = [stream(vec![entry("plain", "[redacted:emails]"), entry("[redacted:badge]", "plain")])];
        assert_eq!(streams, want);
        assert!(!redactor.streams(&mut [stream(vec![entry("plain", "plain")])]));
        let text = |text: &str| AttrValue::Str(text.into());
        let mut span = Span { name: "GET /u/a@b.co".into(), ..Span::default() };
        span.attributes = vec![
            ("card".into(), AttrValue::Int(4_111_111_111_111_111)),
            ("list".into(), AttrValue::Array(vec![text("a@b.co"), AttrValue::Bool(true)])),
        ];
        let mut spans = [Arc::new(span), Arc::new(Span::default())];
        let second = spans[1].clone();
        redactor.spans(&mut spans);
        assert_eq!(&*spans[0].name, "GET /u/[redacted:emails]");
        assert_eq!(spans[0].attributes[0].1, text("[redacted:cards]"));
        assert_eq!(spans[0].attributes[1].1, AttrValue::Array(vec![text("[redacted:emails]"), AttrValue::Bool(true)]));
        assert!(Arc::ptr_eq(&spans[1], &second));
    }

    proptest! {
        #[test]
        fn what_was_cleaned_is_clean_and_nothing_panics(text in "(4111 ?|1111|5-|@|a\\.|\\.co|Bearer |eyJ|AKIA|[A-Z]{4}|-----BEGIN |PRIVATE KEY-----|ä| ){0,20}") {
            let redactor = all();
            if let Some(clean) = redactor.text(&text) {
                prop_assert_eq!(redactor.text(&clean), None, "{}", clean);
            }
        }
    }
}
