//! A process that the demo started: its cord (standard input), its log lines and its end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, Command};

use crate::error::DemoError;

/// What to start.
pub struct Start<'a> {
    /// For messages and the name of the file that takes its standard error.
    pub name: &'a str,
    pub program: &'a Path,
    pub args: Vec<OsString>,
    /// Runs below everything else: a pipeline in trouble must not slow what watches it.
    pub low_priority: bool,
    pub logs_dir: &'a Path,
}

pub struct Child {
    pub name: String,
    pub pid: Option<u32>,
    process: tokio::process::Child,
    cord: Option<ChildStdin>,
    log: PathBuf,
}

impl Child {
    /// Starts the program; each line of its standard output goes to `on_line`.
    pub fn start(start: Start<'_>, on_line: impl FnMut(String) + Send + 'static) -> Result<Self, DemoError> {
        let log = start.logs_dir.join(format!("{}.log", start.name));
        let doing = || format!("start {} for `{}`", start.program.display(), start.name);
        let stderr = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(DemoError::io(format!("write {}", log.display())))?;
        let command = |nice: bool| -> std::io::Result<tokio::process::Child> {
            // `nice` replaces itself by the program, so the pid is the program's.
            let mut command = if nice { Command::new("nice") } else { Command::new(start.program) };
            if nice {
                command.args(["-n", "5"]).arg(start.program);
            }
            command
                .args(&start.args)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(stderr.try_clone()?)
                // A Ctrl-C at the terminal is for the supervisor, which stops its children in order.
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
        };
        let mut process = match command(start.low_priority) {
            Err(error) if start.low_priority && error.kind() == std::io::ErrorKind::NotFound => command(false),
            other => other,
        }
        .map_err(DemoError::io(doing()))?;
        let output = process.stdout.take().expect("the output is piped");
        tokio::spawn(read_lines(output, on_line));
        let cord = process.stdin.take();
        Ok(Self { name: start.name.to_owned(), pid: process.id(), process, cord, log })
    }

    /// Lets a process that stands by begin.
    pub async fn go(&mut self) -> Result<(), DemoError> {
        let doing = format!("let `{}` begin", self.name);
        match &mut self.cord {
            Some(cord) => cord.write_all(b"go\n").await.map_err(DemoError::io(doing)),
            None => Ok(()),
        }
    }

    /// Cuts the cord and waits; what has not ended after `patience` is killed.
    pub async fn stop(mut self, patience: Duration) {
        drop(self.cord.take());
        if tokio::time::timeout(patience, self.process.wait()).await.is_err() {
            tracing::warn!(process = %self.name, "did not end in time, killing it");
            let _ = self.process.kill().await;
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    pub fn end_error(&self, status: ExitStatus) -> DemoError {
        DemoError::ChildEnded {
            name: self.name.clone(),
            status: status.to_string(),
            log: self.log.display().to_string(),
        }
    }
}

async fn read_lines(output: tokio::process::ChildStdout, mut on_line: impl FnMut(String)) {
    let mut lines = BufReader::new(output).lines();
    loop {
        match lines.next_line().await {
            Ok(Some(line)) => on_line(line),
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "reading a process's output");
                return;
            }
        }
    }
}
