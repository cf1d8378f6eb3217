//! Log files with `--promtail-config`: every line is stored once, while files rotate and processes are killed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Client;
use serde_json::Value;

use crate::harness::{Server, client, serve_command};
use crate::logs_traces::now_nanos;

fn start(data: &Path, config: &Path) -> Server {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    Server::start(&["--data-dir", &text(data), "--promtail-config", &text(config)])
}

/// Lines of the selector with their streams, oldest first.
pub async fn stored(client: &Client, url: &str, query: &str) -> Vec<(BTreeMap<String, String>, String)> {
    let mut out = Vec::new();
    let mut start = now_nanos() - 3600 * 1_000_000_000;
    loop {
        let (from, until) = (start.to_string(), (now_nanos() + 60_000_000_000).to_string());
        let params = [("query", query), ("start", &from), ("end", &until), ("limit", "5000"), ("direction", "forward")];
        let answer = client.get(format!("{url}/loki/api/v1/query_range")).query(&params).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "{body}");
        let mut page: Vec<(u64, BTreeMap<String, String>, String)> = Vec::new();
        for stream in body["data"]["result"].as_array().unwrap() {
            let labels: BTreeMap<String, String> = serde_json::from_value(stream["stream"].clone()).unwrap();
            for value in stream["values"].as_array().unwrap() {
                let at = value[0].as_str().unwrap().parse().unwrap();
                page.push((at, labels.clone(), value[1].as_str().unwrap().to_owned()));
            }
        }
        page.sort();
        let n = page.len();
        // Times of lines of one file are all different, so the next page begins behind the last one.
        start = page.last().map_or(start, |(at, ..)| at + 1);
        out.extend(page.into_iter().map(|(_, labels, line)| (labels, line)));
        if n < 5000 {
            return out;
        }
    }
}

pub async fn until(client: &Client, url: &str, query: &str, n: usize) -> Vec<(BTreeMap<String, String>, String)> {
    let mut found = Vec::new();
    for _ in 0..600 {
        found = stored(client, url, query).await;
        if found.len() >= n {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{query}: {} of {n} lines", found.len());
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, path: &str, more: &str) -> PathBuf {
        let file = self.path("promtail.yml");
        let path = self.path(path);
        let text = format!(
            "server: {{http_listen_port: 9080}}\n\
             clients: [{{url: 'http://loki:3100/loki/api/v1/push', external_labels: {{cluster: c1}}}}]\n\
             scrape_configs:\n\
             - job_name: files\n  static_configs: [{{targets: [localhost], labels: {{app: shop, __path__: '{}'}}}}]\n{more}",
            path.display()
        );
        std::fs::write(&file, text).unwrap();
        file
    }
}

#[tokio::test]
async fn every_line_of_rotating_files_is_stored_once_while_the_process_is_killed() {
    let folder = Folder::new();
    let (data, log) = (folder.path("data"), folder.path("app.log"));
    let config = folder.config("app.log", "");
    let client = client();
    let mut n = 0;
    let mut write = |count: usize| {
        let mut file = append(&log);
        for _ in 0..count {
            n += 1;
            // Whatever a reader sees of it, in two writes.
            file.write_all(format!("line {n} of a").as_bytes()).unwrap();
            file.write_all(b" writer that is never asked to wait\n").unwrap();
        }
        n
    };
    write(2000);
    let mut written = 0;
    for life in 0..6 {
        let server = start(&data, &config);
        until(&client, &server.url, "{app=\"shop\"}", written.min(1)).await;
        for part in 0..20 {
            written = write(500);
            if part == 9 {
                // What nobody alive has seen yet cannot be renamed without being lost to everyone.
                until(&client, &server.url, "{app=\"shop\"}", written).await;
                std::fs::rename(&log, folder.path(&format!("app.log.{life}"))).unwrap();
            }
        }
        if life % 2 == 0 {
            // Some of it is under way.
            server.kill();
        } else {
            until(&client, &server.url, "{app=\"shop\"}", written).await;
            server.kill();
        }
    }
    let server = start(&data, &config);
    let found = until(&client, &server.url, "{app=\"shop\"}", written).await;
    let mut lines: Vec<&str> = found.iter().map(|(_, line)| line.as_str()).collect();
    lines.sort_unstable();
    let n_all = lines.len();
    lines.dedup();
    assert_eq!((lines.len(), n_all), (written, written), "every line, and none twice");
    let labels = &found[0].0;
    assert_eq!((labels["cluster"].as_str(), labels["filename"].as_str()), ("c1", log.to_str().unwrap()));
    assert_eq!(labels["detected_level"], "unknown");
}

#[tokio::test]
async fn a_file_that_is_copied_and_truncated_is_read_on_from_its_start() {
    let folder = Folder::new();
    let (data, log) = (folder.path("data"), folder.path("app.log"));
    let config = folder.config("*.log", "");
    let client = client();
    let server = start(&data, &config);
    let mut n = 0;
    for round in 0..4 {
        let mut file = append(&log);
        for _ in 0..1000 {
            n += 1;
            writeln!(file, "round {round} line {n}").unwrap();
        }
        until(&client, &server.url, "{app=\"shop\"}", n).await;
        std::fs::copy(&log, folder.path("app.log.1")).unwrap();
        OpenOptions::new().write(true).open(&log).unwrap().set_len(0).unwrap();
    }
    writeln!(append(&log), "last").unwrap();
    let found = until(&client, &server.url, "{app=\"shop\"}", n + 1).await;
    assert_eq!((found.len(), found.last().unwrap().1.as_str()), (n + 1, "last"));
}

#[tokio::test]
async fn lines_of_containers_go_through_their_stages() {
    let folder = Folder::new();
    let config = folder.config(
        "pods/*/*/*.log",
        "  pipeline_stages:\n  - cri: {}\n  - multiline: {firstline: '^\\S', max_wait_time: 500ms}\n  \
         - regex: {expression: 'level=(?P<level>\\w+)'}\n  - labels: {level: }\n  - drop: {source: level, value: debug}\n",
    );
    let pod = folder.path("pods/shop_web-0_5b8efff7/web");
    std::fs::create_dir_all(&pod).unwrap();
    let now = jiff::Timestamp::now();
    let mut file = append(&pod.join("0.log"));
    for (kind, line) in [
        ("F", "level=info first"),
        ("P", "level=error and "),
        ("F", "joined"),
        ("F", "  at its trace"),
        ("F", "level=debug not kept"),
    ] {
        writeln!(file, "{now} stdout {kind} {line}").unwrap();
    }
    let client = client();
    let server = start(&folder.path("data"), &config);
    let found = until(&client, &server.url, "{app=\"shop\"}", 2).await;
    let mut shown: Vec<(&str, &str, &str)> =
        found.iter().map(|(l, line)| (l["level"].as_str(), l["stream"].as_str(), line.as_str())).collect();
    shown.sort_unstable();
    assert_eq!(
        shown,
        [("error", "stdout", "level=error and joined\n  at its trace"), ("info", "stdout", "level=info first")]
    );
}

#[tokio::test]
async fn a_configuration_that_cannot_be_followed_is_refused_by_name_and_line() {
    let folder = Folder::new();
    let config = folder.config("a.log", "  gelf: {listen_address: ':1'}\n");
    let data = folder.path("data");
    let args = ["--data-dir", data.to_str().unwrap(), "--promtail-config", config.to_str().unwrap()];
    let ended = serve_command(&args).output().unwrap();
    let text = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && text.contains("gelf") && text.contains("line 6"), "{text}");
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["check", "promtail", config.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(!check.status.success() && String::from_utf8_lossy(&check.stderr).contains("gelf"));
}

struct Agent(std::process::Child);

impl Agent {
    fn start(config: &Path, data: &Path) -> Self {
        Self::with("--promtail-config", config, data)
    }

    fn with(flag: &str, config: &Path, data: &Path) -> Self {
        use std::io::{BufRead, BufReader};
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["agent", "--listen", "127.0.0.1:0", "--otlp-grpc-listen", "127.0.0.1:0"]);
        command.arg(flag).arg(config).arg("--data-dir").arg(data);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("weir ready http://"), "{line}");
        Self(child)
    }
}

/// SIGKILL: nothing is flushed.
impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn lines_of_an_agent_arrive_once_while_it_is_killed_and_its_receiver_is_away() {
    let folder = Folder::new();
    let (data, log) = (folder.path("data"), folder.path("app.log"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let serve = || Server::start(&["--data-dir", data.to_str().unwrap(), "--listen", &listen]);
    let config = folder.config("app.log", "");
    let text = std::fs::read_to_string(&config).unwrap().replace("loki:3100", &listen);
    std::fs::write(&config, text).unwrap();
    let mut n = 0;
    let mut write = |count: usize| {
        let mut file = append(&log);
        for _ in 0..count {
            n += 1;
            writeln!(file, "level=warn n={n}").unwrap();
        }
        n
    };
    let client = client();
    let query = "{app=\"shop\"}";
    let server = serve();
    let agent = Agent::start(&config, &folder.path("agent"));
    let written = write(3000);
    until(&client, &server.url, query, written).await;
    // Nobody takes them.
    server.kill();
    write(3000);
    drop(agent);
    write(10);
    let agent = Agent::start(&config, &folder.path("agent"));
    write(3000);
    let server = serve();
    write(2000);
    drop(agent);
    let _agent = Agent::start(&config, &folder.path("agent"));
    let written = write(1);
    // Its connections to the server that was killed are no good at the same address.
    let client = crate::harness::client();
    let found = until(&client, &server.url, query, written).await;
    let mut lines: Vec<&str> = found.iter().map(|(_, line)| line.as_str()).collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!((lines.len(), found.len()), (written, written), "every line, and none twice");
    let labels = &found[0].0;
    assert_eq!((labels["cluster"].as_str(), labels["detected_level"].as_str()), ("c1", "warn"));
}

#[tokio::test]
async fn a_file_in_alloys_language_is_followed_by_the_agent_and_by_the_server() {
    let folder = Folder::new();
    let (data, log) = (folder.path("data"), folder.path("app.log"));
    let config = folder.path("config.alloy");
    let text = |url: &str| {
        format!(
            "local.file_match \"logs\" {{\n  path_targets = [{{__path__ = \"{}/*.log\", app = \"shop\"}}]\n}}\n\
             loki.source.file \"logs\" {{\n  targets = local.file_match.logs.targets\n  \
             forward_to = [loki.process.logs.receiver]\n}}\n\
             loki.process \"logs\" {{\n  stage.logfmt {{ mapping = {{ level = \"\" }} }}\n  \
             stage.labels {{ values = {{ level = \"\" }} }}\n  \
             stage.drop {{ source = \"level\"\n    value = \"debug\"\n  }}\n  forward_to = [loki.write.w.receiver]\n}}\n\
             loki.write \"w\" {{\n  endpoint {{ url = \"{url}/loki/api/v1/push\" }}\n  \
             external_labels = {{ cluster = \"c1\" }}\n}}\n",
            folder.folder.path().display()
        )
    };
    let client = client();
    let server = Server::start(&["--data-dir", data.to_str().unwrap()]);
    std::fs::write(&config, text(&server.url)).unwrap();
    let checked = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["check", "alloy", config.to_str().unwrap()])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && shown.contains("1 source, 1 endpoint"), "{shown}");
    let mut file = append(&log);
    writeln!(file, "level=info one\nlevel=debug two\nlevel=warn three").unwrap();
    let agent = Agent::with("--alloy-config", &config, &folder.path("agent"));
    let found = until(&client, &server.url, "{app=\"shop\"}", 2).await;
    let of = |found: &[(BTreeMap<String, String>, String)]| {
        let mut shown: Vec<String> =
            found.iter().map(|(l, line)| format!("{} {} {line}", l["cluster"], l["level"])).collect();
        shown.sort();
        shown
    };
    assert_eq!(of(&found), ["c1 info level=info one", "c1 warn level=warn three"]);
    drop(agent);
    server.kill();
    // The same file, given to the server itself.
    let other = folder.path("other");
    let args = ["--data-dir", other.to_str().unwrap(), "--alloy-config", config.to_str().unwrap()];
    let server = Server::start(&args);
    let found = until(&client, &server.url, "{app=\"shop\"}", 2).await;
    assert_eq!(of(&found), ["c1 info level=info one", "c1 warn level=warn three"]);
    server.kill();
    std::fs::write(&config, "loki.source.gelf \"x\" {\n}\n").unwrap();
    let ended = serve_command(&args).output().unwrap();
    let text = String::from_utf8_lossy(&ended.stderr).into_owned();
    let place = "line 1 column 1: `loki.source.gelf`";
    assert!(!ended.status.success() && text.contains(place) && text.contains("--alloy-config"), "{text}");
}
