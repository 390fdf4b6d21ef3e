//! SIGHUP: what may change while cars are under way changes, the rest is refused by name.
//!
//! Taken: log level, guidance (weights, waits, thresholds), fallbacks of signs, the HTTP token and
//! the broker's password (both read again from their files). Refused, each named in the log:
//! everything that would change what bays, lines or signs there are, or where records go. A file
//! with any problem changes nothing.

use std::path::{Path, PathBuf};

use tokio::sync::watch;

use crate::config::{self, Config};
use crate::log::LogControl;
use crate::owner::Handle;
use crate::time::Clock;

/// What a reload compares with and acts on.
pub struct Reload {
    path: PathBuf,
    config: Config,
    clock: Clock,
    log: LogControl,
    token: watch::Sender<Option<String>>,
}

impl Reload {
    pub fn new(
        path: &Path,
        config: Config,
        clock: Clock,
        log: LogControl,
        token: watch::Sender<Option<String>>,
    ) -> Reload {
        Reload { path: path.to_owned(), config, clock, log, token }
    }

    /// Reads the file again and applies what may be applied.
    pub async fn reload(&mut self, handle: &Handle) {
        let new = match config::load(&self.path) {
            Ok(new) => new,
            Err(problems) => {
                for problem in problems {
                    tracing::error!("reload: {problem}");
                }
                tracing::error!("reload: nothing changed");
                return;
            }
        };
        let mut applied = vec!["credentials"];
        let left = refused(&self.config, &new);
        for name in &left {
            tracing::warn!("reload: {name} changed in the file; this needs a restart");
        }
        if new.log != self.config.log {
            match self.log.set(&new.log.level) {
                Ok(()) => {
                    self.config.log = new.log.clone();
                    applied.push("[log]");
                }
                Err(error) => tracing::error!("reload: log.level: {error}"),
            }
        }
        // The new patience was checked with the file's periods, but the running ones stay.
        let period_ms = self.config.site.lines.iter().map(|line| line.period_ms).max();
        if period_ms.is_some_and(|period_ms| new.guidance.stale_ms <= period_ms) {
            let stale_ms = new.guidance.stale_ms;
            tracing::error!(stale_ms, "reload: guidance.stale_ms is not above a running period_ms");
        } else if new.guidance != self.config.guidance {
            let guidance = super::scaled(&new.guidance, self.clock.speed());
            if handle.retune(guidance).await {
                self.config.guidance = new.guidance.clone();
                applied.push("[guidance]");
            }
        }
        if self.sign_texts(&new, handle).await {
            applied.push("fallbacks of signs");
        }
        match super::token(&self.config) {
            Ok(token) => {
                self.token.send_replace(token);
            }
            Err(error) => tracing::error!("reload: {error}; the old token stays"),
        }
        let (applied, left) = (applied.join(", "), left.join(", "));
        tracing::info!(applied, needs_a_restart = left, "reload: done");
    }

    /// Fallback texts may change as long as the signs stay the same.
    async fn sign_texts(&mut self, new: &Config, handle: &Handle) -> bool {
        // Checked with the file's displays, so those must be the running ones.
        let same = signs(&self.config) == signs(new)
            && format!("{:?}", self.config.site.profiles) == format!("{:?}", new.site.profiles);
        let (old, new) = (&mut self.config.site.signs, &new.site.signs);
        if !same || old.iter().zip(new).all(|(a, b)| a.fallback == b.fallback) {
            return false;
        }
        let faces = new.iter().map(|sign| sign.fallback.clone()).collect();
        let taken = handle.fallbacks(faces).await;
        if taken {
            for (old, new) in old.iter_mut().zip(new) {
                old.fallback.clone_from(&new.fallback);
            }
        }
        taken
    }
}

/// What differs and may not change while running, by the name of its table.
fn refused(old: &Config, new: &Config) -> Vec<&'static str> {
    let site = |part: fn(&Config) -> String| part(old) != part(new);
    let tables: [(&str, bool); 9] = [
        (
            "[site]",
            site(|c| {
                format!("{:?}", (&c.site.id, &c.site.name, &c.site.gateway, &c.site.time_zone))
            }),
        ),
        ("[[node]] or [[link]]", site(|c| format!("{:?}", (&c.site.nodes, &c.site.links)))),
        ("[[class]]", site(|c| format!("{:?}", c.site.classes))),
        ("[[destination]]", site(|c| format!("{:?}", c.site.destinations))),
        ("[[garage]]", site(garages)),
        (
            "[[line]] or [[profile]]",
            site(|c| format!("{:?}", (&c.site.lines, &c.site.units, &c.site.profiles))),
        ),
        ("[[sign]]", site(signs)),
        ("[store]", old.store != new.store),
        ("[mqtt]", old.mqtt != new.mqtt),
    ];
    let mut names: Vec<&'static str> =
        tables.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect();
    if old.http != new.http {
        names.push("[http]");
    }
    names
}

fn garages(config: &Config) -> String {
    let site = &config.site;
    format!("{:?}", (&site.garages, &site.levels, &site.zones, &site.bays))
}

/// Everything about signs but their fallback.
fn signs(config: &Config) -> String {
    let one = |sign: &crate::site::Sign| {
        let place = (sign.unit, sign.index, sign.node);
        let acts = (&sign.kind, sign.change_delay_s, &sign.schedule);
        format!("{:?}", (&sign.id, &sign.name, place, acts))
    };
    config.site.signs.iter().map(one).collect()
}
