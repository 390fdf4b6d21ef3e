//! What the demo prints: one screen that is drawn again, or one line for a log.
//!
//! Pure text from plain values; who reads the terminal, the gateway and the panels is `mod.rs`.

use std::fmt::Write;

use serde_json::Value;

use super::arrived::Arrived;
use super::drivers::Seen;

/// Everything that is shown at one instant.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub page: String,
    pub elapsed_s: u64,
    pub speed: u32,
    pub seen: Seen,
    pub arrived: Arrived,
    /// The gateway's own state, null while it does not answer.
    pub state: Value,
    /// Some signs and what stands on them, read off the panels.
    pub signs: Vec<(String, String)>,
    /// What the demo itself breaks at present.
    pub trouble: Vec<String>,
}

impl View {
    /// One screen of at most 24 lines and 80 columns.
    pub fn screen(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<9} {value}");
        };
        row("parkway", format!("{}   (Ctrl-C ends)", self.page));
        row("time", self.time());
        row("cars", self.cars());
        row("", self.parked());
        row("promises", self.promises());
        row("answers", self.answers());
        row("bays", self.bays());
        for (ix, garages) in self.garages().chunks(8).enumerate() {
            row(if ix == 0 { "free" } else { "" }, garages.join(" "));
        }
        for (ix, (sign, shows)) in self.signs.iter().enumerate() {
            row(if ix == 0 { "signs" } else { "" }, format!("{sign:<22} [{shows}]"));
        }
        row("uplink", self.uplink());
        row("broker", self.broker());
        let trouble = self.trouble.join("; ");
        row("trouble", if trouble.is_empty() { "none".to_owned() } else { trouble });
        text
    }

    /// The same in one line.
    pub fn line(&self) -> String {
        let counts = &self.seen.counts;
        format!(
            "{} s: {} cars, {} under way, {} as promised, {} elsewhere, {} conflicts; \
             p99 {}; {}; broker {}{}",
            self.elapsed_s,
            counts.arrived,
            counts.under_way,
            counts.as_promised,
            counts.elsewhere,
            counts.conflicts,
            ms(self.seen.wait_ms(99)),
            self.uplink(),
            self.broker(),
            self.trouble.iter().map(|trouble| format!("; {trouble}")).collect::<String>(),
        )
    }

    fn time(&self) -> String {
        let site_s = self.elapsed_s * u64::from(self.speed);
        let clock = format!("{}:{:02} h", site_s / 3_600, site_s / 60 % 60);
        format!("{} s, {clock} on the site's clock (x {})", self.elapsed_s, self.speed)
    }

    fn cars(&self) -> String {
        let counts = &self.seen.counts;
        let (arrived, under_way, left) = (counts.arrived, counts.under_way, counts.left);
        format!("{arrived} arrived, {under_way} under way, {left} left a bay")
    }

    fn parked(&self) -> String {
        let counts = &self.seen.counts;
        format!(
            "{} parked as promised, {} elsewhere, {} refused, {} gave up",
            counts.as_promised, counts.elsewhere, counts.refused, counts.gave_up
        )
    }

    fn promises(&self) -> String {
        let counts = &self.seen.counts;
        let open = number(&self.state["leases_open"]);
        format!("{} given, {open} open, {} found taken", self.seen.granted, counts.conflicts)
    }

    fn answers(&self) -> String {
        format!(
            "p50 {}, p99 {}; {} unanswered, {} before they were on disk",
            ms(self.seen.wait_ms(50)),
            ms(self.seen.wait_ms(99)),
            self.seen.counts.unanswered,
            self.seen.not_durable,
        )
    }

    fn bays(&self) -> String {
        let totals = &self.state["totals"];
        let units = self.state["units"].as_array();
        let fresh = units.map(|units| {
            let polled = units.iter().filter(|unit| unit["bays"].as_u64() > Some(0));
            let (mut all, mut fresh) = (0, 0);
            polled.for_each(|unit| {
                all += 1;
                fresh += u32::from(unit["fresh"] == true);
            });
            format!("{fresh} of {all}")
        });
        format!(
            "{} free, {} held, {} occupied, {} unknown; units {}",
            number(&totals["free"]),
            number(&totals["held"]),
            number(&totals["occupied"]),
            number(&totals["unknown"]),
            fresh.unwrap_or_else(|| "?".to_owned()),
        )
    }

    fn garages(&self) -> Vec<String> {
        let garages = self.state["garages"].as_array().into_iter().flatten();
        let tell = |garage: &Value| {
            let id = garage["id"].as_str().unwrap_or("?");
            format!("{id} {:>3}", number(&garage["free"]))
        };
        garages.map(tell).collect()
    }

    fn uplink(&self) -> String {
        let state = self.state["uplink"]["state"].as_str().unwrap_or("?");
        let lanes = self.state["store"]["lanes"].as_array().into_iter().flatten();
        let backlog: u64 = lanes.filter_map(|lane| lane["backlog_records"].as_u64()).sum();
        if self.state.is_null() {
            return "the gateway does not answer".to_owned();
        }
        format!("{state}, {backlog} records wait")
    }

    fn broker(&self) -> String {
        let Arrived { lanes, state, malformed } = &self.arrived;
        let lanes: Vec<_> =
            lanes.iter().map(|(name, lane)| format!("{name} {}", lane.records)).collect();
        let lanes = if lanes.is_empty() { "nothing yet".to_owned() } else { lanes.join(", ") };
        let mut text = format!(
            "{lanes}, state {state}; {} repeats, {} missing",
            self.arrived.repeats(),
            self.arrived.missing()
        );
        if *malformed > 0 {
            let _ = write!(text, ", {malformed} MALFORMED");
        }
        text
    }
}

fn ms(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |ms| format!("{ms:.1} ms"))
}

fn number(value: &Value) -> String {
    value.as_u64().map_or("?".to_owned(), |n| n.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_screen_fits_and_tells_what_is_known() {
        let garage = |n: u32| json!({ "id": format!("g{n:02}"), "free": 7 * n });
        let view = View {
            page: "http://127.0.0.1:8080/".to_owned(),
            elapsed_s: 190,
            speed: 20,
            state: json!({
                "leases_open": 12,
                "totals": { "free": 6100, "held": 12, "occupied": 14878, "unknown": 10 },
                "garages": (1..=26).map(garage).collect::<Vec<_>>(),
                "units": [{ "bays": 630, "fresh": true }, { "bays": 600, "fresh": false },
                          { "bays": 0, "fresh": false }],
                "uplink": { "state": "connecting" },
                "store": { "lanes": [{ "backlog_records": 40 }, { "backlog_records": 2 }] },
            }),
            signs: vec![("Linjiangmen Gate".to_owned(), "212".to_owned()); 5],
            trouble: vec!["the network is cut".to_owned(), "zc-08 has no power".to_owned()],
            ..View::default()
        };
        let screen = view.screen();
        assert!(screen.lines().count() <= 23, "{screen}");
        assert!(screen.lines().all(|line| line.len() <= 80), "{screen}");
        for words in [
            "1:03 h",
            "12 open",
            "units 1 of 2",
            "g26 182",
            "connecting, 42 records wait",
            "zc-08 has no power",
        ] {
            assert!(screen.contains(words), "\"{words}\" is not in:\n{screen}");
        }
        assert_eq!(view.line().lines().count(), 1);
    }

    #[test]
    fn a_gateway_that_does_not_answer_is_no_zero() {
        let view = View::default();
        assert!(view.screen().contains("? free"), "{}", view.screen());
        assert!(view.line().contains("does not answer"), "{}", view.line());
    }
}
