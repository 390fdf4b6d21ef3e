//! The free-disk floor: on a disk that gets full, lanes stop growing, the least important first.
//!
//! A lane that is frozen may hold what it held when the disk came below its mark and no more: old
//! windows are merged, and then its oldest records go, told by gap records. So it is never we who
//! fill the disk to where nothing can be written any more (`open::enough_room`), and the alarms,
//! which are frozen last, still have room when others fill it.

use std::path::Path;

use crate::record::Lane;

/// What a frozen lane may hold in any case: what passes through on its way to the broker.
const PASSING_BYTES: u64 = 1 << 20;

/// Which lanes are frozen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Floor {
    free_min_bytes: u64,
    /// By lane: the most it may hold now.
    frozen: [Option<u64>; 3],
}

impl Floor {
    /// Aggregates are frozen below `free_min_bytes`, events below three quarters of it, alarms
    /// below half of it; 0 freezes none.
    pub fn new(free_min_bytes: u64) -> Floor {
        Floor { free_min_bytes, frozen: [None; 3] }
    }

    /// Looks at what the disk has left, with the bytes that each lane holds. A lane may grow again
    /// once there is an eighth of the floor more than what froze it.
    pub fn look(&mut self, free_bytes: u64, bytes: [u64; 3]) {
        let floor = self.free_min_bytes;
        for (lane, mark) in
            [(Lane::Aggregates, floor), (Lane::Events, floor / 4 * 3), (Lane::Alarms, floor / 2)]
        {
            let at = lane as usize;
            let (name, free_mib) = (lane.name(), free_bytes >> 20);
            match self.frozen[at] {
                None if free_bytes < mark => {
                    tracing::warn!(lane = name, free_mib, "store: a lane may not grow");
                    self.frozen[at] = Some(bytes[at].max(PASSING_BYTES));
                }
                Some(_) if free_bytes >= mark + floor / 8 => {
                    tracing::info!(lane = name, free_mib, "store: a lane may grow again");
                    self.frozen[at] = None;
                }
                None | Some(_) => (),
            }
        }
    }

    /// The most that a lane may hold now, of at most `bytes_max`, and why no more, for a gap.
    pub fn bound(&self, lane: Lane, bytes_max: u64) -> (u64, String) {
        match self.frozen[lane as usize].filter(|frozen| *frozen < bytes_max) {
            Some(frozen) => {
                let mib = self.free_min_bytes >> 20;
                (frozen, format!("the disk's last {mib} MiB are left free"))
            }
            None => {
                let mib = bytes_max >> 20;
                (bytes_max, format!("the backlog's bound of {mib} MiB was reached"))
            }
        }
    }
}

/// What the disk under `path` has left for us, in bytes.
///
/// # Errors
///
/// What the disk says.
pub fn free_bytes(path: &Path) -> Result<u64, String> {
    let stat = rustix::fs::statvfs(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// (MiB left, lanes frozen: alarms, events, aggregates), one after the other.
    #[test]
    fn aggregates_stop_first_and_alarms_last() {
        let mut floor = Floor::new(400 * MIB);
        for (free_mib, frozen) in [
            (400, [false, false, false]),
            (399, [false, false, true]),
            (449, [false, false, true]),
            (300, [false, false, true]),
            (299, [false, true, true]),
            (200, [false, true, true]),
            (199, [true, true, true]),
            (250, [false, true, true]),
            (350, [false, false, true]),
            (450, [false, false, false]),
        ] {
            floor.look(free_mib * MIB, [5 * MIB; 3]);
            let now = Lane::ALL.map(|lane| floor.bound(lane, 9 * MIB).0 == 5 * MIB);
            assert_eq!(now, frozen, "{free_mib} MiB left");
        }
    }

    #[test]
    fn a_frozen_lane_keeps_what_it_has_and_lets_what_passes_pass() {
        let mut floor = Floor::new(400 * MIB);
        floor.look(0, [0, 7 * MIB, 7 * MIB]);
        floor.look(0, [3 * MIB, 9 * MIB, 2 * MIB]);
        let bounds = Lane::ALL.map(|lane| floor.bound(lane, 8 * MIB).0);
        assert_eq!(bounds, [MIB, 7 * MIB, 7 * MIB], "it was frozen anew");
        let (bound, why) = floor.bound(Lane::Events, 6 * MIB);
        assert_eq!((bound, &*why), (6 * MIB, "the backlog's bound of 6 MiB was reached"));
        assert!(floor.bound(Lane::Events, 8 * MIB).1.contains("last 400 MiB"));
    }

    #[test]
    fn without_a_floor_nothing_is_frozen() {
        let mut floor = Floor::new(0);
        floor.look(0, [5 * MIB; 3]);
        assert_eq!(Lane::ALL.map(|lane| floor.bound(lane, 9 * MIB).0), [9 * MIB; 3]);
    }
}
