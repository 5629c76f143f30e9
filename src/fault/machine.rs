//! A finite machine with a line in front of it, as an inference server has: so many slots, one
//! prefill at a time, a decoding speed that the busy slots share, a cache that running requests
//! fill, and replicas that come when the line stays. Time comes from outside.

mod prefix;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub(super) use self::prefix::{PrefixCache, Prompt};

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
    /// Of each replica.
    pub(super) slots: usize,
    /// Prompt tokens per second of each replica, None for no limit.
    pub(super) prefill: Option<f64>,
    /// Answer tokens per second of each replica, shared by its busy slots; None for no limit.
    pub(super) decode: Option<f64>,
    pub(super) queue_limit: usize,
    pub(super) cold_start: Option<ColdStart>,
    /// Tokens of prompts and answers that each replica can hold; None for no limit.
    pub(super) cache: Option<u64>,
    pub(super) autoscale: Option<Autoscale>,
}

/// A machine that is switched off when nobody needs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ColdStart {
    pub(super) after_idle: Duration,
    pub(super) duration: Duration,
}

/// Replicas that come and go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Autoscale {
    pub(super) most: usize,
    /// One more is ordered when somebody has waited in line for this long.
    pub(super) after: Duration,
    /// From the order until it serves.
    pub(super) start: Duration,
    /// One goes when it was not needed for this long.
    pub(super) idle: Duration,
}

/// The machine and its line.
#[derive(Debug)]
pub(super) struct Machine {
    capacity: Capacity,
    prefixes: Option<PrefixCache>,
    /// Tokens held by each request that is worked on, by seat.
    running: BTreeMap<u64, u64>,
    /// Tokens that those held who were sent away from their slots, by seat.
    preempted: BTreeMap<u64, u64>,
    /// Numbers of those who wait, first come first.
    line: VecDeque<u64>,
    next_number: u64,
    /// When the prefill that was ordered last is done, on each replica.
    prefilled: Vec<Duration>,
    /// When the replica that was ordered will serve.
    starting: Option<Duration>,
    /// Since when somebody waits in line, or since the last replica came.
    line_since: Option<Duration>,
    /// Since when one replica less would do.
    spare_since: Option<Duration>,
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

/// A request that is worked on; later ones have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat(u64);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is no room in the line.
    Full,
    /// It waits in line and asks again after this time.
    Later(Number, Duration),
    /// It has a slot; its prompt is read at this time.
    Slot { seat: Seat, prefilled: Duration },
}

impl Machine {
    pub(super) fn new(capacity: Capacity, prefixes: Option<PrefixCache>) -> Self {
        Self {
            capacity,
            prefixes,
            running: BTreeMap::new(),
            preempted: BTreeMap::new(),
            line: VecDeque::new(),
            next_number: 0,
            prefilled: vec![Duration::ZERO],
            starting: None,
            line_since: None,
            spare_since: None,
            idle_since: None,
            ready: Duration::ZERO,
            now: Duration::ZERO,
        }
    }

    /// A request comes.
    pub(super) fn enter(&mut self, at: Duration, prompt: &Prompt) -> Turn {
        self.bring_up(at);
        self.wake(at);
        if self.line.is_empty() && self.has_room(prompt) && at >= self.ready {
            return self.take_slot(at, prompt);
        }
        if self.line.len() >= self.capacity.queue_limit {
            return Turn::Full;
        }
        let number = self.take_number();
        self.line.push_back(number);
        self.line_since.get_or_insert(at);
        Turn::Later(Number(number), self.look_again(at, self.line.len() - 1))
    }

    /// One who waits asks whether it is its turn.
    pub(super) fn ask(&mut self, at: Duration, number: Number, prompt: &Prompt) -> Turn {
        self.bring_up(at);
        let Ok(place) = self.line.binary_search(&number.0) else { return Turn::Full };
        // Where it is tokens that lack, nobody overtakes.
        let next = place == 0 || (self.capacity.cache.is_none() && place < self.free());
        if next && self.has_room(prompt) && at >= self.ready {
            self.out_of_line(place);
            return self.take_slot(at, prompt);
        }
        Turn::Later(number, self.look_again(at, place))
    }

    /// One who waits goes away.
    pub(super) fn leave(&mut self, number: Number) {
        if let Ok(place) = self.line.binary_search(&number.0) {
            self.out_of_line(place);
        }
    }

    /// A slot is given back; without a time, at the latest time anyone told.
    pub(super) fn release(&mut self, at: Option<Duration>, seat: Seat) {
        self.running.remove(&seat.0);
        self.preempted.remove(&seat.0);
        self.bring_up(at.unwrap_or(self.now));
        if self.running.is_empty() && self.preempted.is_empty() {
            self.idle_since = Some(self.now);
        }
    }

    /// The time that so many tokens of one answer take while as many slots are busy as now. What
    /// they hold may send others away, or itself.
    pub(super) fn decode(&mut self, at: Duration, seat: Seat, tokens: u32) -> Duration {
        self.bring_up(at);
        let share = (self.running.len() as f64 / self.replicas() as f64).max(1.0);
        let time = work(f64::from(tokens) * share, self.capacity.decode);
        if let Some(held) = self.running.get_mut(&seat.0) {
            *held += u64::from(tokens);
        }
        self.preempt();
        time
    }

    /// Whether its slot was taken away from a request.
    pub(super) fn is_preempted(&self, seat: Seat) -> bool {
        self.preempted.contains_key(&seat.0)
    }

    /// One that was sent away asks for a slot; it has lost all and is read again. Says when that is
    /// done.
    pub(super) fn resume(&mut self, at: Duration, seat: Seat) -> Option<Duration> {
        self.bring_up(at);
        let first = self.preempted.first_key_value().map(|(first, held)| (*first, *held));
        let turn = first
            .is_some_and(|(first, held)| first == seat.0 && self.free() > 0 && self.can_hold(held));
        turn.then(|| self.resume_now(at, seat))
    }

    /// The same whether there is room or not.
    pub(super) fn resume_now(&mut self, at: Duration, seat: Seat) -> Duration {
        let Some(held) = self.preempted.remove(&seat.0) else { return at };
        self.running.insert(seat.0, held);
        self.read(at, held as f64)
    }

    fn replicas(&self) -> usize {
        self.prefilled.len()
    }

    fn free(&self) -> usize {
        (self.capacity.slots * self.replicas()).saturating_sub(self.running.len())
    }

    fn has_room(&self, prompt: &Prompt) -> bool {
        // Those who were sent away come first.
        self.free() > 0 && self.preempted.is_empty() && self.can_hold(prompt.tokens.into())
    }

    /// Whether so many tokens more fit. One request alone is worked on however long it is.
    fn can_hold(&self, tokens: u64) -> bool {
        let held: u64 = self.running.values().sum();
        let most = self.capacity.cache.map_or(u64::MAX, |cache| cache * self.replicas() as u64);
        self.running.is_empty() || held + tokens <= most
    }

    /// Sends the latest away until what the others hold fits.
    fn preempt(&mut self) {
        if self.capacity.cache.is_none() {
            return;
        }
        while !self.can_hold(0)
            && self.running.len() > 1
            && let Some((seat, held)) = self.running.pop_last()
        {
            self.preempted.insert(seat, held);
        }
    }

    /// Lets replicas come and go that are due until now.
    fn bring_up(&mut self, at: Duration) {
        self.now = self.now.max(at);
        let Some(autoscale) = self.capacity.autoscale else { return };
        while self.scale_up(autoscale) {}
        let spare = self.line.is_empty()
            && self.replicas() > 1
            && self.running.len() <= self.capacity.slots * (self.replicas() - 1);
        self.spare_since = spare.then(|| self.spare_since.unwrap_or(self.now));
        if self.spare_since.is_some_and(|since| self.now.saturating_sub(since) >= autoscale.idle) {
            self.prefilled.pop();
            self.spare_since = None;
        }
    }

    /// Whether anything has changed.
    fn scale_up(&mut self, autoscale: Autoscale) -> bool {
        if let Some(ready) = self.starting.filter(|ready| *ready <= self.now) {
            self.prefilled.push(ready);
            self.starting = None;
            self.line_since = self.line_since.map(|_| ready);
            return true;
        }
        let Some(since) = self.line_since else { return false };
        let due = since + autoscale.after;
        let wanted = self.starting.is_none() && self.replicas() < autoscale.most && due <= self.now;
        if wanted {
            self.starting = Some(due + autoscale.start);
        }
        wanted
    }

    fn out_of_line(&mut self, place: usize) {
        self.line.remove(place);
        if self.line.is_empty() {
            self.line_since = None;
        }
    }

    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
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

    fn take_slot(&mut self, at: Duration, prompt: &Prompt) -> Turn {
        let seat = self.take_number();
        self.running.insert(seat, prompt.tokens.into());
        self.idle_since = None;
        let known = self.prefixes.as_mut().map_or(0.0, |prefixes| prefixes.read(prompt));
        let prefilled = self.read(at, (1.0 - known) * f64::from(prompt.tokens));
        Turn::Slot { seat: Seat(seat), prefilled }
    }

    /// When so many tokens are read, by the replica that has the least to read.
    fn read(&mut self, at: Duration, tokens: f64) -> Duration {
        let time = work(tokens, self.capacity.prefill);
        let next = self.prefilled.iter_mut().min().expect("there is always one replica");
        *next = (*next).max(at) + time;
        *next
    }

    fn look_again(&self, at: Duration, place: usize) -> Duration {
        let soon = place < self.free() + self.capacity.slots * self.replicas();
        let starting = self.ready.saturating_sub(at);
        if soon { NEAR } else { FAR }.max(starting).min(LONGEST)
    }
}

/// The time that so many tokens take at this speed.
fn work(tokens: f64, per_second: Option<f64>) -> Duration {
    let seconds = per_second.map_or(0.0, |speed| tokens / speed);
    Duration::try_from_secs_f64(seconds).map_or(LONGEST_WORK, |time| time.min(LONGEST_WORK))
}

#[cfg(test)]
mod tests;
