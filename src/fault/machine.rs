//! A finite machine with a line in front of it, as an inference server has: so many slots, one
//! prefill at a time, and a decoding speed that the busy slots share. Time comes from outside.

use std::collections::VecDeque;
use std::time::Duration;

/// How often the ones who are next in line look for a free slot.
const NEAR: Duration = Duration::from_millis(2);
/// How often the others look.
const FAR: Duration = Duration::from_millis(20);
/// How long anyone waits at most before looking again.
const LONGEST: Duration = Duration::from_millis(500);
/// The longest time that one request's work takes.
const LONGEST_WORK: Duration = Duration::from_secs(24 * 3600);

/// What the machine can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Capacity {
    pub(super) slots: usize,
    /// Prompt tokens per second, None for no limit.
    pub(super) prefill: Option<f64>,
    /// Answer tokens per second, shared by the busy slots; None for no limit.
    pub(super) decode: Option<f64>,
    pub(super) queue_limit: usize,
    pub(super) cold_start: Option<ColdStart>,
}

/// A machine that is switched off when nobody needs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ColdStart {
    pub(super) after_idle: Duration,
    pub(super) duration: Duration,
}

/// The machine and its line.
#[derive(Debug)]
pub(super) struct Machine {
    capacity: Capacity,
    busy: usize,
    /// Numbers of those who wait, first come first.
    line: VecDeque<u64>,
    next_number: u64,
    /// When the prefill that was ordered last is done.
    prefilled: Duration,
    /// Since when nobody uses it; None while somebody does, and before the first use.
    idle_since: Option<Duration>,
    /// When it has started.
    ready: Duration,
    /// The latest time anyone told.
    now: Duration,
}

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(u64);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is no room in the line.
    Full,
    /// It waits in line and asks again after this time.
    Later(Number, Duration),
    /// It has a slot; its prompt is read at this time.
    Slot { prefilled: Duration },
}

impl Machine {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            busy: 0,
            line: VecDeque::new(),
            next_number: 0,
            prefilled: Duration::ZERO,
            idle_since: None,
            ready: Duration::ZERO,
            now: Duration::ZERO,
        }
    }

    /// A request comes.
    pub(super) fn enter(&mut self, at: Duration, prompt: u32) -> Turn {
        self.now = self.now.max(at);
        self.wake(at);
        if self.line.is_empty() && self.free() > 0 && at >= self.ready {
            return self.take_slot(at, prompt);
        }
        if self.line.len() >= self.capacity.queue_limit {
            return Turn::Full;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.line.push_back(number);
        Turn::Later(Number(number), self.look_again(at, self.line.len() - 1))
    }

    /// One who waits asks whether it is its turn.
    pub(super) fn ask(&mut self, at: Duration, number: Number, prompt: u32) -> Turn {
        self.now = self.now.max(at);
        let Ok(place) = self.line.binary_search(&number.0) else { return Turn::Full };
        if place < self.free() && at >= self.ready {
            self.line.remove(place);
            return self.take_slot(at, prompt);
        }
        Turn::Later(number, self.look_again(at, place))
    }

    /// One who waits goes away.
    pub(super) fn leave(&mut self, number: Number) {
        if let Ok(place) = self.line.binary_search(&number.0) {
            self.line.remove(place);
        }
    }

    /// A slot is given back; without a time, at the latest time anyone told.
    pub(super) fn release(&mut self, at: Option<Duration>) {
        self.now = self.now.max(at.unwrap_or_default());
        self.busy = self.busy.saturating_sub(1);
        if self.busy == 0 {
            self.idle_since = Some(self.now);
        }
    }

    /// The time that so many tokens of one answer take while as many slots are busy as now.
    pub(super) fn decoding(&mut self, at: Duration, tokens: u32) -> Duration {
        self.now = self.now.max(at);
        work(u64::from(tokens) * self.busy.max(1) as u64, self.capacity.decode)
    }

    fn free(&self) -> usize {
        self.capacity.slots.saturating_sub(self.busy)
    }

    /// Starts a machine that was switched off.
    fn wake(&mut self, at: Duration) {
        let (Some(cold), Some(since)) = (self.capacity.cold_start, self.idle_since) else { return };
        if self.line.is_empty() && at.saturating_sub(since) >= cold.after_idle {
            self.ready = at + cold.duration;
            // It is on from now on: a request that gives up does not switch it off.
            self.idle_since = Some(self.ready);
        }
    }

    fn take_slot(&mut self, at: Duration, prompt: u32) -> Turn {
        self.busy += 1;
        self.idle_since = None;
        self.prefilled = self.prefilled.max(at) + work(prompt.into(), self.capacity.prefill);
        Turn::Slot { prefilled: self.prefilled }
    }

    fn look_again(&self, at: Duration, place: usize) -> Duration {
        let soon = place < self.free() + self.capacity.slots;
        let starting = self.ready.saturating_sub(at);
        if soon { NEAR } else { FAR }.max(starting).min(LONGEST)
    }
}

/// The time that so many tokens take at this speed.
fn work(tokens: u64, per_second: Option<f64>) -> Duration {
    let seconds = per_second.map_or(0.0, |speed| tokens as f64 / speed);
    Duration::try_from_secs_f64(seconds).map_or(LONGEST_WORK, |time| time.min(LONGEST_WORK))
}

#[cfg(test)]
mod tests {
    use super::super::testing::ms;
    use super::*;

    fn machine(slots: usize, queue_limit: usize) -> Machine {
        Machine::new(Capacity {
            slots,
            prefill: Some(1000.0),
            decode: Some(100.0),
            queue_limit,
            cold_start: None,
        })
    }

    fn number(turn: Turn) -> Number {
        match turn {
            Turn::Later(number, wait) => {
                assert!(wait >= ms(1), "a busy spin");
                number
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn first_come_first_served_and_a_full_line_refuses() {
        let mut machine = machine(1, 2);
        assert_eq!(machine.enter(ms(0), 100), Turn::Slot { prefilled: ms(100) });
        let first = number(machine.enter(ms(1), 100));
        let second = number(machine.enter(ms(2), 100));
        assert_eq!(machine.enter(ms(3), 100), Turn::Full);
        machine.release(Some(ms(200)));
        number(machine.ask(ms(201), second, 100));
        assert_eq!(machine.ask(ms(202), first, 100), Turn::Slot { prefilled: ms(302) });
        machine.leave(second);
        machine.release(None);
        assert_eq!(
            machine.enter(ms(400), 100),
            Turn::Slot { prefilled: ms(500) },
            "the line is empty"
        );
    }

    #[test]
    fn prompts_are_read_one_after_another_and_decoding_is_shared() {
        let mut machine = machine(4, 0);
        assert_eq!(machine.enter(ms(0), 500), Turn::Slot { prefilled: ms(500) });
        assert_eq!(machine.decoding(ms(0), 10), ms(100));
        assert_eq!(machine.enter(ms(100), 500), Turn::Slot { prefilled: ms(1000) });
        assert_eq!(machine.decoding(ms(100), 10), ms(200), "two share the speed");
    }

    #[test]
    fn an_idle_machine_starts_cold() {
        let mut machine = machine(2, 9);
        machine.capacity.cold_start =
            Some(ColdStart { after_idle: ms(30_000), duration: ms(12_000) });
        assert!(matches!(machine.enter(ms(60_000), 0), Turn::Slot { .. }), "warm when armed");
        machine.release(Some(ms(61_000)));
        assert!(matches!(machine.enter(ms(90_000), 0), Turn::Slot { .. }), "29 s idle");
        machine.release(Some(ms(91_000)));
        let first = number(machine.enter(ms(121_000), 0));
        let second = number(machine.enter(ms(122_000), 0));
        number(machine.ask(ms(132_999), first, 0));
        assert!(matches!(machine.ask(ms(133_000), first, 0), Turn::Slot { .. }));
        assert!(matches!(machine.ask(ms(133_000), second, 0), Turn::Slot { .. }));
    }
}
