//! Notifications over real HTTP to a receiver that follows a script.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use weir_alert::{Alerts, CauseNote, Enricher, PostedAlert, parse_config};
use weir_model::{Labels, SystemClock, TenantId};

/// One answer: a pause, a status, a body.
type Answer = (Duration, u16, &'static str);

#[derive(Clone, Debug)]
struct Got {
    head: String,
    body: Value,
}

/// Answers as told, then 200 `ok`; keeps what it was sent.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    async fn start(script: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        let kept = got.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (script, kept) = (script.clone(), kept.clone());
                tokio::spawn(async move {
                    let mut bytes = Vec::new();
                    let (head, body) = loop {
                        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                            return;
                        }
                        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
                        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
                        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap();
                        let length: usize = length.trim().parse().unwrap();
                        if bytes.len() >= end + 4 + length {
                            break (head, serde_json::from_slice(&bytes[end + 4..]).unwrap_or_default());
                        }
                    };
                    kept.lock().unwrap().push(Got { head, body });
                    let next = script.lock().unwrap().pop_front();
                    let (pause, status, text) = next.unwrap_or((Duration::ZERO, 200, "ok"));
                    tokio::time::sleep(pause).await;
                    let answer = format!(
                        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                        text.len()
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { url, got }
    }

    async fn wait(&self, n: usize) -> Vec<Got> {
        for _ in 0..1000 {
            let got = self.got.lock().unwrap().clone();
            if got.len() >= n {
                return got;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} of {n} notifications came", self.got.lock().unwrap().len());
    }
}

fn start(receiver: &str, enricher: Option<Arc<dyn Enricher>>) -> (Alerts, CancellationToken) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let text =
        format!("route: {{receiver: r, group_wait: 0s, group_interval: 1s}}\nreceivers:\n- name: r\n{receiver}\n");
    let config = parse_config("am.yml", &text, None).unwrap();
    let alerts = Alerts::new(Arc::new(SystemClock), config, "http://weir".into(), weir_state::State::in_memory());
    if let Some(enricher) = enricher {
        alerts.set_enricher(enricher);
    }
    let stop = CancellationToken::new();
    tokio::spawn(alerts.clone().run(stop.clone()));
    (alerts, stop)
}

fn fire(alerts: &Alerts) {
    let labels = Labels::from_pairs([("alertname", "Lag")]);
    alerts.post(&TenantId::anonymous(), PostedAlert { labels, ..PostedAlert::default() }).unwrap();
}

async fn sent(alerts: &Alerts, n: usize) -> Vec<weir_alert::SentNotification> {
    for _ in 0..1000 {
        let sent = alerts.notifications(&TenantId::anonymous(), 10);
        if sent.len() >= n {
            return sent;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no notification was logged");
}

const NOW: Duration = Duration::ZERO;

#[tokio::test]
async fn errors_and_slowness_are_retried_until_it_is_delivered() {
    let slow = Duration::from_secs(5);
    let receiver = Receiver::start(vec![(NOW, 500, "broken"), (slow, 200, "")]).await;
    let config = format!("  webhook_configs: [{{url: '{}/hook', timeout: 300ms}}]", receiver.url);
    let (alerts, _stop) = start(&config, None);
    fire(&alerts);
    let got = receiver.wait(3).await;
    assert!(got.iter().all(|g| g.body == got[0].body), "each attempt sends the same");
    assert!(got[0].head.contains("user-agent: alertmanager/"), "{}", got[0].head);
    assert_eq!(got[0].body["alerts"][0]["labels"]["alertname"], "Lag");
    let log = sent(&alerts, 1).await;
    assert_eq!((log.len(), log[0].error.as_deref(), &*log[0].reason), (1, None, "first notification"));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(receiver.got.lock().unwrap().len(), 3, "delivered once, it is not said again");
}

#[tokio::test]
async fn pagerduty_waits_when_it_is_told_to_and_gets_the_cause_under_the_same_key() {
    struct Late(std::time::Instant);
    impl Enricher for Late {
        fn lines(&self, _: &TenantId, _: u64) -> Option<CauseNote> {
            (self.0.elapsed() > Duration::from_secs(2)).then(|| CauseNote {
                key: "index".into(),
                title: "index dropped".into(),
                lines: vec!["rows 1 -> 9000".into()],
                confidence: 0.9,
                url: "http://weir/incidents/1".into(),
            })
        }
    }
    let receiver = Receiver::start(vec![(NOW, 429, "slow down"), (NOW, 202, "")]).await;
    let config = format!("  pagerduty_configs: [{{routing_key: k3y, url: '{}/v2/enqueue'}}]", receiver.url);
    let (alerts, _stop) = start(&config, Some(Arc::new(Late(std::time::Instant::now()))));
    fire(&alerts);
    let got = receiver.wait(3).await;
    assert!(got[0].head.starts_with("post /v2/enqueue "));
    let keys: Vec<&Value> = got.iter().map(|g| &g.body["dedup_key"]).collect();
    assert!(keys.iter().all(|k| *k == keys[0]), "one page: {keys:?}");
    assert!(got[1].body["payload"]["custom_details"].get("cause").is_none());
    assert_eq!(got[2].body["event_action"], "trigger");
    assert_eq!(got[2].body["payload"]["custom_details"]["cause"], "index dropped");
    let reasons: Vec<String> = sent(&alerts, 2).await.into_iter().map(|n| n.reason).collect();
    assert_eq!(reasons, ["cause known", "first notification"]);
}

#[tokio::test]
async fn a_refusal_is_final_named_and_holds_no_secret() {
    let refusal = (NOW, 200, "{\"ok\":false,\"error\":\"channel_not_found\"}");
    let receiver = Receiver::start(vec![refusal; 100]).await;
    let config = format!("  slack_configs: [{{api_url: '{}/services/t0ken', channel: '#x'}}]", receiver.url);
    let (alerts, stop) = start(&config, None);
    fire(&alerts);
    let error = sent(&alerts, 1).await[0].error.clone().unwrap();
    stop.cancel();
    assert_eq!(error, "slack refused: channel_not_found");
    let got = receiver.wait(1).await;
    assert_eq!(got[0].body["channel"], "#x");

    let dead = "  webhook_configs: [{url: 'http://127.0.0.1:1/t0ken'}]";
    let (alerts, _stop) = start(dead, None);
    fire(&alerts);
    let error =
        tokio::time::timeout(Duration::from_secs(20), sent(&alerts, 1)).await.unwrap()[0].error.clone().unwrap();
    assert!(error.contains("refused") && error.contains("attempt") && !error.contains("t0ken"), "{error}");
}

#[tokio::test]
async fn credentials_go_where_they_belong() {
    let receiver = Receiver::start(Vec::new()).await;
    let url = &receiver.url;
    let config = format!(
        "  webhook_configs:\n  - {{url: '{url}/a', http_config: {{basic_auth: {{username: u, password: p}}}}}}\n  \
         - {{url: '{url}/b', http_config: {{authorization: {{credentials: t}}}}}}"
    );
    let (alerts, _stop) = start(&config, None);
    fire(&alerts);
    let got = receiver.wait(2).await;
    let head = |path: &str| got.iter().find(|g| g.head.starts_with(&format!("post {path} "))).unwrap().head.clone();
    assert!(head("/a").contains("authorization: basic dtpw"));
    assert!(head("/b").contains("authorization: bearer t"));
}

/// A mail server that follows RFC 5321 and keeps what it hears, over TLS when it is told to.
async fn mail_server(
    stream: tokio::net::TcpStream,
    tls: Option<tokio_rustls::TlsAcceptor>,
    heard: Arc<Mutex<Vec<String>>>,
) {
    use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
    trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
    impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}
    let mut wire: BufReader<Box<dyn Wire>> = BufReader::new(Box::new(stream));
    let (mut in_data, mut secure) = (false, false);
    wire.write_all(b"220 mail\r\n").await.unwrap();
    loop {
        let mut line = String::new();
        if wire.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end().to_owned();
        heard.lock().unwrap().push(line.clone());
        if in_data {
            if line == "." {
                in_data = false;
                wire.write_all(b"250 taken\r\n").await.unwrap();
            }
            continue;
        }
        let answer: &[u8] = match line.split(' ').next().unwrap() {
            "EHLO" if secure => b"250-mail\r\n250 AUTH CRAM-MD5 PLAIN\r\n",
            "EHLO" => b"250-mail\r\n250 STARTTLS\r\n",
            "STARTTLS" => {
                wire.write_all(b"220 go on\r\n").await.unwrap();
                let accepted = tls.clone().unwrap().accept(wire.into_inner()).await.unwrap();
                wire = BufReader::new(Box::new(accepted));
                secure = true;
                continue;
            }
            "AUTH" => b"235 welcome\r\n",
            "DATA" => {
                in_data = true;
                b"354 go on\r\n"
            }
            _ => b"250 fine\r\n",
        };
        wire.write_all(answer).await.unwrap();
    }
}

#[tokio::test]
async fn mails_are_handed_over_encrypted_and_as_somebody() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let tls = rustls::ServerConfig::builder().with_no_client_auth();
    let tls = tls.with_single_cert(vec![own.cert.der().clone()], key).unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = heard.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(mail_server(stream, Some(tls.clone()), kept.clone()));
        }
    });
    let dir = std::env::temp_dir().join(format!("weir-alert-mail-{port}"));
    std::fs::create_dir_all(&dir).unwrap();
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, own.cert.pem()).unwrap();
    let config = format!(
        "  email_configs: [{{to: ops@x.org, from: weir@x.org, smarthost: 'localhost:{port}', auth_username: u, \
         auth_password: s3cret, text: '..{{{{ .Status }}}}', tls_config: {{ca_file: {}}}}}]",
        ca.display()
    );
    let (alerts, _stop) = start(&config, None);
    fire(&alerts);
    let log = sent(&alerts, 1).await;
    assert_eq!((log[0].error.as_deref(), log[0].integration), (None, "email"));
    let heard = heard.lock().unwrap().clone();
    let position =
        |what: &str| heard.iter().position(|l| l.starts_with(what)).unwrap_or_else(|| panic!("{what}: {heard:?}"));
    assert!(
        position("STARTTLS") < position("AUTH PLAIN AHUAczNjcmV0")
            && position("AUTH") < position("MAIL FROM:<weir@x.org>")
    );
    assert!(position("RCPT TO:<ops@x.org>") < position("Subject: [FIRING:1]"));
    position("...firing");
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn who_is_told_to_wait_waits_and_tokens_are_fetched_once() {
    let receiver = Receiver::start(vec![
        (NOW, 200, r#"{"access_token":"t0ken","expires_in":3600}"#),
        (NOW, 503, "not yet"),
        (NOW, 200, "ok"),
    ])
    .await;
    let config = format!(
        "  webhook_configs: [{{url: '{0}/hook', http_config: {{http_headers: {{X-Team: {{values: [a]}}}}, oauth2: {{client_id: c, \
         client_secret: s, token_url: '{0}/token', scopes: [x]}}}}}}]",
        receiver.url
    );
    let (alerts, _stop) = start(&config, None);
    fire(&alerts);
    let got = receiver.wait(3).await;
    let paths: Vec<&str> = got.iter().map(|g| g.head.split(' ').nth(1).unwrap()).collect();
    assert_eq!(paths, ["/token", "/hook", "/hook"]);
    assert!(
        got[1].head.contains("authorization: bearer t0ken") && got[1].head.contains("x-team: a"),
        "{}",
        got[1].head
    );
}
