//! Escaping by place, as Go's html/template does it, for mails and chats that take HTML.
//!
//! What a template's own text says is trusted; what an action prints is escaped for where it
//! stands: text, an attribute, or an attribute that holds a URL. Into a script, a style or a tag itself
//! goes Go's mark `ZgotmplZ` instead of the value, into a comment nothing: a mail that shows less is
//! better than a mail that does not leave. Places are found by reading the output as it grows.

use super::value::Value;

/// Type names of values that are trusted where their kind belongs.
const HTML: &str = "template.HTML";
const URL: &str = "template.URL";
const URL_ATTRIBUTES: [&str; 8] = ["href", "src", "action", "formaction", "cite", "poster", "background", "data"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Text,
    /// Inside `<…>`, outside of values.
    Tag,
    /// In an attribute's value up to the quote, or to white space without one.
    Value {
        quote: Option<u8>,
        url: bool,
    },
    /// `script` or `style`, up to its closing tag.
    Raw,
    Comment,
}

/// Knows the place at the end of what was written so far.
#[derive(Debug)]
pub(super) struct Scanner {
    read: usize,
    place: Place,
    /// Name of the tag being read, or of the element whose raw text it is.
    tag: String,
    /// Name of the attribute read last.
    attribute: String,
    after_equals: bool,
    value_start: usize,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            read: 0,
            place: Place::Text,
            tag: String::new(),
            attribute: String::new(),
            after_equals: false,
            value_start: 0,
        }
    }
}

impl Scanner {
    /// `value` as it may stand at the end of `out`.
    pub fn escape(&mut self, out: &str, value: &Value) -> String {
        self.advance(out);
        // An action right after `=` begins a value without quotes.
        if self.place == Place::Tag && self.after_equals {
            self.open_value(None, out.len());
        }
        let trusted = matches!(value, Value::Object(o) if o.type_name() == HTML);
        let safe_url = matches!(value, Value::Object(o) if o.type_name() == URL);
        let text = value.text();
        match self.place {
            Place::Text if trusted => text,
            Place::Text => escape(&text, false),
            Place::Value { quote, url: false } => escape(&text, quote.is_none()),
            Place::Value { quote, url: true } => {
                let before = &out[self.value_start..];
                let text = match before {
                    "" if !safe_url && !harmless_url(&text) => "#ZgotmplZ".to_owned(),
                    before if before.contains(['?', '#']) => encoded(&text, false),
                    _ => encoded(&text, true),
                };
                escape(&text, quote.is_none())
            }
            Place::Tag | Place::Raw => "ZgotmplZ".to_owned(),
            Place::Comment => String::new(),
        }
    }

    fn open_value(&mut self, quote: Option<u8>, start: usize) {
        let url = URL_ATTRIBUTES.contains(&self.attribute.as_str());
        self.place = Place::Value { quote, url };
        self.value_start = start;
        self.after_equals = false;
    }

    fn advance(&mut self, out: &str) {
        let bytes = out.as_bytes();
        while self.read < bytes.len() {
            let (at, b) = (self.read, bytes[self.read]);
            self.read += 1;
            match self.place {
                Place::Text if b == b'<' => {
                    if bytes[at..].starts_with(b"<!--") {
                        self.place = Place::Comment;
                    } else if bytes.get(at + 1).is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'/' | b'!')) {
                        let name = bytes[at + 1..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'/');
                        self.tag = name.map(|b| char::from(b.to_ascii_lowercase())).collect();
                        self.read += self.tag.len();
                        self.attribute.clear();
                        self.after_equals = false;
                        self.place = Place::Tag;
                    }
                }
                Place::Text => {}
                Place::Comment if bytes[..=at].ends_with(b"-->") => self.place = Place::Text,
                Place::Comment => {}
                Place::Raw => {
                    let closes = format!("</{}", self.tag);
                    if bytes[at..].len() >= closes.len()
                        && bytes[at..at + closes.len()].eq_ignore_ascii_case(closes.as_bytes())
                    {
                        self.place = Place::Tag;
                        self.tag.clear();
                    }
                }
                Place::Tag => self.in_tag(at, b),
                Place::Value { quote: Some(q), .. } if b == q => self.end_value(),
                Place::Value { quote: None, .. } if b.is_ascii_whitespace() => self.end_value(),
                Place::Value { quote: None, .. } if b == b'>' => self.end_tag(),
                Place::Value { .. } => {}
            }
        }
    }

    fn in_tag(&mut self, at: usize, b: u8) {
        match b {
            b'>' => self.end_tag(),
            b'=' => self.after_equals = true,
            b'"' | b'\'' if self.after_equals => self.open_value(Some(b), at + 1),
            _ if b.is_ascii_whitespace() => {
                if !self.after_equals {
                    self.attribute.clear();
                }
            }
            _ if self.after_equals => self.open_value(None, at),
            _ => self.attribute.push(char::from(b.to_ascii_lowercase())),
        }
    }

    fn end_value(&mut self) {
        self.place = Place::Tag;
        self.attribute.clear();
    }

    fn end_tag(&mut self) {
        self.place = if matches!(self.tag.as_str(), "script" | "style") { Place::Raw } else { Place::Text };
        self.after_equals = false;
    }
}

fn escape(text: &str, unquoted: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '+' => out.push_str("&#43;"),
            '\0' => out.push('\u{fffd}'),
            c if unquoted && (c.is_ascii_whitespace() || matches!(c, '=' | '`')) => {
                out.push_str(&format!("&#{};", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// Relative, or of a scheme that runs nothing.
fn harmless_url(url: &str) -> bool {
    match url.split_once(':') {
        Some((scheme, _)) if !scheme.contains('/') => {
            ["http", "https", "mailto"].iter().any(|s| scheme.eq_ignore_ascii_case(s))
        }
        _ => true,
    }
}

/// Percent-encodes; `normal` leaves what has a meaning in a URL, and what is encoded already.
fn encoded(url: &str, normal: bool) -> String {
    let mut out = String::with_capacity(url.len());
    for (at, b) in url.bytes().enumerate() {
        let keeps = match b {
            b'-' | b'.' | b'_' | b'~' => true,
            b'!' | b'#' | b'$' | b'&' | b'*' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'?' | b'@' | b'[' | b']' => {
                normal
            }
            b'%' => normal && url.as_bytes().get(at + 1..at + 3).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)),
            b => b.is_ascii_alphanumeric(),
        };
        if keeps { out.push(char::from(b)) } else { out.push_str(&format!("%{b:02x}")) }
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::template::{Functions, Object, Templates, Value};

    struct Trusted(&'static str, &'static str);
    impl Object for Trusted {
        fn type_name(&self) -> &str {
            self.0
        }
        fn member(&self, _: &str, _: &[Value]) -> Option<Result<Value, String>> {
            None
        }
        fn print(&self) -> Option<String> {
            Some(self.1.to_owned())
        }
    }

    /// Wanted texts come from Go 1.26's html/template.
    #[test]
    fn actions_are_escaped_for_where_they_stand() {
        let templates = Templates::new(Functions::builtin());
        let data = Value::map([
            ("t", Value::from("<a & \"b\">")),
            ("js", Value::from("javascript:alert(1)")),
            ("u", Value::from("http://h/p?a=1&b=x y")),
            ("html", Value::object(Trusted("template.HTML", "<b>hi</b>"))),
        ]);
        let check = |text: &str, want: &str| {
            let template = templates.parse("t", text).unwrap();
            assert_eq!(templates.render_html(&template, &data, &()).unwrap(), want, "{text}");
        };
        check("<p>{{ .t }}</p>", "<p>&lt;a &amp; &#34;b&#34;&gt;</p>");
        check("<p>{{ .html }}</p>", "<p><b>hi</b></p>");
        check("<a title=\"{{ .t }}\">", "<a title=\"&lt;a &amp; &#34;b&#34;&gt;\">");
        check("<a href='{{ .u }}'>{{ .t }}", "<a href='http://h/p?a=1&amp;b=x%20y'>&lt;a &amp; &#34;b&#34;&gt;");
        check("<a href=\"{{ .js }}\">", "<a href=\"#ZgotmplZ\">");
        check("<style>a{}</style>{{ .t }}", "<style>a{}</style>&lt;a &amp; &#34;b&#34;&gt;");
        check("<a href=\"/x?{{ .js }}\">", "<a href=\"/x?javascript%3aalert%281%29\">");
        // Go writes scripts and styles by their own rules, and leaves comments out.
        check("<script>{{ .t }}</script>", "<script>ZgotmplZ</script>");
        check("<!-- {{ .t }} -->", "<!--  -->");
    }
}
