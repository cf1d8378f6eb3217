//! Syslog with `--promtail-config`, from the clients that people have: `logger` and Python's handler.

use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Server, client, serve_command};
use crate::tail::{stored, until};

/// A port that was free a moment ago.
fn port(is_udp: bool) -> u16 {
    match is_udp {
        true => UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(),
        false => TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(),
    }
}

fn config(folder: &Path, host: &str, tcp: u16, udp: u16) -> std::path::PathBuf {
    let file = folder.join("promtail.yml");
    let relabel = "  relabel_configs:\n  \
         - {source_labels: [__syslog_message_severity], target_label: severity}\n  \
         - {source_labels: [__syslog_message_facility], target_label: facility}\n  \
         - {source_labels: [__syslog_message_app_name], target_label: app_name}\n  \
         - {source_labels: [__syslog_message_sd_zoo_123_tiger], target_label: tiger}\n";
    let text = format!(
        "clients: [{{url: 'http://loki/push'}}]\nscrape_configs:\n\
         - job_name: tcp\n  syslog: {{listen_address: '{host}:{tcp}', label_structured_data: true, labels: {{job: tcp}}}}\n{relabel}\
         - job_name: udp\n  syslog: {{listen_address: '{host}:{udp}', listen_protocol: udp, labels: {{job: udp}}}}\n{relabel}"
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn logger(args: &[&str]) {
    let out = Command::new("logger").args(args).output().expect("logger of bsdutils is installed");
    assert!(out.status.success(), "logger {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

const PYTHON: &str = r#"
import logging, logging.handlers, socket, sys
tcp, udp = int(sys.argv[1]), int(sys.argv[2])
for port, kind, name in [(tcp, socket.SOCK_STREAM, "tcp"), (udp, socket.SOCK_DGRAM, "udp")]:
    handler = logging.handlers.SysLogHandler(("127.0.0.1", port), facility="local3", socktype=kind)
    handler.ident = "pyapp: "
    log = logging.getLogger(name)
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    for n in range(50):
        log.warning("python %s %d", name, n)
    handler.close()
"#;

#[tokio::test]
async fn messages_of_real_clients_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (tcp, udp) = (port(false), port(true));
    let config = config(folder.path(), "127.0.0.1", tcp, udp);
    let data = folder.path().join("data");
    let server = Server::start(&["--data-dir", data.to_str().unwrap(), "--promtail-config", config.to_str().unwrap()]);
    let (to_tcp, to_udp) = (tcp.to_string(), udp.to_string());
    let common = ["--server", "127.0.0.1", "--tag", "shop", "--priority", "local4.err"];
    let log = |args: &[&str]| logger(&[&common[..], args].concat());
    log(&[
        "--tcp",
        "--port",
        &to_tcp,
        "--rfc5424",
        "--octet-count",
        "--sd-id",
        "zoo@123",
        "--sd-param",
        "tiger=\"hungry\"",
        "counted\nin two lines",
    ]);
    log(&["--tcp", "--port", &to_tcp, "--rfc5424", "of rfc 5424"]);
    log(&["--tcp", "--port", &to_tcp, "--rfc3164", "of rfc 3164"]);
    log(&["--udp", "--port", &to_udp, "--rfc5424", "a datagram"]);
    log(&["--udp", "--port", &to_udp, "--rfc3164", "an old datagram"]);
    let python = Command::new("python3").args(["-c", PYTHON, &to_tcp, &to_udp]).output().unwrap();
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    let client = client();
    let of_logger = until(&client, &server.url, "{app_name=\"shop\"}", 5).await;
    let mut shown: Vec<String> = of_logger
        .iter()
        .map(|(l, line)| {
            assert_eq!((l["severity"].as_str(), l["facility"].as_str()), ("error", "local4"), "{line}");
            format!("{} {} {line:?}", l["job"], l.get("tiger").map_or("-", |t| t.as_str()))
        })
        .collect();
    shown.sort();
    assert_eq!(
        shown,
        [
            "tcp - \"of rfc 3164\"",
            "tcp - \"of rfc 5424\"",
            "tcp hungry \"counted\\nin two lines\"",
            "udp - \"a datagram\"",
            "udp - \"an old datagram\"",
        ]
    );
    let of_python = until(&client, &server.url, "{app_name=\"pyapp\"}", 100).await;
    assert_eq!(of_python.len(), 100);
    assert!(of_python.iter().all(|(l, _)| l["severity"] == "warning" && l["facility"] == "local3"));
}

#[tokio::test]
async fn what_is_no_syslog_closes_its_connection_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (tcp, udp) = (port(false), port(true));
    let config = config(folder.path(), "127.0.0.1", tcp, udp);
    let data = folder.path().join("data");
    let server = Server::start(&["--data-dir", data.to_str().unwrap(), "--promtail-config", config.to_str().unwrap()]);
    let connect = || std::net::TcpStream::connect(("127.0.0.1", tcp)).unwrap();
    let mut good = connect();
    good.write_all(b"<14>1 - - app - - - before\n").unwrap();
    let mut bad = connect();
    bad.write_all(b"9999999999999 nonsense").unwrap();
    let mut long = connect();
    long.write_all(&[&b"<14>1 - - app - - - "[..], &vec![b'x'; 300_000], b"\n<14>1 - - app - - - next\n"].concat())
        .unwrap();
    bad.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(std::io::Read::read(&mut bad, &mut [0; 8]).unwrap_or(0), 0, "closed");
    good.write_all(b"<14>1 - - app - - - after\n").unwrap();
    let client = client();
    until(&client, &server.url, "{app_name=\"app\"}", 4).await;
    let mut lines: Vec<String> = stored(&client, &server.url, "{app_name=\"app\"}")
        .await
        .into_iter()
        .map(|(_, line)| if line.len() > 100 { format!("{} long", line.len() / 1000) } else { line })
        .collect();
    lines.sort();
    assert_eq!(lines, ["8 long", "after", "before", "next"]);
}

#[tokio::test]
async fn other_machines_are_not_listened_to_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "0.0.0.0", port(false), port(true));
    let data = folder.path().join("data");
    let args = ["--data-dir", data.to_str().unwrap(), "--promtail-config", config.to_str().unwrap()];
    let ended = serve_command(&args).output().unwrap();
    let text = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && text.contains("--insecure-open") && text.contains("syslog 0.0.0.0"), "{text}");
}
