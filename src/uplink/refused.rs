//! Which lanes the broker refuses, told upstream once each way.

use crate::record::{Body, Lane};

/// Which lanes the broker refuses, and what upstream was told of it.
#[derive(Debug, Default)]
pub struct Refused {
    /// By lane: why, where it was refused more than once running.
    now: [Option<String>; 3],
    told: [bool; 3],
}

impl Refused {
    /// `refusals` is how many answers running were refusals: one alone may pass with its hold.
    pub fn answered(&mut self, lane: Lane, refusals: u32, reason: &str) {
        match refusals {
            0 => self.now[lane as usize] = None,
            1 => (),
            _ => _ = self.now[lane as usize].get_or_insert_with(|| reason.to_owned()),
        }
    }

    /// Tells each change once; where `notice` has no room, again the next time.
    pub fn tell(&mut self, notice: impl Fn(Body) -> bool) {
        for lane in Lane::ALL {
            let (now, told) = (&self.now[lane as usize], &mut self.told[lane as usize]);
            let body = match (now, *told) {
                (Some(reason), false) => Body::LaneRefused { lane, reason: reason.clone() },
                (None, true) => Body::LaneAccepted { lane },
                (Some(_), true) | (None, false) => continue,
            };
            if notice(body) {
                *told = now.is_some();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A refusal that lasts is told once and ends once, however often it is repeated and however
    /// often the owner has no room.
    #[test]
    fn a_lasting_refusal_is_told_once() {
        let mut refused = Refused::default();
        let lane = Lane::Events;
        let told = std::cell::RefCell::new(Vec::new());
        let say = |refused: &mut Refused, room: bool| {
            refused.tell(|body| {
                if room {
                    told.borrow_mut().push(body);
                }
                room
            });
            told.take()
        };
        refused.answered(lane, 1, "QuotaExceeded");
        assert_eq!(say(&mut refused, true), [], "one refusal may pass");
        refused.answered(lane, 0, "Success");
        assert_eq!(say(&mut refused, true), []);
        refused.answered(lane, 2, "QuotaExceeded");
        assert_eq!(say(&mut refused, false), []);
        let reason = "QuotaExceeded".to_owned();
        assert_eq!(say(&mut refused, true), [Body::LaneRefused { lane, reason }]);
        refused.answered(lane, 3, "NotAuthorized");
        assert_eq!(say(&mut refused, true), [], "told for each try");
        refused.answered(lane, 0, "Success");
        assert_eq!(say(&mut refused, false), []);
        assert_eq!(say(&mut refused, true), [Body::LaneAccepted { lane }]);
        assert_eq!(say(&mut refused, true), []);
    }
}
