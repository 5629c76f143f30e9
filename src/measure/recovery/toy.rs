//! A toy of a metastable system, as a fixture: a server with ten slots and one queue, clients that
//! give up after three seconds and come back. A latency fault pushes it over; its retries keep it
//! there.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::super::ledger::tests::{add_call, add_sample, call, phased, sample};
use super::super::{CallEnd, Ledger, Outcome};
use super::{Recovery, Rule, assess};
use crate::dice::Dice;

const RATE: f64 = 8.0;
const SLOTS: usize = 10;
const TIMEOUT: f64 = 3.0;
const FAULT: (f64, f64) = (60.0, 80.0);
const END: f64 = 200.0;

#[derive(Clone, Copy)]
enum Fault {
    /// Errors at once, with no work done.
    Errors,
    /// Work takes eight times as long.
    Latency,
    None,
}

#[derive(Clone, Copy, PartialEq)]
enum Event {
    Attempt,
    Done,
    GivesUp,
}

/// One attempt of a request.
struct Attempt {
    request: usize,
    number: u32,
    at: f64,
    end: Option<f64>,
    faulty: bool,
}

struct Toy {
    fault: Fault,
    retries: u32,
    /// The server drops queued work whose client has gone, and takes the newest first.
    sheds: bool,
    dice: Dice,
    events: BinaryHeap<Reverse<(Duration, usize, u8)>>,
    attempts: Vec<Attempt>,
    queue: VecDeque<usize>,
    busy: usize,
    ledger: Ledger,
}

impl Toy {
    fn run(fault: Fault, retries: u32, sheds: bool, seed: u64) -> Ledger {
        let ledger = phased(&[
            ("baseline", FAULT.0, &[]),
            ("storm", FAULT.1 - FAULT.0, &["f"]),
            ("recovery", END - FAULT.1, &[]),
        ]);
        let dice = Dice::from_seed(seed).fork("toy");
        let mut toy = Self {
            fault,
            retries,
            sheds,
            dice,
            events: BinaryHeap::new(),
            attempts: Vec::new(),
            queue: VecDeque::new(),
            busy: 0,
            ledger,
        };
        let (mut at, mut request) = (0.0, 0);
        while at < END {
            at += toy.dice.exponential() / RATE;
            toy.begin(request, 0, at);
            request += 1;
        }
        toy.turn();
        toy.ledger
    }

    fn begin(&mut self, request: usize, number: u32, at: f64) {
        let index = self.attempts.len();
        let first = request;
        self.attempts.push(Attempt { request: first, number, at, end: None, faulty: false });
        self.push(at, index, Event::Attempt);
    }

    fn push(&mut self, at: f64, attempt: usize, event: Event) {
        self.events.push(Reverse((Duration::from_secs_f64(at), attempt, event as u8)));
    }

    fn turn(&mut self) {
        while let Some(Reverse((at, index, event))) = self.events.pop() {
            let at = at.as_secs_f64();
            match event {
                event if event == Event::Attempt as u8 => self.attempt(index, at),
                event if event == Event::Done as u8 => {
                    self.busy -= 1;
                    if self.attempts[index].end.is_none() {
                        self.answer(index, at, true);
                    }
                    self.serve(at);
                }
                _ if self.attempts[index].end.is_none() => self.answer(index, at, false),
                _ => {}
            }
        }
    }

    fn faulty(&self, at: f64) -> bool {
        (FAULT.0..FAULT.1).contains(&at)
    }

    fn attempt(&mut self, index: usize, at: f64) {
        if self.faulty(at) && matches!(self.fault, Fault::Errors) {
            self.attempts[index].faulty = true;
            self.answer(index, at + 0.01, false);
            return;
        }
        self.queue.push_back(index);
        self.push(at + TIMEOUT, index, Event::GivesUp);
        self.serve(at);
    }

    fn serve(&mut self, at: f64) {
        while self.busy < SLOTS {
            let next = if self.sheds { self.queue.pop_back() } else { self.queue.pop_front() };
            let Some(next) = next else { return };
            if self.sheds && self.attempts[next].end.is_some() {
                continue;
            }
            let slow = self.faulty(at) && matches!(self.fault, Fault::Latency);
            self.attempts[next].faulty |= slow;
            let work = 0.5 + 0.5 * self.dice.exponential();
            self.busy += 1;
            self.push(at + work * if slow { 8.0 } else { 1.0 }, next, Event::Done);
        }
    }

    /// An attempt has its answer, or its client has given up.
    fn answer(&mut self, index: usize, at: f64, good: bool) {
        self.attempts[index].end = Some(at);
        let Attempt { request, number, at: began, faulty, .. } = self.attempts[index];
        let mut one = call("llm", began, if good || !faulty { 200 } else { 503 });
        one.end = Duration::from_secs_f64(at);
        one.retry = Some(number);
        one.faults = if faulty { vec!["f".into()] } else { Vec::new() };
        let gave_up = !good && at - began >= TIMEOUT - 1e-6;
        one.ended = if gave_up { CallEnd::ClientGone } else { CallEnd::Complete };
        add_call(&mut self.ledger, one);
        if !good && number < self.retries {
            let backoff = 0.5 * f64::from(1 << number) * (1.0 - 0.25 * self.dice.unit());
            self.begin(request, number + 1, at + backoff);
            return;
        }
        let outcome = if good { Outcome::Ok } else { Outcome::Timeout };
        // The first attempts were pushed in the order of the requests.
        let asked = self.attempts[request].at;
        add_sample(&mut self.ledger, sample(asked, at - asked, outcome));
    }
}

fn runs(fault: Fault, retries: u32, sheds: bool) -> Vec<Recovery> {
    (0..10)
        .map(|seed| assess(&Toy::run(fault, retries, sheds, seed), &Rule::default(), 1).recovery)
        .collect()
}

fn classes(runs: &[Recovery], class: &str) -> usize {
    runs.iter().filter(|recovery| recovery.class == class).count()
}

#[test]
fn retries_hold_the_toy_down_after_a_latency_fault() {
    let runs = runs(Fault::Latency, 2, false);
    assert!(classes(&runs, "metastable_suspected") >= 9, "{runs:#?}");
    let stays = |r: &Recovery| r.censored && r.loss_ratio > Some(2.0);
    assert!(runs.iter().filter(|recovery| stays(recovery)).count() >= 9, "{runs:#?}");
}

#[test]
fn without_retries_the_toy_works_its_backlog_off() {
    let runs = runs(Fault::Latency, 0, false);
    assert_eq!(classes(&runs, "metastable_suspected"), 0, "{runs:#?}");
    assert!(classes(&runs, "recovered") >= 7, "{runs:#?}");
    let slow = |r: &&Recovery| !r.censored && r.time_to_recover_s > Some(5.0);
    assert!(runs.iter().filter(slow).count() >= 7, "{runs:#?}");
}

#[test]
fn shedding_what_nobody_waits_for_saves_the_toy() {
    let runs = runs(Fault::Latency, 2, true);
    assert!(classes(&runs, "recovered") >= 9, "{runs:#?}");
}

#[test]
fn fast_errors_amplify_but_pass() {
    let runs = runs(Fault::Errors, 2, false);
    assert!(classes(&runs, "recovered") >= 9, "{runs:#?}");
    let quick = |r: &&Recovery| r.time_to_recover_s <= Some(15.0);
    assert!(runs.iter().filter(quick).count() >= 9, "{runs:#?}");
}

#[test]
fn an_untouched_toy_is_not_ill() {
    let runs = runs(Fault::None, 2, false);
    assert!(classes(&runs, "absorbed") >= 8, "{runs:#?}");
}
