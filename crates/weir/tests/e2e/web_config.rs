//! TLS, basic authentication, and the refusal to listen openly without them.

use std::path::Path;

use crate::harness::{Server, serve_command};
use reqwest::{Certificate, Client, StatusCode};

fn write_config(dir: &Path) -> Certificate {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), key.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.signing_key.serialize_pem()).unwrap();
    let hash = bcrypt::hash("hunter2", 4).unwrap();
    let config =
        format!("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\nbasic_auth_users:\n  ops: {hash}\n");
    std::fs::write(dir.join("web.yml"), config).unwrap();
    Certificate::from_pem(key.cert.pem().as_bytes()).unwrap()
}

#[tokio::test]
async fn tls_and_passwords_guard_every_path_but_the_probes() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let certificate = write_config(dir.path());
    let config = dir.path().join("web.yml");
    let server = Server::start(&["--web.config.file", config.to_str().unwrap()]);
    assert!(server.url.starts_with("https://"));
    let client = Client::builder().tls_certs_only([certificate]).build().unwrap();
    let ask = async |path: &str, user: &str, password: &str| {
        let request = client.get(format!("{}{path}", server.url));
        let request = if user.is_empty() { request } else { request.basic_auth(user, Some(password)) };
        request.send().await.unwrap().status()
    };
    assert_eq!(ask("/metrics", "", "").await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/metrics", "ops", "wrong").await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/metrics", "nobody", "hunter2").await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/metrics", "ops", "hunter2").await, StatusCode::OK);
    assert_eq!(ask("/metrics", "ops", "wrong").await, StatusCode::UNAUTHORIZED, "a good answer before opens nothing");
    assert_ne!(ask("/-/healthy", "", "").await, StatusCode::UNAUTHORIZED);
    let plain = reqwest::get(server.url.replace("https", "http")).await;
    assert!(plain.is_err(), "no plain HTTP on a TLS port");
}

#[test]
fn listening_openly_without_protection_is_refused() {
    let refused = serve_command(&["--listen", "0.0.0.0:0"]).output().unwrap();
    assert!(!refused.status.success());
    let text = String::from_utf8_lossy(&refused.stderr);
    for part in ["--listen 0.0.0.0:0", "--web.config.file", "--insecure-open"] {
        assert!(text.contains(part), "`{part}` in: {text}");
    }
    let open = Server::start(&["--listen", "0.0.0.0:0", "--insecure-open"]);
    assert!(open.url.starts_with("http://0.0.0.0:"));
}

#[test]
fn a_bad_web_configuration_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("web.yml");
    let check = |yaml: &str, want: &str| {
        std::fs::write(&config, yaml).unwrap();
        let refused = serve_command(&["--web.config.file", config.to_str().unwrap()]).output().unwrap();
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains(want), "`{want}` in: {text}");
    };
    check("tls_server_confg: {}\n", "tls_server_confg");
    check("basic_auth_users:\n  ops: hunter2\n", "basic_auth_users.ops: not a bcrypt hash");
    check("tls_server_config:\n  cert_file: none.pem\n  key_file: none.pem\n", "cert_file");
}
