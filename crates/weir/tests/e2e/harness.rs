//! Starts the real program for end-to-end tests and ends it by its own process id.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A running `weir serve` on free ports of loopback.
pub struct Server {
    child: Child,
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
    command.args(args);
    command
}

impl Server {
    pub fn start(args: &[&str]) -> Self {
        let mut command = serve_command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "ready", url, grpc, http] = words[..] else { panic!("weir did not start: `{line}`") };
        let address = |word: &str| word.split_once('=').map(|(_, address)| address.to_owned()).unwrap();
        Self { child, url: url.to_owned(), otlp_grpc: address(grpc), otlp_http: address(http) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
