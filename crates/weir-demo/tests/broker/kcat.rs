//! Runs the real `kcat`. Missing, it fails the test.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

/// Runs `kcat` against one broker.
pub struct Kcat {
    address: String,
}

impl Kcat {
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned() }
    }

    fn command(&self, args: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("kcat");
        command
            .args(["-b", &self.address, "-X", "broker.address.family=v4"])
            .args(args)
            // Cargo puts the librdkafka of the tests there, which would replace kcat's own.
            .env_remove("LD_LIBRARY_PATH")
            .kill_on_drop(true);
        command
    }

    /// Its standard output; standard error is shown when it fails or takes longer than 30 s.
    pub async fn run(&self, args: &[&str], input: &str) -> String {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kcat is installed (scripts/setup.sh)");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let done = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await;
        let done = done.unwrap_or_else(|_| panic!("kcat {args:?} did not end within 30 s")).unwrap();
        let out = String::from_utf8_lossy(&done.stdout).into_owned();
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "kcat {args:?}: {}\n{out}{error}", done.status);
        out
    }

    /// Starts it and lets it run.
    pub fn spawn(&self, args: &[&str]) -> RunningKcat {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        RunningKcat(command.spawn().expect("kcat is installed (scripts/setup.sh)"))
    }
}

pub struct RunningKcat(tokio::process::Child);

impl RunningKcat {
    /// As a crash would: without a word to the broker.
    pub async fn kill(mut self) {
        self.0.kill().await.unwrap();
    }
}
