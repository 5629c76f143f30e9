//! Who asks what, and when next: users, turns, prompts and think times of every session.
//!
//! Each comes from a stream of its own, keyed by session and turn, so that nothing an answer does
//! can move what is asked later or by whom.

use std::time::Duration;

use super::arrival::Pacer;
use super::{Arrivals, Plan, Sessions};
use crate::dice::Dice;

/// All sessions of a run, to be looked up by number.
#[derive(Clone, Debug)]
pub struct Script {
    sessions: Sessions,
    /// In a closed loop the session's number says whose it is.
    closed: Option<u64>,
    users: Dice,
    turns: Dice,
    thoughts: Dice,
    prompts: Dice,
    requests: Dice,
}

/// One user's conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub number: u64,
    pub user: u64,
    /// How many requests it has, at least one.
    pub turns: u32,
}

/// A session that starts, or that the run meets in its middle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    pub session: Session,
    /// Its first turn of this run (0 for the first).
    pub turn: u32,
    /// The intended start of that turn, since the run's start.
    pub at: Duration,
}

impl Script {
    pub fn new(plan: &Plan, seed: &Dice) -> Self {
        let closed = match plan.arrivals {
            Arrivals::Users { users } => Some(users.max(1)),
            Arrivals::Rate { .. } => None,
        };
        Self {
            sessions: plan.sessions,
            closed,
            users: seed.fork("users"),
            turns: seed.fork("turns"),
            thoughts: seed.fork("think times"),
            prompts: seed.fork("prompts"),
            requests: seed.fork("requests"),
        }
    }

    /// The session with this number.
    pub fn session(&self, number: u64) -> Session {
        let user = match self.closed {
            Some(users) => number % users,
            None => self.users.fork_number(number).whole(0, self.sessions.users.max(1) - 1),
        };
        let turns = self.sessions.turns;
        let turns = self.turns.fork_number(number).whole(turns.low.max(1), turns.high.max(1));
        Session { number, user, turns: u32::try_from(turns).unwrap_or(u32::MAX) }
    }

    /// How long the user thinks after the answer to this turn.
    pub fn think_time(&self, session: u64, turn: u32) -> Duration {
        let range = self.sessions.think_time;
        if range.low == range.high {
            return range.low;
        }
        let mut dice = self.thoughts.fork_number(session).fork_number(u64::from(turn));
        Duration::from_secs_f64(dice.between(range.low.as_secs_f64(), range.high.as_secs_f64()))
    }

    /// The number of the prompt of this turn, out of `of`. Every prompt is asked once before any is
    /// asked again, so that each is known from early on.
    pub fn prompt(&self, session: u64, turn: u32, of: u64) -> u64 {
        let of = of.max(1);
        let (round, place) = (session / of, session % of);
        let mut dice = self.prompts.fork_number(u64::from(turn)).fork_number(round);
        // A walk through all numbers in steps that have no divisor in common with their count.
        let first = dice.whole(0, of - 1);
        let mut step = dice.whole(1, of);
        while greatest_common_divisor(step, of) > 1 {
            step = step % of + 1;
        }
        ((u128::from(first) + u128::from(place) * u128::from(step)) % u128::from(of)) as u64
    }

    /// 128 bits that name the request of this turn.
    pub fn request(&self, session: u64, turn: u32) -> u128 {
        let mut dice = self.requests.fork_number(session).fork_number(u64::from(turn));
        u128::from(dice.bits()) << 64 | u128::from(dice.bits())
    }

    /// Where a user of a closed loop stands in its first think time when the run begins, so that
    /// users do not all ask at once.
    pub fn first_start(&self, user: u64) -> Duration {
        self.think_time(user, 0).mul_f64(self.users.fork("first").fork_number(user).unit())
    }
}

/// The sessions of an open loop in the order of their starts.
///
/// A rate is that of the *requests* users intend: sessions start at the rate over their mean number
/// of turns, and later turns follow a think time after the previous answer. The run begins in the
/// middle of traffic: sessions that would have started earlier are joined at the turn they would be
/// at (by think times alone), so that the rate of requests holds from the first second on.
#[derive(Clone, Debug)]
pub struct Starts {
    script: Script,
    pacer: Pacer,
    number: u64,
    /// Starts that joined in, latest first.
    joined: Vec<Start>,
    next: Option<Start>,
}

impl Starts {
    /// The starts of an open loop; None for a closed one.
    pub fn new(plan: &Plan, seed: &Dice) -> Option<Self> {
        let Arrivals::Rate { stages, shape } = &plan.arrivals else { return None };
        let Sessions { turns, think_time, .. } = plan.sessions;
        let mean = (turns.low.max(1) + turns.high.max(1)) as f64 / 2.0;
        let longest = think_time
            .high
            .saturating_mul(u32::try_from(turns.high.saturating_sub(1)).unwrap_or(u32::MAX));
        let pacer =
            Pacer::new(stages, *shape, 1.0 / mean, seed).already_going(longest.min(LONGEST_PAST));
        let script = Script::new(plan, seed);
        let mut starts = Self { script, pacer, number: 0, joined: Vec::new(), next: None };
        starts.join_running();
        Some(starts)
    }

    /// Takes up the sessions that began before the run.
    fn join_running(&mut self) {
        while let Some(at) = self.pacer.next_seconds() {
            let session = self.script.session(self.number);
            self.number += 1;
            if at >= 0.0 {
                self.next = Some(Start { session, turn: 0, at: seconds(at) });
                break;
            }
            let mut turn_at = at;
            for turn in 0..session.turns {
                if turn_at >= 0.0 {
                    self.joined.push(Start { session, turn, at: seconds(turn_at) });
                    break;
                }
                turn_at += self.script.think_time(session.number, turn).as_secs_f64();
            }
        }
        self.joined.sort_by_key(|start| std::cmp::Reverse((start.at, start.session.number)));
    }
}

fn greatest_common_divisor(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

/// Sessions longer than this are not traced back any further.
const LONGEST_PAST: Duration = Duration::from_secs(3600);

fn seconds(at: f64) -> Duration {
    Duration::try_from_secs_f64(at).unwrap_or(Duration::MAX)
}

impl Iterator for Starts {
    type Item = Start;

    fn next(&mut self) -> Option<Start> {
        let joins_first = match (self.joined.last(), &self.next) {
            (Some(joined), Some(next)) => joined.at <= next.at,
            (joined, _) => joined.is_some(),
        };
        if joins_first {
            return self.joined.pop();
        }
        let start = self.next.take()?;
        self.next = self.pacer.next_seconds().map(|at| {
            let session = self.script.session(self.number);
            self.number += 1;
            Start { session, turn: 0, at: seconds(at) }
        });
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;
    use crate::units::{Count, SpanRange};
    use crate::workload::{Shape, Stage};

    fn sessions(turns: (u64, u64), think: (u64, u64)) -> Sessions {
        Sessions {
            turns: Count { low: turns.0, high: turns.1 },
            think_time: SpanRange {
                low: Duration::from_secs(think.0),
                high: Duration::from_secs(think.1),
            },
            users: 200,
        }
    }

    fn rate(to: f64) -> Arrivals {
        Arrivals::Rate { stages: vec![Stage { to, over: Duration::ZERO }], shape: Shape::Poisson }
    }

    /// All intended requests until then, were answers to take no time.
    fn requests(plan: &Plan, seed: u64, until: f64) -> Vec<(f64, u64, u32)> {
        let seed = Dice::from_seed(seed);
        let script = Script::new(plan, &seed);
        let mut all = Vec::new();
        let open = Starts::new(plan, &seed).unwrap();
        for start in open.take_while(|start| start.at.as_secs_f64() < until) {
            let mut at = start.at.as_secs_f64();
            for turn in start.turn..start.session.turns {
                if at < until {
                    all.push((at, start.session.number, turn));
                }
                at += script.think_time(start.session.number, turn).as_secs_f64();
            }
        }
        all
    }

    #[test]
    fn the_rate_of_requests_holds_from_the_first_second() {
        let plan = Plan { arrivals: rate(50.0), sessions: sessions((2, 6), (4, 12)), ..plan() };
        let all = requests(&plan, 5, 60.0);
        for third in 0..3 {
            let (low, high) = (f64::from(third) * 20.0, f64::from(third + 1) * 20.0);
            let n = all.iter().filter(|(at, ..)| (low..high).contains(at)).count() as f64;
            // Turns of a session cluster, so the count spreads a little more than Poisson's.
            assert!((n - 1000.0).abs() < 200.0, "{n} requests from {low} to {high}");
        }
    }

    #[test]
    fn starts_come_in_order() {
        let plan = Plan { arrivals: rate(20.0), sessions: sessions((1, 5), (0, 9)), ..plan() };
        let starts: Vec<Start> =
            Starts::new(&plan, &Dice::from_seed(2)).unwrap().take(500).collect();
        assert!(starts.windows(2).all(|pair| pair[0].at <= pair[1].at));
        assert!(starts.iter().any(|start| start.turn > 0));
        assert!(starts.iter().all(|start| start.turn < start.session.turns));
    }

    #[test]
    fn single_turns_start_with_the_run() {
        let plan = Plan { arrivals: rate(20.0), sessions: sessions((1, 1), (4, 12)), ..plan() };
        let mut starts = Starts::new(&plan, &Dice::from_seed(2)).unwrap();
        assert!(starts.by_ref().take(100).all(|start| start.turn == 0));
    }

    #[test]
    fn same_seed_same_script() {
        let plan = Plan { arrivals: rate(9.0), sessions: sessions((1, 6), (1, 3)), ..plan() };
        assert_eq!(requests(&plan, 7, 50.0), requests(&plan, 7, 50.0));
        assert_ne!(requests(&plan, 7, 50.0), requests(&plan, 8, 50.0));
        let (one, two) =
            (Script::new(&plan, &Dice::from_seed(7)), Script::new(&plan, &Dice::from_seed(7)));
        // Looked up in any order, the same.
        let forward: Vec<u64> = (0..100).map(|n| one.prompt(n, 0, 50)).collect();
        let mut backward: Vec<u64> = (0..100).rev().map(|n| two.prompt(n, 0, 50)).collect();
        backward.reverse();
        assert_eq!(forward, backward);
        assert_eq!(one.request(3, 1), two.request(3, 1));
        assert_ne!(one.request(3, 1), one.request(1, 3));
    }

    #[test]
    fn draws_stay_in_range() {
        let plan = Plan { arrivals: rate(9.0), sessions: sessions((2, 4), (1, 3)), ..plan() };
        let script = Script::new(&plan, &Dice::from_seed(7));
        for number in 0..500 {
            let session = script.session(number);
            assert!((2..=4).contains(&session.turns) && session.user < 200);
            let think = script.think_time(number, 1).as_secs_f64();
            assert!((1.0..=3.0).contains(&think));
            assert!(script.prompt(number, 0, 7) < 7);
        }
    }

    #[test]
    fn every_prompt_is_asked_before_any_is_asked_again() {
        let script = Script::new(&plan(), &Dice::from_seed(7));
        for of in [1, 2, 7, 40, 1000] {
            let round = |first: u64| -> Vec<u64> {
                (first..first + of).map(|session| script.prompt(session, 0, of)).collect()
            };
            let mut all = round(of);
            all.sort_unstable();
            assert_eq!(all, (0..of).collect::<Vec<_>>());
            assert!(of < 7 || round(0) != round(of), "the order changes");
        }
    }

    #[test]
    fn closed_loops_number_sessions_by_user() {
        let plan = Plan { arrivals: Arrivals::Users { users: 8 }, ..plan() };
        let script = Script::new(&plan, &Dice::from_seed(7));
        assert_eq!(script.session(3).user, 3);
        assert_eq!(script.session(8 * 5 + 3).user, 3);
        assert!(Starts::new(&plan, &Dice::from_seed(7)).is_none());
    }
}
