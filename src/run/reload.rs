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
use crate::site::Site;
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
        let same = signs(&self.config.site) == signs(&new.site)
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
    let (was, is) = (parts(&old.site), parts(&new.site));
    let pairs = was.into_iter().zip(is);
    let mut names: Vec<&'static str> =
        pairs.filter(|(was, is)| was != is).map(|((name, _), _)| name).collect();
    let texts = |config: &Config| {
        config.site.signs.iter().map(|sign| sign.fallback.clone()).collect::<Vec<_>>()
    };
    // Texts that were checked with other displays are not taken over, so they are named too.
    if names.contains(&PROFILES) && !names.contains(&SIGNS) && texts(old) != texts(new) {
        names.push("fallbacks of signs");
    }
    let files = [
        ("[store]", old.store != new.store),
        ("[mqtt]", old.mqtt != new.mqtt),
        ("[http]", old.http != new.http),
        ("[clock]", old.clock != new.clock),
    ];
    names.extend(files.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name));
    names
}

const PROFILES: &str = "[[profile]]";
const SIGNS: &str = "[[sign]]";

/// A site by its tables, each as text. Every field is taken by name, so that a new one is not
/// forgotten.
fn parts(site: &Site) -> [(&'static str, String); 11] {
    // Its digest differs with each change, also with those that are taken.
    #[rustfmt::skip]
    let Site {
        config: _, id, name, gateway, time_zone, ledger_reset, nodes, links, destinations, classes,
        garages, levels, zones, bays, lines, units, profiles, signs: _, outputs, contacts, lamps,
    } = site;
    [
        ("[site]", format!("{:?}", (id, name, gateway, time_zone, ledger_reset))),
        ("[[node]] or [[link]]", format!("{:?}", (nodes, links))),
        ("[[class]]", format!("{classes:?}")),
        ("[[destination]]", format!("{destinations:?}")),
        ("[[garage]]", format!("{:?}", (garages, levels, zones, bays))),
        ("[[line]]", format!("{:?}", (lines, units))),
        (PROFILES, format!("{profiles:?}")),
        (SIGNS, signs(site)),
        ("[[output]]", format!("{outputs:?}")),
        ("[[contact]]", format!("{contacts:?}")),
        ("[[lamp]] or lamp_stop", format!("{lamps:?}")),
    ]
}

/// Everything about signs but their fallback.
fn signs(site: &Site) -> String {
    let one = |sign: &crate::site::Sign| {
        let place = (sign.unit, sign.index, sign.node);
        let acts = (&sign.kind, sign.change_delay_s, &sign.schedule);
        format!("{:?}", (&sign.id, &sign.name, place, acts))
    };
    site.signs.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = include_str!("../../config/parkway.toml");
    const GARAGE: &str = include_str!("../../config/garage.toml");

    /// The starter with what it has in comments marked by three spaces.
    fn load(from: &str, to: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let mut changed = 0;
        for (name, text) in [("parkway.toml", MAIN), ("garage.toml", GARAGE)] {
            let lines = text.lines().map(|line| line.strip_prefix("#   ").unwrap_or(line));
            let text: String = lines.map(|line| format!("{line}\n")).collect();
            changed += text.matches(from).count().min(1);
            std::fs::write(folder.path().join(name), text.replacen(from, to, 1)).unwrap();
        }
        assert_eq!(changed, 1, "{from}: in one of the files");
        config::load(&folder.path().join("parkway.toml"))
            .unwrap_or_else(|problems| panic!("{to}: {problems:?}"))
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let old = load("[guidance]", "[guidance]");
        assert_eq!(refused(&old, &old), [""; 0]);
        for (from, to, names) in [
            ("fallback = \"blank\"", "fallback = \"closed\"", &[][..]),
            ("# dwell_s = 10", "dwell_s = 11", &[]),
            ("# time_zone = \"UTC\"", "time_zone = \"+08:00\"", &["[site]"]),
            ("turn = \"straight\"", "turn = \"left\"", &["[[node]] or [[link]]"]),
            ("# height_cm = 0", "height_cm = 150 #", &["[[class]]"]),
            ("at_m = [120, 40]", "at_m = [400, 40]", &["[[destination]]"]),
            ("first_lamp = 0", "first_lamp = 1", &["[[garage]]"]),
            ("baud = 19200", "baud = 9600", &["[[line]]"]),
            ("rtu_tcp = \"10.50.1.20:4001\"", "tcp = \"10.50.1.20:4001\"", &["[[line]]"]),
            ("gap_ms = 10\n", "gap_ms = 11\n", &["[[line]]"]),
            ("fault_base = 40", "fault_base = 80", &["[[profile]]"]),
            ("from = \"23:00\"", "from = \"22:00\"", &["[[sign]]"]),
            ("# change_delay_s = 5 ", "change_delay_s = 6 #", &["[[sign]]"]),
            ("stop = \"off\"\n[[output]]", "stop = \"on\"\n[[output]]", &["[[output]]"]),
            ("on_when = [\"closed\", ", "on_when = [\"full\", ", &["[[output]]"]),
            ("active = \"open\"", "active = \"closed\"", &["[[contact]]"]),
            ("colour = \"amber\"", "colour = \"purple\"", &["[[lamp]] or lamp_stop"]),
            ("lamp_stop = \"off\"", "lamp_stop = \"red\"", &["[[lamp]] or lamp_stop"]),
            ("# commit_ms = 200", "commit_ms = 300", &["[store]"]),
            ("# window = 8", "window = 9", &["[mqtt]"]),
            ("# listen = \"127.0.0.1:8080\"", "listen = \"127.0.0.1:8081\"", &["[http]"]),
        ] {
            let new = load(from, to);
            assert_eq!(refused(&old, &new), names, "{to}");
        }
    }

    #[test]
    fn a_fallback_checked_with_another_display_waits_for_the_restart() {
        let old = load("[guidance]", "[guidance]");
        let mut new = load("fault_base = 40", "fault_base = 80");
        new.site.signs[0].fallback = crate::site::Face::Closed;
        assert_eq!(refused(&old, &new), ["[[profile]]", "fallbacks of signs"]);
    }
}
