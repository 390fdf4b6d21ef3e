//! The uplink: delivers what the store holds, keeps the retained picture fresh, takes commands.
//!
//! One thread with a runtime of its own carries out what [`crate::outbox`] decides. Nothing is
//! published before it is durable, and nothing here can stop guidance: without a broker, without
//! a store or after a panic it waits and tries again. History goes through the outbox; the
//! current state never does: it is made from the newest snapshot, retained, all of it fresh at
//! each connect.

mod backoff;
mod command;
mod link;
mod refused;
#[cfg(test)]
mod schemas;
mod state;
mod tls;
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{Config, MqttTable};
use crate::outbox::Totals;
use crate::owner;
use crate::store::{LaneStatus, Store};
use crate::time::{Clock, Now};

/// Wait before the uplink's work begins anew after a panic in it.
const AFTER_PANIC: Duration = Duration::from_secs(5);

/// What the uplink is doing, for metrics, pages and readiness of others.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// False where the configuration names no broker.
    pub enabled: bool,
    /// Since when there is a connection.
    pub connected_since: Option<Now>,
    /// Why there is none.
    pub last_error: Option<String>,
    /// Chunks sent, taken, refused, sent again; links thrown away for silence.
    pub totals: Totals,
    /// Connections made after the first.
    pub reconnects: u64,
    /// Chunks sent and not answered for.
    pub in_flight: u64,
    /// Lanes whose newest answer was a refusal.
    pub refusing: [bool; 3],
    pub commands_done: u64,
    pub commands_refused: u64,
    /// Retained messages sent.
    pub state_sent: u64,
    /// What waits in the store, by lane.
    pub backlog: [LaneStatus; 3],
}

/// A running uplink, or a stand-in where no broker is configured.
#[derive(Debug)]
pub struct Uplink {
    status: Arc<Mutex<Status>>,
    stop: watch::Sender<bool>,
    done: Mutex<mpsc::Receiver<()>>,
    store: Store,
}

/// What each run of the uplink's work begins with.
#[derive(Clone)]
struct Parts {
    site: Arc<crate::site::Site>,
    mqtt: MqttTable,
    boot: String,
    clock: Clock,
    store: Store,
    handle: owner::Handle,
    status: Arc<Mutex<Status>>,
    stop: watch::Receiver<bool>,
}

/// Starts the uplink's thread. `clock` stamps state and judges whether a command has expired; the
/// link's own waits are real time, whatever that clock's speed.
pub fn start(config: &Config, clock: Clock, store: Store, handle: owner::Handle) -> Uplink {
    let enabled = config.mqtt.is_some();
    let status = Arc::new(Mutex::new(Status { enabled, ..Status::default() }));
    let (stop, stopping) = watch::channel(false);
    let (finished, done) = mpsc::sync_channel(1);
    let uplink = Uplink { status: status.clone(), stop, done: Mutex::new(done), store };
    let Some(mqtt) = config.mqtt.clone() else {
        tracing::info!("uplink: no broker configured; records wait in the store");
        let _ = finished.send(());
        return uplink;
    };
    let parts = Parts {
        site: Arc::new(config.site.clone()),
        mqtt,
        boot: crate::time::boot_id(),
        clock,
        store: uplink.store.clone(),
        handle,
        status,
        stop: stopping,
    };
    let spawned = std::thread::Builder::new().name("uplink".to_owned()).spawn(move || {
        run(&parts);
        let _ = finished.send(());
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "uplink: no thread for it; records wait in the store");
    }
    uplink
}

fn run(parts: &Parts) {
    while !*parts.stop.borrow() {
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(work::Worker::new(parts.clone()).run()),
                Err(error) => tracing::error!(%error, "uplink: no runtime"),
            }
        }));
        if ran.is_err() {
            tracing::error!("uplink: its work ended by a panic; it begins anew");
        }
        if !*parts.stop.borrow() {
            std::thread::sleep(AFTER_PANIC);
        }
    }
}

impl Uplink {
    pub fn status(&self) -> Status {
        let mut status = lock(&self.status).clone();
        status.backlog = self.store.status().lanes;
        status
    }

    /// Says goodbye to the broker and ends; true if that was done `within` the time given.
    pub fn stop(&self, within: Duration) -> bool {
        let _ = self.stop.send(true);
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.recv_timeout(within).is_ok()
    }
}

/// The password, read at each connect so that a renewed one needs no restart.
fn password(table: &MqttTable) -> Result<Option<String>, String> {
    let Some(path) = secret(&table.password_credential, &table.password_file)? else {
        return Ok(None);
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(error) => Err(format!("password in {}: {error}", path.display())),
    }
}

/// Where a secret lies that is a systemd credential or a file.
fn secret(credential: &Option<String>, file: &Option<String>) -> Result<Option<PathBuf>, String> {
    match (credential, file) {
        (Some(name), _) => {
            let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
            let folder = folder.ok_or("CREDENTIALS_DIRECTORY is not set, so there are none")?;
            Ok(Some(PathBuf::from(folder).join(name)))
        }
        (None, Some(file)) => Ok(Some(PathBuf::from(file))),
        (None, None) => Ok(None),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Status is plain numbers: a panic elsewhere leaves it readable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_read_anew_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let table = MqttTable {
            broker: "127.0.0.1:1".to_owned(),
            user: Some("edge".to_owned()),
            password_credential: None,
            password_file: Some(file.display().to_string()),
            ca_file: None,
            certificate_file: None,
            key_credential: None,
            key_file: None,
            keep_alive_s: 15,
            ack_timeout_s: 20,
            window: 8,
            replay_per_s: 5_000,
            accept_unheard: false,
        };
        assert!(password(&table).unwrap_err().contains("secret"));
        for word in ["first", "second"] {
            std::fs::write(&file, format!("{word}\n")).unwrap();
            assert_eq!(password(&table), Ok(Some(word.to_owned())));
        }
    }
}
