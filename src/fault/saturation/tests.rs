use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::super::testing::{Upstream, arm, build, exchange, invalid, ms, play, play_at};
use super::*;
use crate::dice::Dice;
use crate::exchange::Event;
use crate::fault::Order;

const GPU: &str = "{ slots: 8, prefill_tokens_per_second: 6000, decode_tokens_per_second: 400, queue_limit: 32 }";

/// Many exchanges with one fault in virtual time. The upstream answers at once.
pub(super) struct Simulation {
    pub(super) fault: Arc<dyn Fault>,
    pub(super) clients: Vec<Client>,
    events: BinaryHeap<Reverse<(Duration, usize)>>,
}

pub(super) struct Client {
    effect: Option<Box<dyn Effect>>,
    pub(super) came: Duration,
    /// How long the upstream takes by itself.
    service: Duration,
    /// When it goes away, and how often it comes again then.
    pub(super) patience: Option<(Duration, u32)>,
    /// What is still to be carried out.
    orders: VecDeque<Order>,
    answer: VecDeque<Item>,
    /// When it had a slot.
    pub(super) admitted: Option<Duration>,
    pub(super) first_token: Option<Duration>,
    pub(super) end: Option<Duration>,
    refused: bool,
    /// It went away.
    pub(super) gave_up: bool,
}

impl Simulation {
    pub(super) fn new(yaml: &str) -> Self {
        Self { fault: build::<Saturation>(yaml), clients: Vec::new(), events: BinaryHeap::new() }
    }

    pub(super) fn arrive(&mut self, at: Duration, prompt: u32, tokens: usize) -> &mut Client {
        let mut asked = exchange(self.clients.len() as u64);
        asked.facts.prompt_tokens = prompt;
        let answer = (0..tokens).map(|i| Item::Event(Event::sse(format!("t{i}")))).collect();
        self.events.push(Reverse((at, self.clients.len())));
        self.clients.push(Client {
            effect: Some(arm(self.fault.as_ref(), at, &asked).unwrap().0),
            came: at,
            service: Duration::ZERO,
            patience: None,
            orders: VecDeque::new(),
            answer,
            admitted: None,
            first_token: None,
            end: None,
            refused: false,
            gave_up: false,
        });
        self.clients.last_mut().expect("it has just come")
    }

    /// One whose answer the upstream takes this long to begin.
    pub(super) fn arrive_for(&mut self, at: Duration, service: Duration) {
        self.arrive(at, 0, 1).service = service;
    }

    pub(super) fn run(&mut self) {
        while let Some(Reverse((now, index))) = self.events.pop() {
            if let Some((patience, tries)) = self.clients[index].patience
                && self.clients[index].end.is_none()
                && now >= self.clients[index].came + patience
            {
                self.clients[index].effect = None;
                self.clients[index].gave_up = true;
                if let Some(tries) = tries.checked_sub(1) {
                    self.arrive(now, 300, 100).patience = Some((patience, tries));
                }
                continue;
            }
            if let Some(next) = self.clients[index].go_on(now) {
                self.events.push(Reverse((next, index)));
            }
        }
    }

    /// Times to the first token in seconds, sorted.
    pub(super) fn first_tokens(&self) -> Vec<f64> {
        let waited = |client: &Client| Some((client.first_token? - client.came).as_secs_f64());
        let mut waits: Vec<f64> = self.clients.iter().filter_map(waited).collect();
        waits.sort_by(f64::total_cmp);
        waits
    }
}

impl Client {
    /// Goes on until it has to wait, and says until when.
    fn go_on(&mut self, now: Duration) -> Option<Duration> {
        let effect = self.effect.as_mut()?;
        loop {
            match self.orders.pop_front() {
                Some(Order::Again(time) | Order::Wait(time)) => return Some(now + time),
                Some(Order::Answer(_)) => {
                    self.refused = true;
                    self.effect = None;
                    return None;
                }
                Some(Order::Send(_)) => {
                    self.first_token.get_or_insert(now);
                }
                Some(
                    Order::Certificate(_) | Order::End(_) | Order::Join | Order::Pulse(_),
                ) => unreachable!("saturation ends nothing"),
                None => {}
            }
            if !self.orders.is_empty() {
                continue;
            }
            let mut out = Orders::default();
            if self.admitted.is_none() {
                let (mut head, ()) = request::Request::new(()).into_parts();
                effect.on_request(now, &mut head, &mut out);
                if !out.list.iter().any(|o| matches!(o, Order::Again(_))) {
                    self.admitted = Some(now);
                    out.list.push(Order::Wait(self.service));
                }
            } else if let Some(item) = self.answer.pop_front() {
                effect.on_item(now, item, &mut out);
            } else {
                effect.on_end(now, &mut out);
                self.end = Some(now);
                self.effect = None;
                return None;
            }
            self.orders.extend(out.list);
        }
    }
}

/// Two minutes of load with 300-token prompts and 100-token answers: the machine can do 4/s.
fn under_load(per_second: f64) -> Simulation {
    let mut simulation = Simulation::new(GPU);
    let mut dice = Dice::from_seed(7);
    let mut at = 0.0;
    while at < 120.0 {
        simulation.arrive(Duration::from_secs_f64(at), 300, 100);
        at += dice.exponential() / per_second;
    }
    simulation.run();
    simulation
}

#[test]
fn waiting_grows_faster_than_the_load_and_a_full_line_refuses() {
    let p95 = |simulation: &Simulation| {
        let waits = simulation.first_tokens();
        waits[waits.len() * 95 / 100]
    };
    let (light, busy, over) = (under_load(1.0), under_load(3.4), under_load(8.0));
    assert!(p95(&light) < 0.2, "at 1/s: {}", p95(&light));
    assert!(p95(&busy) > 3.0 * p95(&light), "{} against {}", p95(&busy), p95(&light));
    assert!(p95(&over) > 20.0 * p95(&light), "{} against {}", p95(&over), p95(&light));
    // A line of 32 in front of 4 answers a second.
    assert!(p95(&over) > 6.0 && p95(&over) < 11.0, "at 8/s: {}", p95(&over));
    let refused = |simulation: &Simulation| simulation.clients.iter().filter(|c| c.refused).count();
    assert_eq!(refused(&light), 0);
    assert!(refused(&over) > 300, "{} of about 960", refused(&over));
    // Its throughput under overload is what it can do.
    let in_time = |client: &&Client| client.end.is_some_and(|end| end <= ms(120_000));
    let served = over.clients.iter().filter(in_time).count() as f64 / 120.0;
    assert!(served > 3.6 && served < 4.1, "{served} answers per second");
}

#[test]
fn busy_slots_share_the_decoding_speed() {
    let alone = play(&[build::<Saturation>(GPU).as_ref()], &exchange(1), &Upstream::stream(81, ms(0)));
    assert_eq!(alone.time_of("t80") - alone.time_of("t0"), ms(200), "80 tokens at 400/s");
    let mut eight = Simulation::new(GPU);
    for _ in 0..8 {
        eight.arrive(ms(0), 0, 81);
    }
    eight.run();
    let end = eight.clients[0].end.unwrap();
    assert!(end > ms(1570) && end < ms(1620), "80 tokens at 50/s: {end:?}");
}

#[test]
fn the_first_token_waits_for_the_prefill() {
    let fault = build::<Saturation>("{ slots: 1, prefill_tokens_per_second: 10 }");
    let played = play(&[fault.as_ref()], &exchange(1), &Upstream::stream(3, ms(1)));
    assert_eq!((played.time_of("role"), played.time_of("t0")), (ms(1000), ms(1000)));
    assert!(played.hit());
    assert_eq!(played.text(), "role t0 t1 t2 finish:stop [DONE]");
}

#[test]
fn a_whole_answer_is_held_for_prefill_and_all_its_tokens() {
    let yaml = "{ slots: 1, prefill_tokens_per_second: 10, decode_tokens_per_second: 10 }";
    let fault = build::<Saturation>(yaml);
    let played = play(&[fault.as_ref()], &exchange(1), &Upstream::message(30));
    assert_eq!(played.sent[0].0, ms(4000), "10 / 10 + 30 / 10 s");
    let mut embed = exchange(2);
    embed.facts.operation = Operation::Embed;
    let played = play_at(ms(10_000), &[fault.as_ref()], &embed, &Upstream::message(30));
    assert_eq!(played.sent[0].0, ms(11_000), "an embedding is all prefill");
}

#[test]
fn a_slower_upstream_is_not_slowed() {
    let fault = build::<Saturation>("{ slots: 1, decode_tokens_per_second: 100 }");
    let played = play(&[fault.as_ref()], &exchange(1), &Upstream::stream(20, ms(50)));
    assert!(!played.hit());
    assert_eq!(played.let_go(), Some("the machine had room"));
}

#[test]
fn clients_that_go_away_free_slots_and_leave_the_line() {
    let fault = build::<Saturation>("{ slots: 1, queue_limit: 1 }");
    let (mut head, ()) = request::Request::new(()).into_parts();
    let mut ask = |effect: &mut Box<dyn Effect>, at: u64| {
        let mut out = Orders::default();
        effect.on_request(ms(at), &mut head, &mut out);
        out.list.pop()
    };
    let arrive = || arm(fault.as_ref(), ms(0), &exchange(1)).unwrap().0;
    let (mut first, mut second, mut third) = (arrive(), arrive(), arrive());
    assert_eq!(ask(&mut first, 0), None);
    assert!(matches!(ask(&mut second, 1), Some(Order::Again(_))));
    drop(second);
    assert!(matches!(ask(&mut third, 2), Some(Order::Again(_))), "the line has room again");
    drop(first);
    assert_eq!(ask(&mut third, 5), None, "the slot is free");
    third.on_end(ms(6), &mut Orders::default());
    let mut next = arrive();
    assert_eq!(ask(&mut next, 6), None, "an answer at its end frees it too");
    drop(third);
    assert!(matches!(ask(&mut arrive(), 6), Some(Order::Again(_))), "once, not twice");
    fault.reset();
    let mut fourth = arrive();
    assert_eq!(ask(&mut fourth, 6), None, "a new arming is a new machine");
}

#[test]
fn waiting_in_line_may_have_an_end() {
    let fault = build::<Saturation>("{ slots: 1, queue_timeout: 2s, when_full: { status: 429, retry_after: 3s } }");
    let mut holder = arm(fault.as_ref(), ms(0), &exchange(1)).unwrap().0;
    let (mut head, ()) = request::Request::new(()).into_parts();
    holder.on_request(ms(0), &mut head, &mut Orders::default());
    let played = play(&[fault.as_ref()], &exchange(2), &Upstream::stream(3, ms(1)));
    let (at, answer) = played.answer.unwrap();
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.headers.contains(&("Retry-After".to_owned(), "3".to_owned())));
    assert!(at >= ms(2000) && at < ms(2010), "{at:?}");
    assert_eq!(played.called, None);
}

#[test]
fn a_cold_machine_keeps_the_first_waiting() {
    let fault = build::<Saturation>("{ slots: 2, cold_start: { after_idle: 30s, duration: 12s } }");
    let upstream = Upstream::stream(3, ms(1));
    let warm = play_at(ms(1000), &[fault.as_ref()], &exchange(1), &upstream);
    assert_eq!(warm.called, Some(ms(1000)));
    let cold = play_at(ms(40_000), &[fault.as_ref()], &exchange(2), &upstream);
    assert!(cold.called.unwrap() >= ms(52_000) && cold.called.unwrap() < ms(52_600), "{:?}", cold.called);
    assert!(cold.hit());
}

#[test]
fn a_whole_answer_keeps_its_slot_while_it_is_held_back() {
    let fault = build::<Saturation>("{ slots: 1, decode_tokens_per_second: 40 }");
    let (mut first, _) = arm(fault.as_ref(), ms(0), &exchange(1)).unwrap();
    let (mut second, _) = arm(fault.as_ref(), ms(0), &exchange(2)).unwrap();
    let (mut head, ()) = request::Request::new(()).into_parts();
    let mut must_wait = |at: u64| {
        let mut out = Orders::default();
        second.on_request(ms(at), &mut head, &mut out);
        out.list.iter().any(|order| matches!(order, Order::Again(_)))
    };
    let (mut own_head, ()) = request::Request::new(()).into_parts();
    let mut out = Orders::default();
    first.on_request(ms(0), &mut own_head, &mut out);
    first.on_item(ms(10), Item::Message(["word"; 40].join(" ").into()), &mut out);
    assert!(out.list.iter().any(|order| matches!(order, Order::Wait(time) if *time >= ms(900))));
    // The end is told as soon as all is ordered, which may be before it is carried out.
    first.on_end(ms(10), &mut out);
    assert!(must_wait(11));
    drop(first);
    assert!(!must_wait(1010));
}

#[test]
fn options_that_do_not_fit_are_refused() {
    for (yaml, field) in [
        ("{ slots: 0 }", "slots"),
        ("{ slots: 1, decode_tokens_per_second: 0 }", "decode_tokens_per_second"),
        ("{ slots: 1, prefill_tokens_per_second: -1 }", "prefill_tokens_per_second"),
        ("{ slots: 1, kv_cache_tokens: 9 }", "kv_cache_tokens"),
        ("{ slots: 1, prefill_tokens_per_second: 9, kv_cache_tokens: 0 }", "kv_cache_tokens"),
        ("{ slots: 1, prefix_cache: { share: 50% } }", "prefix_cache"),
        ("{ slots: 1, prefill_tokens_per_second: 9, prefix_cache: {} }", "prefix_cache"),
        ("{ slots: 1, prefill_tokens_per_second: 9, prefix_cache: { tokens: 9 } }", "prefix_cache"),
        ("{ slots: 1, autoscale: { max_replicas: 1 } }", "autoscale"),
        ("{ slots: 1, when_full: { status: 200 } }", "when_full"),
    ] {
        assert_eq!(invalid::<Saturation>(yaml).field, field, "{yaml}");
    }
}
