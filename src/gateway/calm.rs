//! State-change delay: a sign does not hunt between a number, FULL and CLOSED, or between arrows.
//!
//! What is shown stays until it has been untrue for the delay; then what is true by then takes its
//! place. So a sign changes its kind of face at most once a delay, and shows nothing for longer
//! than that after it ceased to be true. One number follows another at once.

use crate::site::Face;
use crate::time::Mono;

/// The automatic face as let through.
#[derive(Clone, Debug, Default)]
pub struct Calm {
    face: Option<Face>,
    /// Since when something of another kind is true.
    untrue_since: Option<Mono>,
}

impl Calm {
    /// Takes what is true now; gives what is to be shown.
    pub fn pass(&mut self, now: Mono, face: Face, delay_ms: u64, at_once: bool) -> Face {
        let kept = self.face.as_ref().filter(|kept| !alike(kept, &face));
        if let (Some(kept), false) = (kept, at_once) {
            let since = *self.untrue_since.get_or_insert(now);
            if now.ms_since(since) < delay_ms {
                return kept.clone();
            }
        }
        self.untrue_since = None;
        self.face = Some(face.clone());
        face
    }

    /// Lets a number through, and nothing else waits.
    pub fn shows_number(&self) -> bool {
        self.untrue_since.is_none() && matches!(self.face, Some(Face::Number(_)))
    }

    /// One number after another: what [`Calm::pass`] does where it [`shows_number`].
    ///
    /// [`shows_number`]: Calm::shows_number
    pub fn count(&mut self, number: u32) {
        self.face = Some(Face::Number(number));
    }

    /// When it wants to be asked again though nothing changed.
    pub fn due(&self, delay_ms: u64) -> Option<Mono> {
        self.untrue_since.map(|since| since.plus_ms(delay_ms))
    }

    /// Something else was shown meanwhile: what comes next is shown at once.
    pub fn clear(&mut self) {
        *self = Calm::default();
    }
}

fn alike(one: &Face, other: &Face) -> bool {
    matches!((one, other), (Face::Number(_), Face::Number(_))) || one == other
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Turn;

    #[test]
    fn what_is_shown_stays_until_untrue_for_the_delay() {
        let (left, right) = (Face::Arrow(Turn::Left), Face::Arrow(Turn::Right));
        let number = Face::Number;
        // (second, true now, at once, shown), with a delay of 5 s.
        let story = [
            (0, number(3), false, number(3)),
            (1, number(2), false, number(2)),
            (2, Face::Full, false, number(2)),
            (6, Face::Full, false, number(2)),
            (7, Face::Full, false, Face::Full),
            (8, number(1), false, Face::Full),
            (9, Face::Full, false, Face::Full),
            (10, number(1), false, Face::Full),
            (14, number(4), false, Face::Full),
            (15, number(4), false, number(4)),
            (16, Face::Closed, true, Face::Closed),
            (17, number(4), false, Face::Closed),
            (22, number(4), false, number(4)),
            (30, left.clone(), true, left.clone()),
            (31, right.clone(), false, left.clone()),
            (33, Face::Full, false, left.clone()),
            // Left has been wrong for 5 s: what is true now, though it is not the same all along.
            (36, right.clone(), false, right),
        ];
        let mut calm = Calm::default();
        for (second, face, at_once, shown) in story {
            let now = Mono(second * 1_000_000_000);
            assert_eq!(calm.pass(now, face, 5_000, at_once), shown, "at {second} s");
        }
    }

    #[test]
    fn it_says_when_to_ask_again() {
        let mut calm = Calm::default();
        calm.pass(Mono(0), Face::Full, 5_000, false);
        assert_eq!(calm.due(5_000), None);
        calm.pass(Mono(1_000_000_000), Face::Number(1), 5_000, false);
        assert_eq!(calm.due(5_000), Some(Mono(6_000_000_000)));
        calm.clear();
        assert_eq!(calm.pass(Mono(0), Face::Number(2), 5_000, false), Face::Number(2));
    }
}
