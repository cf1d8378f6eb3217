//! Just enough of SMTP to hand over a mail: STARTTLS or TLS from the start, PLAIN, LOGIN, CRAM-MD5.
//!
//! Source: RFC 5321, RFC 3207, RFC 4954, RFC 2195.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::config::Secret;
use crate::config::http::TlsConfig;
use crate::notify::Verdict;

/// Longest line of a server; RFC 5321 says 512.
const LINE_BYTES_MAX: u64 = 8 << 10;
const LINES_MAX: usize = 100;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a mail goes in, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub host: String,
    pub port: u16,
    pub hello: String,
    pub username: String,
    pub password: Secret,
    pub secret: Secret,
    pub identity: String,
    pub require_tls: bool,
    pub implicit_tls: bool,
    pub tls: TlsConfig,
}

#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub server: Server,
    /// Bare addresses.
    pub from: String,
    pub to: Vec<String>,
    /// Headers and body, lines ending with CRLF.
    pub message: String,
    /// Kept when it is delivered.
    pub kept: String,
}

/// A refusal for good has a code of 5xx.
enum Failure {
    Broken(String),
    Refused(String),
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::Broken(format!("connection: {e}"))
    }
}

pub(crate) async fn deliver(mail: &Mail) -> Verdict {
    match talk(mail).await {
        Ok(()) => Verdict::Delivered { kept: mail.kept.clone() },
        Err(Failure::Broken(reason)) => Verdict::retry(reason),
        Err(Failure::Refused(reason)) => Verdict::Refused(reason),
    }
}

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

struct Session {
    wire: BufReader<Box<dyn Wire>>,
    /// What the server said it can do, in capitals.
    features: Vec<String>,
}

async fn talk(mail: &Mail) -> Result<(), Failure> {
    let server = &mail.server;
    let connecting = TcpStream::connect((server.host.as_str(), server.port));
    let tcp = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| Failure::Broken("no connection to the mail server in time".to_owned()))??;
    let wire: Box<dyn Wire> = if server.implicit_tls { Box::new(secure(server, tcp).await?) } else { Box::new(tcp) };
    let mut session = Session { wire: BufReader::new(wire), features: Vec::new() };
    session.expect("greeting", 220).await?;
    session.hello(server).await?;
    if !server.implicit_tls {
        if session.has("STARTTLS") {
            session.say("STARTTLS").await?;
            session.expect("STARTTLS", 220).await?;
            // What was sent before the handshake must not count as said after it.
            if !session.wire.buffer().is_empty() {
                return Err(Failure::Refused("the mail server spoke before the TLS handshake".to_owned()));
            }
            let plain = session.wire.into_inner();
            let wire: Box<dyn Wire> = Box::new(secure(server, plain).await?);
            session = Session { wire: BufReader::new(wire), features: Vec::new() };
            session.hello(server).await?;
        } else if server.require_tls {
            return Err(Failure::Refused(
                "require_tls is true (the default) but the mail server does not offer STARTTLS".to_owned(),
            ));
        }
    }
    session.log_in(server).await?;
    session.say(&format!("MAIL FROM:<{}>", mail.from)).await?;
    session.expect("MAIL", 250).await?;
    for to in &mail.to {
        session.say(&format!("RCPT TO:<{to}>")).await?;
        session.expect("RCPT", 250).await?;
    }
    session.say("DATA").await?;
    session.expect("DATA", 354).await?;
    let mut body = String::with_capacity(mail.message.len() + 64);
    for line in mail.message.split_inclusive("\r\n") {
        if line.starts_with('.') {
            body.push('.');
        }
        body.push_str(line);
    }
    if !body.ends_with("\r\n") {
        body.push_str("\r\n");
    }
    session.say(&format!("{body}.")).await?;
    session.expect("message", 250).await?;
    // It is delivered, whatever comes now.
    let _ = session.say("QUIT").await;
    Ok(())
}

async fn secure<W: Wire>(server: &Server, wire: W) -> Result<tokio_rustls::client::TlsStream<W>, Failure> {
    let config = crate::tls::client_config(&server.tls).map_err(Failure::Refused)?;
    let name = rustls_pki_types::ServerName::try_from(server.host.clone());
    let name = name.map_err(|_| Failure::Refused(format!("{:?} is not a host name", server.host)))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, wire).await.map_err(|e| Failure::Broken(format!("TLS with the mail server: {e}")))
}

impl Session {
    fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|f| f == feature || f.starts_with(&format!("{feature} ")))
    }

    async fn say(&mut self, line: &str) -> Result<(), Failure> {
        self.wire.write_all(format!("{line}\r\n").as_bytes()).await?;
        Ok(self.wire.flush().await?)
    }

    /// Code and lines of an answer.
    async fn answer(&mut self) -> Result<(u16, Vec<String>), Failure> {
        let mut lines = Vec::new();
        while lines.len() < LINES_MAX {
            let mut line = Vec::new();
            (&mut self.wire).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let code: Option<u16> = line.get(..3).and_then(|c| c.parse().ok());
            let Some(code) = code else {
                return Err(Failure::Broken("the mail server does not speak SMTP, or hung up".to_owned()));
            };
            let more = line.as_bytes().get(3) == Some(&b'-');
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if !more {
                return Ok((code, lines));
            }
        }
        Err(Failure::Broken("the mail server's answer does not end".to_owned()))
    }

    async fn expect(&mut self, what: &str, want: u16) -> Result<Vec<String>, Failure> {
        let (code, lines) = self.answer().await?;
        if code == want || (want == 250 && code == 251) {
            return Ok(lines);
        }
        let said = format!("{what}: the mail server said {code} {}", lines.join(" "));
        Err(if code >= 500 { Failure::Refused(said) } else { Failure::Broken(said) })
    }

    async fn hello(&mut self, server: &Server) -> Result<(), Failure> {
        self.say(&format!("EHLO {}", server.hello)).await?;
        self.features = self.expect("EHLO", 250).await?.iter().skip(1).map(|l| l.to_ascii_uppercase()).collect();
        Ok(())
    }

    /// With the first way that the server offers and there is a secret for.
    async fn log_in(&mut self, server: &Server) -> Result<(), Failure> {
        if server.username.is_empty() {
            return Ok(());
        }
        let Some(offered) = self.features.iter().find_map(|f| f.strip_prefix("AUTH ").map(str::to_owned)) else {
            return Ok(());
        };
        let encode = |text: &str| crate::base64::encode(text.as_bytes());
        for way in offered.split_whitespace() {
            match way {
                "CRAM-MD5" if !server.secret.0.is_empty() => {
                    self.say("AUTH CRAM-MD5").await?;
                    let challenge = self.expect("AUTH", 334).await?.join("");
                    let challenge = crate::base64::decode(challenge.trim())
                        .ok_or_else(|| Failure::Broken("AUTH: the challenge is not base64".to_owned()))?;
                    let digest = hex::encode(crate::md5::hmac(server.secret.0.as_bytes(), &challenge));
                    self.say(&encode(&format!("{} {digest}", server.username))).await?;
                }
                "PLAIN" if !server.password.0.is_empty() => {
                    let text = format!("{}\0{}\0{}", server.identity, server.username, server.password.0);
                    self.say(&format!("AUTH PLAIN {}", encode(&text))).await?;
                }
                "LOGIN" if !server.password.0.is_empty() => {
                    self.say("AUTH LOGIN").await?;
                    self.expect("AUTH", 334).await?;
                    self.say(&encode(&server.username)).await?;
                    self.expect("AUTH", 334).await?;
                    self.say(&encode(&server.password.0)).await?;
                }
                _ => continue,
            }
            self.expect("AUTH", 235).await?;
            return Ok(());
        }
        Err(Failure::Refused(format!("no way to log in: the mail server offers {offered}")))
    }
}
