//! Syslog: messages of RFC 5424 and RFC 3164 out of streams and datagrams. Pure.
//!
//! A stream counts octets or ends each message with a newline (RFC 6587), told by its first byte; Python's handler
//! ends them with a NUL. What is no syslog at all is a message without a header.

mod frame;
mod receive;

pub use frame::{FrameError, Frames};
pub use receive::{SyslogConfig, SyslogPipe, SyslogProtocol};

use std::sync::LazyLock;

use jiff::tz::TimeZone;
use weir_model::Nanos;

use super::stage::timestamp::Format;

/// A message, as far as it says these things.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyslogMessage {
    pub priority: Option<u8>,
    pub at: Option<Nanos>,
    pub hostname: Option<String>,
    pub app_name: Option<String>,
    pub proc_id: Option<String>,
    pub msg_id: Option<String>,
    /// Identifier of an element, name and value of a parameter.
    pub data: Vec<(String, String, String)>,
    pub message: String,
}

const SEVERITIES: [&str; 8] =
    ["emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug"];

const FACILITIES: [&str; 24] = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "ntp",
    "security",
    "console",
    "solaris-cron",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];

impl SyslogMessage {
    /// `now`: for times without a year; `zone`: for those without an offset.
    pub fn parse(bytes: &[u8], now: Nanos, zone: &TimeZone) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches(['\n', '\r', '\0']);
        let Some((priority, rest)) = priority(text) else {
            return Self { message: text.to_owned(), ..Self::default() };
        };
        let read = rest.strip_prefix("1 ").and_then(rfc5424);
        Self { priority: Some(priority), ..read.unwrap_or_else(|| rfc3164(rest, now, zone)) }
    }

    pub fn severity(&self) -> Option<&'static str> {
        self.priority.map(|p| SEVERITIES[usize::from(p % 8)])
    }

    pub fn facility(&self) -> Option<&'static str> {
        self.priority.and_then(|p| FACILITIES.get(usize::from(p / 8)).copied())
    }

    /// Labels for relabelling. `has_data`: also of the parameters of structured data.
    pub fn labels(&self, has_data: bool) -> Vec<(String, String)> {
        let fields = [
            ("severity", self.severity()),
            ("facility", self.facility()),
            ("hostname", self.hostname.as_deref()),
            ("app_name", self.app_name.as_deref()),
            ("proc_id", self.proc_id.as_deref()),
            ("msg_id", self.msg_id.as_deref()),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let mut out: Vec<(String, String)> =
            given.map(|(name, value)| (format!("__syslog_message_{name}"), value.to_owned())).collect();
        if has_data {
            for (id, name, value) in &self.data {
                let name: String = format!("__syslog_message_sd_{id}_{name}");
                let safe = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
                out.push((safe, value.clone()));
            }
        }
        out
    }
}

/// `<34>`: facility times eight, and severity.
fn priority(text: &str) -> Option<(u8, &str)> {
    let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_number = (1..=3).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    let number: u16 = number.parse().ok().filter(|_| is_number)?;
    u8::try_from(number).ok().filter(|n| *n < 192).map(|n| (n, rest))
}

fn given(word: &str) -> Option<String> {
    (word != "-" && !word.is_empty()).then(|| word.to_owned())
}

/// Behind the version.
fn rfc5424(text: &str) -> Option<SyslogMessage> {
    let mut words = text.splitn(6, ' ');
    let mut next = || words.next();
    let (time, hostname, app_name, proc_id, msg_id, rest) = (next()?, next()?, next()?, next()?, next()?, next()?);
    let at = match time {
        "-" => None,
        time => Some(super::stage::rfc3339(time)?),
    };
    let (data, message) = structured_data(rest)?;
    Some(SyslogMessage {
        priority: None,
        at,
        hostname: given(hostname),
        app_name: given(app_name),
        proc_id: given(proc_id),
        msg_id: given(msg_id),
        data,
        message: message.strip_prefix('\u{feff}').unwrap_or(message).to_owned(),
    })
}

type Data = Vec<(String, String, String)>;

/// `[id name="value" …][…] message` or `- message`; what is malformed is no structured data.
fn structured_data(text: &str) -> Option<(Data, &str)> {
    let message = |rest: &'_ str| -> Option<usize> {
        match rest.as_bytes().first() {
            None => Some(0),
            Some(b' ') => Some(1),
            Some(_) => None,
        }
    };
    if let Some(rest) = text.strip_prefix('-') {
        return message(rest).map(|n| (Vec::new(), &rest[n..]));
    }
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(inner) = rest.strip_prefix('[') {
        let end = inner.find([' ', ']'])?;
        let (id, mut params) = inner.split_at(end);
        while let Some(param) = params.strip_prefix(' ') {
            let (name, quoted) = param.split_once("=\"")?;
            let (value, n) = quoted_value(quoted)?;
            out.push((id.to_owned(), name.to_owned(), value));
            params = &quoted[n..];
        }
        rest = params.strip_prefix(']')?;
    }
    if rest.len() == text.len() {
        return None;
    }
    message(rest).map(|n| (out, &rest[n..]))
}

/// Up to the closing quote; answers the bytes used with it.
fn quoted_value(text: &str) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (c, chars.peek()) {
            ('"', _) => return Some((out, at + 1)),
            ('\\', Some((_, escaped @ ('"' | '\\' | ']')))) => {
                out.push(*escaped);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    None
}

static BSD_TIME: LazyLock<Format> = LazyLock::new(|| Format::parse("Jan _2 15:04:05"));

/// `Oct 11 22:14:15 host tag[pid]: text`, of which any part may be missing.
fn rfc3164(text: &str, now: Nanos, zone: &TimeZone) -> SyslogMessage {
    let text = text.trim_start();
    let (at, rest) = bsd_time(text, now, zone);
    let mut out = SyslogMessage { at, ..SyslogMessage::default() };
    let mut rest = rest;
    if at.is_some() {
        // A word that ends with a colon, or has a process in brackets, is a tag already.
        if let Some((word, behind)) = rest.split_once(' ').filter(|(word, _)| tag(word).is_none() && !word.is_empty()) {
            out.hostname = Some(word.to_owned());
            rest = behind;
        }
    }
    let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
    match tag(word) {
        Some((name, process)) => {
            out.app_name = Some(name.to_owned());
            out.proc_id = process.map(str::to_owned);
            out.message = behind.to_owned();
        }
        None => out.message = rest.to_owned(),
    }
    out
}

/// The time at the beginning, as BSD or as RFC 3339 has it, and what follows.
fn bsd_time<'a>(text: &'a str, now: Nanos, zone: &TimeZone) -> (Option<Nanos>, &'a str) {
    const LEN: usize = "Oct 11 22:14:15".len();
    if let Some((time, rest)) = text.split_at_checked(LEN)
        && let Some(at) = BSD_TIME.read(time, zone, now)
        && let Some(rest) = rest.strip_prefix(' ')
    {
        return (Some(at), rest);
    }
    match text.split_once(' ') {
        Some((word, rest)) if super::stage::rfc3339(word).is_some() => (super::stage::rfc3339(word), rest),
        _ => (None, text),
    }
}

/// `name:` or `name[process]:`
fn tag(word: &str) -> Option<(&str, Option<&str>)> {
    let word = word.strip_suffix(':')?;
    let (name, process) = match word.strip_suffix(']').and_then(|word| word.split_once('[')) {
        Some((name, process)) => (name, Some(process)),
        None => (word, None),
    };
    let is_name = !name.is_empty() && name.len() <= 64 && !name.contains(['"', '{', '}', '=']);
    is_name.then_some((name, process.filter(|process| !process.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Nanos = Nanos(1_700_000_000_000_000_000);

    fn show(text: &str) -> String {
        let m = SyslogMessage::parse(text.as_bytes(), NOW, &TimeZone::UTC);
        let at = m.at.map_or("-".to_owned(), |at| jiff::Timestamp::from_nanosecond(at.0.into()).unwrap().to_string());
        let word = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let data: Vec<String> = m.data.iter().map(|(id, name, value)| format!("{id}.{name}={value}")).collect();
        [
            word(m.facility()),
            word(m.severity()),
            at,
            word(m.hostname.as_deref()),
            word(m.app_name.as_deref()),
            word(m.proc_id.as_deref()),
            word(m.msg_id.as_deref()),
            format!("[{}]", data.join(",")),
            m.message,
        ]
        .join(" ")
    }

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(show(text), want, "{text}");
    }

    /// The examples of RFC 5424, section 6.5, and what real senders write.
    #[test]
    fn messages_of_rfc_5424() {
        check(
            "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed for lonvick on /dev/pts/8",
            "auth critical 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 [] 'su root' failed for lonvick on /dev/pts/8",
        );
        check(
            "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.",
            "local4 notice 2003-08-24T12:14:15.000003Z 192.0.2.1 myproc 8710 - [] %% It's time to make the do-nuts.",
        );
        check(
            "<165>1 2003-10-11T22:14:15.003Z h evntslog - ID47 [exampleSDID@32473 iut=\"3\" eventSource=\"App\\\"l\\]\"][x y=\"\"] An event",
            "local4 notice 2003-10-11T22:14:15.003Z h evntslog - ID47 [exampleSDID@32473.iut=3,exampleSDID@32473.eventSource=App\"l],x.y=] An event",
        );
        check("<13>1 - - - - - -", "user notice - - - - - [] ");
        check("<13>1 - - - - - [empty] x", "user notice - - - - - [] x");
    }

    #[test]
    fn messages_of_rfc_3164() {
        check(
            "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
            "auth critical 2023-10-11T22:14:15Z mymachine su - - [] 'su root' failed for lonvick on /dev/pts/8",
        );
        check(
            "<13>Feb  5 17:32:18 10.0.0.99 cron[77]: Use the BFG!",
            "user notice 2023-02-05T17:32:18Z 10.0.0.99 cron 77 - [] Use the BFG!",
        );
        check("<13>Feb  5 17:32:18 su: no host", "user notice 2023-02-05T17:32:18Z - su - - [] no host");
        check("<13>2019-01-01T01:00:00Z host app: text", "user notice 2019-01-01T01:00:00Z host app - - [] text");
        check("<14>just text\0", "user informational - - - - - [] just text");
        check("<14>app: text\n", "user informational - - app - - [] text");
        check("no header at all", "- - - - - - - [] no header at all");
        check("<999>x", "- - - - - - - [] <999>x");
        check("<13>1 not of that kind", "user notice - - - - - [] 1 not of that kind");
    }

    #[test]
    fn labels_have_upstreams_names() {
        let text = b"<165>1 - h a 1 m [custom@99770 exkey=\"1\"] x";
        let labels = SyslogMessage::parse(text, NOW, &TimeZone::UTC).labels(true);
        let got: Vec<String> =
            labels.iter().map(|(n, v)| format!("{}={v}", n.trim_start_matches("__syslog_message_"))).collect();
        assert_eq!(
            got,
            [
                "severity=notice",
                "facility=local4",
                "hostname=h",
                "app_name=a",
                "proc_id=1",
                "msg_id=m",
                "sd_custom_99770_exkey=1"
            ]
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), text in "<13>(1 )?[-\\[\\]\" =a-zä:0-9]{0,60}") {
            SyslogMessage::parse(&bytes, NOW, &TimeZone::UTC);
            SyslogMessage::parse(text.as_bytes(), NOW, &TimeZone::UTC).labels(true);
        }
    }
}
