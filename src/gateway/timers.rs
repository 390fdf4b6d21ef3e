//! What may fall due, soonest first.
//!
//! Leases have a heap of their own: there are thousands, nearly all end before their time, and a
//! reminder of an ended lease is cheaper to let run out than to look for. Everything else is few
//! and often armed again for the same instant, which a set forgets.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::Timer;
use super::door::LeaseId;
use crate::time::Mono;

/// All reminders.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    leases: BinaryHeap<Reverse<(Mono, LeaseId)>>,
    others: BTreeSet<(Mono, Timer)>,
}

impl Timers {
    /// Reminds of something at an instant; twice of the same at the same is as good as once.
    pub fn arm(&mut self, due: Mono, timer: Timer) {
        match timer {
            Timer::Lease(lease) => self.leases.push(Reverse((due, lease))),
            other => _ = self.others.insert((due, other)),
        }
    }

    /// The soonest.
    pub fn first(&self) -> Option<Mono> {
        let lease = self.leases.peek().map(|Reverse((due, _))| *due);
        let other = self.others.first().map(|(due, _)| *due);
        lease.into_iter().chain(other).min()
    }

    /// Takes one that is due by now, the soonest first; leases first among equals.
    pub fn pop_due(&mut self, now: Mono) -> Option<Timer> {
        let first = self.first().filter(|due| *due <= now)?;
        if self.leases.peek().is_some_and(|Reverse((due, _))| *due == first) {
            return self.leases.pop().map(|Reverse((_, lease))| Timer::Lease(lease));
        }
        self.others.pop_first().map(|(_, timer)| timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::GarageIx;

    #[test]
    fn the_soonest_comes_first_and_never_early() {
        let lease = |number| Timer::Lease(LeaseId { run: 0, number });
        let mut timers = Timers::default();
        assert_eq!(timers.first(), None);
        timers.arm(Mono(30), lease(1));
        timers.arm(Mono(20), Timer::Schedules);
        timers.arm(Mono(20), lease(2));
        timers.arm(Mono(20), Timer::Schedules);
        timers.arm(Mono(10), Timer::Band(GarageIx(3)));
        assert_eq!(timers.first(), Some(Mono(10)));
        assert_eq!(timers.pop_due(Mono(9)), None);
        let due: Vec<Timer> = std::iter::from_fn(|| timers.pop_due(Mono(29))).collect();
        assert_eq!(due, [Timer::Band(GarageIx(3)), lease(2), Timer::Schedules]);
        assert_eq!(timers.pop_due(Mono(30)), Some(lease(1)));
        assert_eq!(timers.first(), None);
    }
}
