//! The blast radius: which share of a dependency's exchanges the faults touched lately.

use std::time::Duration;

/// How far back is looked, in seconds.
const SECONDS: usize = 30;

/// Exchanges and touched exchanges of the last 30 seconds.
#[derive(Debug, Default)]
pub(super) struct Window {
    slots: [Slot; SECONDS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    second: u64,
    all: u64,
    touched: u64,
}

impl Window {
    /// Counts an exchange that is not to be touched.
    pub(super) fn pass(&mut self, at: Duration) {
        self.slot(at.as_secs()).all += 1;
    }

    /// Counts an exchange that a fault wants to touch; false when that would make more than this
    /// share (0 to 1).
    pub(super) fn touch(&mut self, at: Duration, share: f64) -> bool {
        let now = at.as_secs();
        self.slot(now).all += 1;
        let live = self.slots.iter().filter(|slot| slot.second + SECONDS as u64 > now);
        let (all, touched) =
            live.fold((0, 0), |(all, touched), slot| (all + slot.all, touched + slot.touched));
        let allowed = (touched + 1) as f64 <= share * all as f64;
        self.slot(now).touched += u64::from(allowed);
        allowed
    }

    /// Takes a touch back: the exchange of that time ended with no fault acting on it.
    pub(super) fn give_back(&mut self, at: Duration) {
        let second = at.as_secs();
        let slot = &mut self.slots[(second % SECONDS as u64) as usize];
        if slot.second == second {
            slot.touched = slot.touched.saturating_sub(1);
        }
    }

    fn slot(&mut self, second: u64) -> &mut Slot {
        let slot = &mut self.slots[(second % SECONDS as u64) as usize];
        if slot.second != second {
            *slot = Slot { second, ..Slot::default() };
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_share_is_touched() {
        let mut window = Window::default();
        let at = Duration::from_secs(100);
        let touched = (1..=100).filter(|_| window.touch(at, 0.4)).count();
        assert_eq!(touched, 40);
    }

    #[test]
    fn what_was_not_touched_makes_room() {
        let mut window = Window::default();
        let at = Duration::from_secs(100);
        for _ in 0..10 {
            window.pass(at);
        }
        assert!(window.touch(at, 0.1), "1 of 11");
        assert!(!window.touch(at, 0.1), "2 of 12");
        window.give_back(at);
        assert!(window.touch(at, 0.1), "1 of 13");
    }

    #[test]
    fn the_window_slides() {
        let mut window = Window::default();
        for _ in 0..100 {
            window.pass(Duration::from_secs(5));
        }
        assert!(window.touch(Duration::from_secs(34), 0.1), "29 s later they still count");
        let mut window = Window::default();
        for _ in 0..100 {
            window.pass(Duration::from_secs(5));
        }
        assert!(!window.touch(Duration::from_secs(35), 0.1), "30 s later they do not");
        window.give_back(Duration::from_secs(5));
    }
}
