//! Watches the wall clock: once a second, by the file that says that it was set.
//!
//! A file rather than adjtimex(2): that call is not reachable without `unsafe`, no kept crate reads
//! its status, and the unit's `ProtectClock=` forbids it. systemd-timesyncd makes the file; for any
//! other time service one line in a unit after `time-sync.target` does.

use std::path::Path;
use std::time::Duration;

use crate::config::{ClockTable, ClockTrust};
use crate::owner::Handle;
use crate::record::Body;
use crate::time::Clock;
use crate::time::quality::Watch;

/// How often the clock is looked at. Two steps between two looks are told as one.
const EVERY: Duration = Duration::from_secs(1);
/// News that wait for an owner with a full queue; more are only logged.
const NEWS_MAX: usize = 16;

/// The clock's watcher, with what it has not told yet.
pub struct Watcher {
    clock: Clock,
    table: ClockTable,
    watch: Watch,
    news: Vec<Body>,
}

impl Watcher {
    /// Looks for the first time: what is stamped from now on has a quality.
    pub fn new(clock: Clock, table: ClockTable) -> Watcher {
        let mut watcher = Watcher { clock, table, watch: Watch::default(), news: Vec::new() };
        watcher.look();
        if watcher.watch.good_since().is_none() {
            let (wall, file) = (clock.now().wall.to_string(), &watcher.table.file);
            tracing::warn!(wall, file, "clock: unsure; records say so until it is good");
        }
        watcher
    }

    /// Looks until the task is dropped.
    pub async fn run(mut self, handle: Handle) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.look();
            while let Some(body) = self.news.first() {
                if !handle.notice(body.clone()) {
                    break;
                }
                self.news.remove(0);
            }
            self.news.truncate(NEWS_MAX);
        }
    }

    fn look(&mut self) {
        let synchronised = match self.table.trust {
            ClockTrust::Always => true,
            ClockTrust::File => Path::new(&self.table.file).exists(),
        };
        let before = self.watch.good_since().is_some();
        self.watch.look(self.clock.now(), synchronised, &mut self.news);
        let good_since = self.watch.good_since();
        self.clock.judged(good_since, self.watch.steps());
        if good_since.is_some() != before {
            tracing::info!(good = good_since.is_some(), "clock: judged anew");
        }
    }
}
