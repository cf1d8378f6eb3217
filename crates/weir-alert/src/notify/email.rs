//! E-mail: a message of text and HTML, handed to a mail server.

use weir_model::Timestamp;

use super::{Answer, Receive, Say, Step, Texts, Verdict, all, or};
use crate::config::http::RawTls;
use crate::config::raw::{RawGlobal, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};
use crate::smtp::{Mail, Server};

receiver_keys!(Raw {
    to, from, smarthost, hello, auth_username, auth_password, auth_password_file, auth_secret, auth_secret_file,
    auth_identity, html, text,
} require_tls: Option<bool>, force_implicit_tls: Option<bool>, tls_config: Option<RawTls>,
   headers: std::collections::BTreeMap<String, String>, threading: RawThreading);

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawThreading {
    enabled: bool,
    /// `daily` starts a thread each day, `none` keeps one per group.
    thread_by_date: Option<String>,
}

#[derive(Debug)]
struct Email {
    server: Server,
    /// `to`, `from`, `text`, `html`.
    texts: Texts,
    /// Beside those that every mail has; canonical names.
    headers: Vec<(String, String)>,
    /// `Some(true)`: a new thread each day.
    threading: Option<bool>,
}

pub(crate) fn read(r: &mut Reader<'_>, global: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    if raw.http_config.is_some() {
        return Err(r.fail(line, "http_config has no meaning for email_configs"));
    }
    if raw.to.as_deref().unwrap_or_default().is_empty() {
        return Err(r.fail(line, "missing to address in email config"));
    }
    let pick = |own: &Option<String>, global: &Option<String>| own.clone().or_else(|| global.clone());
    let from = pick(&raw.from, &global.smtp_from).ok_or_else(|| r.fail(line, "no global SMTP from set"))?;
    let smarthost = pick(&raw.smarthost, &global.smtp_smarthost);
    let smarthost = smarthost.ok_or_else(|| r.fail(line, "no global SMTP smarthost set"))?;
    let port = smarthost.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port): (&str, u16) =
        port.ok_or_else(|| r.fail(line, format!("smarthost {smarthost:?}: address must be host:port")))?;
    let shared = ("smtp_auth_password", &global.smtp_auth_password, &global.smtp_auth_password_file);
    let password = r.secret_or(line, "auth_password", (&raw.auth_password, &raw.auth_password_file), shared)?;
    let shared = ("smtp_auth_secret", &global.smtp_auth_secret, &global.smtp_auth_secret_file);
    let secret = r.secret_or(line, "auth_secret", (&raw.auth_secret, &raw.auth_secret_file), shared)?;
    let tls = match raw.tls_config.as_ref().or(global.smtp_tls_config.as_ref()) {
        Some(tls) => r.tls(line, tls)?,
        None => Default::default(),
    };
    let implicit = raw.force_implicit_tls.or(global.smtp_force_implicit_tls);
    let server = Server {
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
        hello: pick(&raw.hello, &global.smtp_hello).unwrap_or_else(|| "localhost".to_owned()),
        username: pick(&raw.auth_username, &global.smtp_auth_username).unwrap_or_default(),
        password: password.unwrap_or(Secret(String::new())),
        secret: secret.unwrap_or(Secret(String::new())),
        identity: pick(&raw.auth_identity, &global.smtp_auth_identity).unwrap_or_default(),
        require_tls: raw.require_tls.or(global.smtp_require_tls).unwrap_or(true),
        implicit_tls: implicit.unwrap_or(port == 465),
        tls,
    };
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in &raw.headers {
        let name = canonical(name);
        if headers.iter().any(|(known, _)| *known == name) {
            return Err(r.fail(line, format!("duplicate header {name:?} in email config")));
        }
        headers.push((name, value.clone()));
    }
    let threading = match (raw.threading.enabled, raw.threading.thread_by_date.as_deref()) {
        (false, _) => None,
        (true, None | Some("daily")) => Some(true),
        (true, Some("none")) => Some(false),
        (true, Some(other)) => {
            return Err(r.fail(line, format!("threading.thread_by_date {other:?} is not daily or none")));
        }
    };
    let texts = Texts::from([
        ("to", or(&raw.to, "")),
        ("from", from),
        ("text", or(&raw.text, "")),
        ("html", or(&raw.html, r#"{{ template "email.default.html" . }}"#)),
    ]);
    let send_resolved = raw.send_resolved.unwrap_or(false);
    r.integration(line, send_resolved, &None, Email { server, texts, headers, threading })
}

impl Receive for Email {
    fn name(&self) -> &'static str {
        "email"
    }
    fn target(&self) -> &str {
        &self.server.host
    }
    fn templates(&self) -> Vec<&str> {
        all(&self.texts).into_iter().chain(self.headers.iter().map(|(_, t)| t.as_str())).collect()
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        if !answers.is_empty() {
            return Ok(Step::End(Verdict::delivered()));
        }
        let (from, to) = (say.of(&self.texts, "from")?, say.of(&self.texts, "to")?);
        let addresses = addresses(&to);
        if addresses.is_empty() {
            return Err(format!("no address in to: {to:?}"));
        }
        let sender = addresses_one(&from)?;
        Ok(Step::Mail(Box::new(Mail {
            server: self.server.clone(),
            message: self.message(say, &from, &to)?,
            from: sender,
            to: addresses,
            kept: String::new(),
        })))
    }
}

impl Email {
    fn message(&self, say: &Say<'_>, from: &str, to: &str) -> Result<String, String> {
        let mut headers = Vec::new();
        for (name, text) in &self.headers {
            headers.push((name.clone(), say.text(text)?));
        }
        // Rendered already: what an alert says must not be taken for a template.
        let mut default = |name: &str, value: String| {
            if !headers.iter().any(|(known, _)| known == name) {
                headers.push((name.to_owned(), value));
            }
        };
        default("Subject", say.text(r#"{{ template "email.default.subject" . }}"#)?);
        default("To", to.to_owned());
        default("From", from.to_owned());
        let key = say.dedup_key();
        let host = &self.server.hello;
        default("Message-Id", format!("<{}.{}@{host}>", say.now.0, &key[..24]));
        if let Some(daily) = self.threading {
            let day = if daily { format!("{}.", &date(say.now, "%Y-%m-%d")) } else { String::new() };
            let thread = format!("<alert.{day}{}@alertmanager>", &key[..24]);
            default("References", thread.clone());
            default("In-Reply-To", thread);
        }
        let mut message = String::new();
        for (name, value) in &headers {
            // Nothing from an alert may begin a header of its own.
            let value = value.replace(['\r', '\n'], " ");
            message += &format!("{name}: {}\r\n", encoded_word(&value));
        }
        message += &format!("Date: {}\r\n", date(say.now, "%a, %d %b %Y %H:%M:%S +0000"));
        // Unlike any line of a quoted-printable text.
        let boundary = format!("=_{}", &key[..32]);
        message += &format!("Content-Type: multipart/alternative;  boundary={boundary:?}\r\nMIME-Version: 1.0\r\n\r\n");
        for (kind, body) in
            [("text/plain", say.of(&self.texts, "text")?), ("text/html", say.html(&self.texts["html"])?)]
        {
            if !body.is_empty() {
                message += &format!(
                    "--{boundary}\r\nContent-Transfer-Encoding: quoted-printable\r\n\
                     Content-Type: {kind}; charset=UTF-8\r\n\r\n{}\r\n",
                    quoted_printable(&body)
                );
            }
        }
        message += &format!("--{boundary}--\r\n");
        Ok(message)
    }
}

fn date(now: Timestamp, format: &str) -> String {
    jiff::Timestamp::from_millisecond(now.0).map(|t| t.strftime(format).to_string()).unwrap_or_default()
}

/// `Message-Id` for `message-id`.
fn canonical(name: &str) -> String {
    let mut upper = true;
    let each = name.chars().map(|c| {
        let out = if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        upper = c == '-';
        out
    });
    each.collect()
}

/// Bare addresses of a list such as `Ann <a@x>, b@y`. White space and control characters end one.
fn addresses(list: &str) -> Vec<String> {
    let one = |part: &str| {
        let inner = part.rsplit_once('<').map_or(part, |(_, rest)| rest.split('>').next().unwrap_or(rest)).trim();
        let plain = !inner.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>'));
        (plain && inner.contains('@')).then(|| inner.to_owned())
    };
    list.split(',').filter_map(one).collect()
}

fn addresses_one(text: &str) -> Result<String, String> {
    match &mut addresses(text)[..] {
        [one] => Ok(std::mem::take(one)),
        _ => Err(format!("from {text:?} is not one address")),
    }
}

/// Text beyond ASCII as encoded words, of at most 75 characters each. Source: RFC 2047.
fn encoded_word(text: &str) -> String {
    if text.bytes().all(|b| matches!(b, 0x20..=0x7e)) {
        return text.to_owned();
    }
    let mut words = vec![String::new()];
    for c in text.chars() {
        let mut buffer = [0; 4];
        let coded: String = c
            .encode_utf8(&mut buffer)
            .bytes()
            .map(|b| match b {
                b' ' => "_".to_owned(),
                b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
                b => format!("={b:02X}"),
            })
            .collect();
        if words.last().is_some_and(|w| w.len() + coded.len() > 60) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push_str(&coded);
        }
    }
    let words: Vec<String> = words.iter().map(|w| format!("=?utf-8?q?{w}?=")).collect();
    words.join("\r\n ")
}

/// Lines of at most 76 characters. Source: RFC 2045.
fn quoted_printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 5 / 4);
    for (idx, line) in text.split('\n').enumerate() {
        if idx > 0 {
            out.push_str("\r\n");
        }
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mut width = 0;
        for (at, b) in line.bytes().enumerate() {
            let last = at + 1 == line.len();
            let plain = matches!(b, 0x21..=0x3c | 0x3e..=0x7e) || (matches!(b, b' ' | b'\t') && !last);
            let size = if plain { 1 } else { 3 };
            if width + size > 75 {
                out.push_str("=\r\n");
                width = 0;
            }
            if plain {
                out.push(char::from(b))
            } else {
                out.push_str(&format!("={b:02X}"))
            }
            width += size;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_coded_for_the_wire() {
        assert_eq!(quoted_printable("a=b\nschön "), "a=3Db\r\nsch=C3=B6n=20");
        let long = quoted_printable(&"x".repeat(100));
        assert!(long.lines().all(|l| l.len() <= 76) && long.contains("=\r\n"), "{long}");
        assert_eq!(encoded_word("plain [FIRING:1]"), "plain [FIRING:1]");
        assert_eq!(encoded_word("schön da"), "=?utf-8?q?sch=C3=B6n_da?=");
        assert_eq!(addresses("Ann <a@x.org>, b@y.org, no, c@z\r\nRCPT"), ["a@x.org", "b@y.org"]);
        assert_eq!(canonical("x-my-ID"), "X-My-Id");
    }
}
