//! What queueing theory says of a machine with a line, and what ours does.

use std::time::Duration;

use super::super::testing::{Upstream, build, exchange, ms, play, play_at};
use super::Saturation;
use super::tests::Simulation;
use crate::dice::Dice;

/// The probability that a request must wait, of `servers` and so many of them busy on average
/// (Erlang's C formula).
fn erlang_c(servers: u32, busy: f64) -> f64 {
    // Erlang's B by its recursion, then C from it.
    let blocked = (1..=servers).fold(1.0, |b, n| busy * b / (f64::from(n) + busy * b));
    let load = busy / f64::from(servers);
    blocked / (1.0 - load * (1.0 - blocked))
}

/// The mean time in line of an M/M/c queue, in services.
fn mean_wait(servers: u32, load: f64) -> f64 {
    let servers_f = f64::from(servers);
    erlang_c(servers, load * servers_f) / (servers_f * (1.0 - load))
}

/// The mean service in seconds.
const SERVICE: f64 = 0.2;

/// Poisson arrivals at this load, each with when it comes and how long it is served.
fn arrivals(
    servers: u32,
    load: f64,
    count: u32,
    service: impl Fn(&mut Dice) -> f64,
) -> Vec<(f64, f64)> {
    let mut dice = Dice::from_seed(11);
    let mut at = 0.0;
    (0..count)
        .map(|_| {
            at += dice.exponential() * SERVICE / (load * f64::from(servers));
            (at, SERVICE * service(&mut dice))
        })
        .collect()
}

/// The mean time in line, in services, of these arrivals at servers that are told at once.
fn ideal(servers: u32, arrivals: &[(f64, f64)]) -> f64 {
    let mut free = vec![0.0f64; servers as usize];
    let waits = arrivals.iter().map(|(at, service)| {
        let next = free.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
        let wait = (*next - at).max(0.0);
        *next = at + wait + service;
        wait
    });
    waits.sum::<f64>() / arrivals.len() as f64 / SERVICE
}

/// The same at our machine.
fn ours(servers: u32, arrivals: &[(f64, f64)]) -> f64 {
    let mut simulation = Simulation::new(&format!("{{ slots: {servers} }}"));
    for (at, service) in arrivals {
        simulation.arrive_for(Duration::from_secs_f64(*at), Duration::from_secs_f64(*service));
    }
    simulation.run();
    let clients = &simulation.clients;
    let waits = clients.iter().map(|client| (client.admitted.unwrap() - client.came).as_secs_f64());
    waits.sum::<f64>() / clients.len() as f64 / SERVICE
}

fn near(found: f64, wanted: f64, within: f64, what: &str) {
    let off = found / wanted - 1.0;
    assert!(off.abs() < within, "{what}: {found:.3} services in line, wanted {wanted:.3}");
}

/// Our machine keeps requests in line as long as theory says: it agrees with an ideal one on the same
/// arrivals, and what it differs by, together with what the ideal one differs by over so many arrivals
/// that chance is small, is within a tenth.
fn agrees(servers: u32, load: f64, service: impl Fn(&mut Dice) -> f64, theory: f64, what: &str) {
    let short = arrivals(servers, load, 3000, &service);
    let (ours, of_it) = (ours(servers, &short), ideal(servers, &short));
    near(ours, of_it, 0.05, what);
    let long = ideal(servers, &arrivals(servers, load, 400_000, &service));
    near(long * ours / of_it, theory, 0.1, what);
}

#[test]
fn waiting_is_what_erlang_says() {
    assert!((erlang_c(1, 0.7) - 0.7).abs() < 1e-12);
    assert!((erlang_c(2, 1.0) - 1.0 / 3.0).abs() < 1e-12);
    for servers in [1, 4] {
        let theory = mean_wait(servers, 0.7);
        agrees(servers, 0.7, Dice::exponential, theory, &format!("M/M/{servers}"));
    }
}

#[test]
fn waiting_is_what_allen_and_cunneen_say() {
    // Half the sum of the squared variations of arrivals (1) and services.
    agrees(1, 0.7, |_| 1.0, mean_wait(1, 0.7) * 0.5, "M/D/1");
    agrees(4, 0.8, |_| 1.0, mean_wait(4, 0.8) * 0.5, "M/D/4");
    let sigma = 2.0f64.ln().sqrt();
    let lognormal = |dice: &mut Dice| (sigma * dice.normal() - sigma * sigma / 2.0).exp();
    agrees(4, 0.7, lognormal, mean_wait(4, 0.7), "M/G/4, squared variation 1");
}

#[test]
fn there_is_a_knee() {
    let waits = [0.5, 0.7, 0.9].map(|load| ours(4, &arrivals(4, load, 3000, Dice::exponential)));
    assert!(waits[1] / waits[0] > 3.0 && waits[2] / waits[1] > 3.0, "{waits:?}");
}

#[test]
fn prompts_are_one_line_of_their_own() {
    // Pollaczek and Khinchine: the wait of M/G/1 is load * E[S^2] / (2 E[S] (1 - load)).
    let mut simulation = Simulation::new("{ slots: 100000, prefill_tokens_per_second: 1000 }");
    let mut dice = Dice::from_seed(5);
    let (mut at, mut prompts, mut squares) = (0.0, 0.0, 0.0);
    for _ in 0..20_000 {
        at += dice.exponential() * 0.2 / 0.7;
        let prompt = dice.whole(0, 400) as u32;
        prompts += f64::from(prompt) / 1000.0 / 20_000.0;
        squares += (f64::from(prompt) / 1000.0).powi(2) / 20_000.0;
        simulation.arrive(Duration::from_secs_f64(at), prompt, 1);
    }
    simulation.run();
    let first = simulation.first_tokens();
    let ours = first.iter().sum::<f64>() / first.len() as f64 - prompts;
    let load = 20_000.0 / at * prompts;
    let theory = load * squares / (2.0 * prompts * (1.0 - load));
    near(ours / prompts, theory / prompts, 0.1, "prefill, M/G/1");
}

/// A hundred seconds at nine tenths of what the machine can do, and forty more at once after twenty.
/// Clients wait for 6 s, then come again so many times. Says how many tries were given up that began
/// when the crowd was long gone.
fn given_up(retries: u32) -> usize {
    let mut simulation = Simulation::new(
        "{ slots: 8, prefill_tokens_per_second: 6000, decode_tokens_per_second: 400 }",
    );
    let mut dice = Dice::from_seed(7);
    let patience = Some((ms(6000), retries));
    let mut at = 0.0;
    while at < 100.0 {
        simulation.arrive(Duration::from_secs_f64(at), 300, 100).patience = patience;
        at += dice.exponential() / 3.6;
    }
    (0..40).for_each(|_| simulation.arrive(ms(20_000), 300, 100).patience = patience);
    simulation.run();
    let late = |client: &&super::tests::Client| client.gave_up && client.came > ms(45_000);
    simulation.clients.iter().filter(late).count()
}

#[test]
fn retries_make_it_worse() {
    let (without, with) = (given_up(0), given_up(3));
    assert!(with > 2 * without + 20, "{without} given up without retries, {with} with three");
}

#[test]
fn a_full_cache_stops_the_latest_stream_and_reads_it_again() {
    let run = |cache: &str| {
        let yaml = format!(
            "{{ slots: 4, prefill_tokens_per_second: 1000, decode_tokens_per_second: 100{cache} }}"
        );
        let mut simulation = Simulation::new(&yaml);
        simulation.arrive(ms(0), 400, 100);
        simulation.arrive(ms(1), 400, 200);
        simulation.run();
        simulation.clients.iter().map(|client| client.end.unwrap().as_secs_f64()).collect::<Vec<_>>()
    };
    let (roomy, tight) = (run(""), run(", kv_cache_tokens: 900"));
    assert!(tight[0] < roomy[0], "the first has the machine to itself: {tight:?} {roomy:?}");
    assert!(tight[1] > roomy[1] + 0.3, "the second is read again: {tight:?} {roomy:?}");
}

#[test]
fn what_was_read_before_is_not_read_again() {
    let asked = |key: u64, body: &str| {
        let mut asked = exchange(key);
        asked.facts.prompt_tokens = 100;
        asked.body = body.to_owned().into();
        asked
    };
    let yaml = "{ slots: 4, prefill_tokens_per_second: 100, prefix_cache: { tokens: 1000 } }";
    let fault = build::<Saturation>(yaml);
    let first = |at: u64, key: u64, body: &str| {
        let played = play_at(ms(at), &[fault.as_ref()], &asked(key, body), &Upstream::stream(1, ms(0)));
        played.time_of("t0") - ms(at)
    };
    let system = "s".repeat(256);
    assert_eq!(first(0, 1, &system), ms(1000));
    assert_eq!(first(5000, 2, &format!("{system}{}", "q".repeat(256))), ms(500));
    fault.reset();
    assert_eq!(first(9000, 3, &system), ms(1000), "a new machine knows nothing");
    let share = "{ slots: 4, prefill_tokens_per_second: 100, prefix_cache: { share: 75% } }";
    let played = play(&[build::<Saturation>(share).as_ref()], &asked(1, ""), &Upstream::stream(1, ms(0)));
    assert_eq!(played.time_of("t0"), ms(250));
}

#[test]
fn a_replica_that_comes_late_ends_the_line() {
    let run = |autoscale: &str| {
        let gpu = "slots: 8, prefill_tokens_per_second: 6000, decode_tokens_per_second: 400";
        let mut simulation = Simulation::new(&format!("{{ {gpu}{autoscale} }}"));
        // Six a second; one machine can do four.
        for i in 0..720 {
            simulation.arrive(ms(i * 1000 / 6), 300, 100);
        }
        simulation.run();
        let late = simulation.clients.iter().filter(|client| client.came > ms(100_000));
        let waits: Vec<f64> = late
            .map(|client| (client.first_token.unwrap() - client.came).as_secs_f64())
            .collect();
        waits.iter().sum::<f64>() / waits.len() as f64
    };
    let (alone, scaled) = (run(""), run(", autoscale: { max_replicas: 3, after: 5s, start: 10s }"));
    assert!(alone > 20.0, "{alone}");
    assert!(scaled < 1.0, "{scaled}");
}
