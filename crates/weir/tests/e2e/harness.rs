//! Starts the real program for end-to-end tests and ends it by its own process id.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A running `weir serve` on free ports of loopback.
pub struct Server {
    child: Child,
    /// To be removed at the end, when the test did not give it.
    own_data_dir: Option<PathBuf>,
    /// Base of the main port, such as `http://127.0.0.1:41234`.
    pub url: String,
    /// Addresses of OTLP, `127.0.0.1:port`.
    pub otlp_grpc: String,
    pub otlp_http: String,
}

/// The program, with whatever `weir serve` needs to take free ports.
pub fn serve_command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("serve");
    for flag in ["--listen", "--otlp-grpc-listen", "--otlp-http-listen"] {
        if !args.contains(&flag) {
            command.args([flag, "127.0.0.1:0"]);
        }
    }
    if !args.contains(&"--data-dir") {
        command.arg("--data-dir").arg(fresh_data_dir());
    }
    command.args(args);
    command
}

/// A folder of its own for each server; [`Server`] removes it.
fn fresh_data_dir() -> PathBuf {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let n = LAST.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("data-{}-{n}", std::process::id()))
}

/// For tests that have one before they have a server.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

impl Server {
    /// Ends it as a crash would: no signal that it could hear.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    /// The same with variables of the environment.
    pub fn start_with(args: &[&str], environment: &[(&str, &str)]) -> Self {
        // The tests' clients need it, whichever of them comes first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut command = serve_command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit()).envs(environment.iter().copied());
        let given = args.contains(&"--data-dir");
        let data_dir = command.get_args().skip_while(|arg| *arg != "--data-dir").nth(1).map(PathBuf::from);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "ready", url, grpc, http] = words[..] else { panic!("weir did not start: `{line}`") };
        let address = |word: &str| word.split_once('=').map(|(_, address)| address.to_owned()).unwrap();
        let own_data_dir = data_dir.filter(|_| !given);
        Self { child, own_data_dir, url: url.to_owned(), otlp_grpc: address(grpc), otlp_http: address(http) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(path) = &self.own_data_dir {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
