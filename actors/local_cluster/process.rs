//! One node as a process of its own.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, create_dir_all};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::LocalClusterError;
use crate::ctl::CtlTarget;

/// Lines that are kept of what a node says.
const LINES_MAX: usize = 20;

/// Bytes that are kept in a file of what a node says, over all its starts.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// How long a node may take to end in order.
const END_PATIENCE: Duration = Duration::from_secs(45);

/// A node that can be started, harmed, and started again.
pub(super) struct NodeProcess {
    pub(super) name: String,
    pub(super) target: CtlTarget,
    program: PathBuf,
    options: Vec<String>,
    /// Where what it says is kept.
    log: PathBuf,
    child: Option<Running>,
    starts: u64,
    lines: Arc<Mutex<VecDeque<String>>>,
}

struct Running {
    child: Child,
    /// The node ends when this is closed.
    _input: Option<ChildStdin>,
}

impl NodeProcess {
    /// A node that does not run yet.
    pub(super) fn new(
        name: String,
        program: PathBuf,
        options: Vec<String>,
        target: CtlTarget,
        log: PathBuf,
    ) -> Self {
        let lines = Arc::default();
        Self { name, target, program, options, log, child: None, starts: 0, lines }
    }

    fn fail(&self, what: &str, error: io::Error) -> LocalClusterError {
        LocalClusterError::Process { what: format!("{} cannot be {what}", self.name), error }
    }

    /// Starts it, once more if need be; returns the number of its process.
    pub(super) fn start(&mut self) -> Result<u32, LocalClusterError> {
        let mut command = Command::new(&self.program);
        command.args(&self.options);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // A Ctrl-C at the terminal is for whoever started them, and that ends them in order.
        command.process_group(0);
        let log = self.open_log().map_err(|error| self.fail("listened to", error))?;
        let mut child = command.spawn().map_err(|error| self.fail("started", error))?;
        self.starts += 1;
        if let Some(said) = child.stderr.take() {
            let lines = Arc::clone(&self.lines);
            // Ends with the process.
            std::thread::spawn(move || listen(said, log, &lines));
        }
        let (process, _input) = (child.id(), child.stdin.take());
        self.child = Some(Running { child, _input });
        Ok(process)
    }

    /// The file of what it says: new with the first start, the same with all others.
    fn open_log(&self) -> io::Result<File> {
        if let Some(directory) = self.log.parent() {
            create_dir_all(directory)?;
        }
        if self.starts == 0 {
            return File::create(&self.log);
        }
        OpenOptions::new().append(true).create(true).open(&self.log)
    }

    /// How often it was started again.
    pub(super) fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    /// What it said last.
    pub(super) fn last_lines(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }

    /// How it has ended, if it was not ended from here.
    pub(super) fn has_ended(&mut self) -> Result<Option<String>, LocalClusterError> {
        let Some(running) = &mut self.child else { return Ok(None) };
        let status = running.child.try_wait();
        let status: Option<ExitStatus> = status.map_err(|error| self.fail("watched", error))?;
        if status.is_some() {
            // Its number may be another process's from now on.
            self.child = None;
        }
        Ok(status.map(|status| status.to_string()))
    }

    /// Ends it at once, as the loss of its machine would.
    pub(super) fn kill(&mut self) -> Result<(), LocalClusterError> {
        if let Some(mut running) = self.child.take() {
            let killed = running.child.kill().and_then(|()| running.child.wait());
            killed.map_err(|error| self.fail("killed", error))?;
        }
        Ok(())
    }

    /// Sends it a signal by name; nothing, if it does not run.
    pub(super) fn signal(&self, name: &str) -> Result<(), LocalClusterError> {
        let Some(running) = &self.child else { return Ok(()) };
        let process = running.child.id().to_string();
        let mut command = Command::new("kill");
        let sent = command.args(["-s", name, &process]).stderr(Stdio::null()).status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.fail("sent a signal", io::Error::other(status.to_string()))),
            Err(error) => Err(self.fail("sent a signal", error)),
        }
    }

    /// Waits until it has ended, and ends it if it does not.
    pub(super) async fn wait_end(&mut self) -> Result<(), LocalClusterError> {
        let deadline = Instant::now() + END_PATIENCE;
        while Instant::now() < deadline {
            if self.child.is_none() || self.has_ended()?.is_some() {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.kill()?;
        let error = io::Error::other(format!("it has not ended within {END_PATIENCE:?}"));
        Err(self.fail("ended in order", error))
    }
}

/// Keeps what a node says: the last lines at hand, and all of it, up to a bound, in a file.
fn listen(said: ChildStderr, mut log: File, lines: &Mutex<VecDeque<String>>) {
    let mut written = log.metadata().map_or(0, |log| log.len());
    // Whatever it says: a pipe that is closed would end it.
    for line in BufReader::new(said).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if written < LOG_BYTES_MAX {
            written += line.len() as u64 + 1;
            // No run ends because there is no room for its log.
            let _ = writeln!(log, "{line}");
        }
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.kill();
    }
}
