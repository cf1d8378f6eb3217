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
                            break (head, serde_json::from_slice(&bytes[end + 4..]).unwrap());
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
    let alerts = Alerts::new(Arc::new(SystemClock), config, "http://weir".into()).unwrap();
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
