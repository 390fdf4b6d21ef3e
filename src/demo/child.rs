//! The gateway as the demo runs it: `parkway run` as a process of its own, and its folder.
//!
//! A process, not a call, so that what is shown is what is shipped: it opens its store, is asked
//! over HTTP, and stops by SIGTERM.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// A gateway promises to stop within 5 s; after this it is killed.
const STOP_MAX: Duration = Duration::from_secs(8);

/// Lines of the log that tell why it died.
const LOG_LINES: usize = 20;

/// A folder that is gone when the demo ends, however it ends.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// # Errors
    ///
    /// The folder cannot be made.
    pub fn new() -> io::Result<Folder> {
        let name = format!("parkway-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Folder(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing more can be done about a folder that cannot be removed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running gateway; killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    log: PathBuf,
}

impl Gateway {
    /// # Errors
    ///
    /// This program cannot be started again, or the log cannot be written.
    pub fn start(config: &Path, speed: u32, log: PathBuf) -> io::Result<Gateway> {
        let output = File::create(&log)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("run")
            .arg("--config")
            .arg(config)
            .arg("--clock-speed")
            .arg(speed.to_string())
            // What a service manager told the demo does not concern its gateway.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("STATE_DIRECTORY")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C reaches the demo alone, which then stops its gateway in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Gateway { child, log })
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    ///
    /// Its end cannot be seen.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks it to stop, and kills it where it does not.
    ///
    /// # Errors
    ///
    /// Its end cannot be seen.
    pub async fn stop(mut self) -> io::Result<ExitStatus> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            // Fails only where it has just ended, which is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
        }
        if let Ok(ended) = tokio::time::timeout(STOP_MAX, self.child.wait()).await {
            return ended;
        }
        self.child.kill().await?;
        self.child.wait().await
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}
