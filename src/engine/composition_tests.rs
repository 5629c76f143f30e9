//! Faults in turns, together, in the shadow, and met again.

use std::time::Duration;

use super::super::when::{
    After, Bursts, By, Counting, Each, Escalation, Per, SharedCause, Step, When,
};
use proptest::prelude::Strategy as _;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn turned(name: &str, when: When) -> Rule {
    Rule { when, ..rule(name, HIT) }
}

/// 64 clients that ask 100 times each, all at once.
fn under_64_clients(engine: &Engine) {
    std::thread::scope(|scope| {
        for client in 0..64 {
            scope.spawn(move || {
                (0..100).for_each(|n| pass(engine, Duration::ZERO, &exchange(client * 1000 + n)));
            });
        }
    });
}

#[test]
fn counts_are_exact_under_64_concurrent_clients() {
    let counting = |counting| When { counts: vec![counting], ..When::default() };
    let rules = vec![
        turned("first", counting(Counting::First(37))),
        turned("every", counting(Counting::Every(7))),
        turned("nth", counting(Counting::Nth(vec!["6400".parse().unwrap()]))),
    ];
    let (engine, _tap) = armed(1, rules);
    under_64_clients(&engine);
    let hits = ["first", "every", "nth"].map(|name| tally(&engine, name).hit);
    assert_eq!(hits, [37, 6400 / 7, 1]);
    let first = tally(&engine, "first");
    assert_eq!((first.matched, first.selected), (6400, 37));
    assert_eq!(first.out_of_turn, BTreeMap::from([("first".to_owned(), 6400 - 37)]));
    let wanted = first.percent_wanted.unwrap();
    assert!((wanted - 100.0 * 37.0 / 6400.0).abs() < 1e-6, "{wanted}");
    engine.arm("first", Arming::default()).unwrap();
    under_64_clients(&engine);
    assert_eq!(tally(&engine, "first").hit, 74, "armed anew, counted anew");
}

#[test]
fn percent_holds_within_its_interval_under_concurrency() {
    let (engine, _tap) = armed(11, vec![percent("p", 20.0, 20.0)]);
    under_64_clients(&engine);
    let told = tally(&engine, "p");
    let [low, high] = told.percent_interval.unwrap();
    assert!(low < 20.0 && 20.0 < high && high - low < 2.5, "{low}..{high}");
    assert_eq!(told.percent_real, Some(100.0 * told.selected as f64 / 6400.0));
}

#[test]
fn a_call_fails_so_often_and_then_succeeds() {
    let when = When { counts: vec![Counting::First(2)], per: Per::Call, ..When::default() };
    let (engine, mut tap) = armed(1, vec![turned("flaky", when)]);
    for ordinal in 0..4 {
        for key in [5, 6] {
            pass(&engine, Duration::ZERO, &Exchange { ordinal, ..exchange(key) });
        }
    }
    let hits: Vec<bool> = lines(&mut tap).iter().map(|line| line.hit).collect();
    assert_eq!(hits, [true, true, true, true, false, false, false, false]);
}

#[test]
fn a_fault_sets_off_another() {
    let after = After {
        fault: "cause".into(),
        hits: 3,
        within: Some(SECOND * 10),
        delay: SECOND * 5,
        lasting: Some(SECOND * 20),
    };
    let rules =
        vec![rule("cause", HIT), turned("effect", When { after: Some(after), ..When::default() })];
    let (engine, mut tap) = armed(1, rules);
    for second in [0, 1, 2, 6, 7, 8, 28, 60] {
        pass(&engine, SECOND * second, &exchange(u64::from(second)));
        if second == 2 {
            engine.disarm("cause");
        }
    }
    let acted = lines(&mut tap);
    let acted: Vec<f64> =
        acted.iter().filter(|l| &*l.fault == "effect" && l.hit).map(|l| l.at_s).collect();
    assert_eq!(acted, [7.0, 8.0]);
    assert_eq!(tally(&engine, "effect").out_of_turn["after"], 6);
}

#[test]
fn hits_raise_the_percent() {
    let escalation = Some(Escalation { by: 25.0, each: Step::Hits(50), to: 90.0 });
    let (engine, mut tap) = armed(3, vec![Rule { escalation, ..percent("rising", 10.0, 10.0) }]);
    let shares: Vec<usize> = (0..6).map(|_| chosen_at(&engine, &mut tap, Duration::ZERO)).collect();
    assert!(shares[0] < shares[5] && (850..950).contains(&shares[5]), "{shares:?}");
}

#[test]
fn a_shared_cause_is_drawn_once() {
    let cause = Some(SharedCause { name: "eu".into(), each: Each::Time(SECOND) });
    let shared = |name: &str| Rule { cause: cause.clone(), ..percent(name, 40.0, 40.0) };
    let (engine, mut tap) = armed(5, vec![shared("a"), shared("b"), percent("alone", 40.0, 40.0)]);
    for number in 0..400 {
        pass(
            &engine,
            SECOND * (number / 4) + SECOND / 8 * (number % 4),
            &exchange(u64::from(number)),
        );
    }
    let mut fates: BTreeMap<(u64, String), Vec<bool>> = BTreeMap::new();
    for line in lines(&mut tap) {
        fates.entry((line.at_s as u64, line.fault.to_string())).or_default().push(line.selected);
    }
    let of = |second, fault: &str| &fates[&(second, fault.to_owned())];
    let mut bad = 0;
    for second in 0..100 {
        let first = of(second, "a")[0];
        bad += usize::from(first);
        assert!(of(second, "a").iter().chain(of(second, "b")).all(|fate| *fate == first));
    }
    assert!((25..55).contains(&bad), "{bad} of 100 seconds");
    assert!(
        (0..100).any(|second| of(second, "alone").iter().any(|fate| *fate != of(second, "a")[0]))
    );
}

#[test]
fn a_cause_shared_by_session_needs_the_session() {
    let cause = SharedCause { name: "eu".into(), each: Each::Identity(Per::Session) };
    let rule = Rule { cause: Some(cause), ..percent("a", 50.0, 50.0) };
    let (engine, mut tap) = armed(5, vec![rule]);
    pass(&engine, Duration::ZERO, &exchange(1));
    for key in 0..20 {
        pass(&engine, Duration::ZERO, &Exchange { session: Some("s".into()), ..exchange(key) });
    }
    let lines = lines(&mut tap);
    assert!(lines[0].let_go.as_deref().unwrap().contains("identify.session"));
    assert!(lines[1..].iter().all(|line| line.selected == lines[1].selected));
}

#[test]
fn in_the_shadow_it_is_counted_and_never_acts() {
    let shadow = |rule: Rule| Rule { shadow: true, ..rule };
    let rules = vec![
        shadow(percent("half", 50.0, 50.0)),
        shadow(rule("unarmed", Script { unarmed: Some("no text"), ..Script::default() })),
        rule("real", HIT),
    ];
    let (engine, mut tap) = armed(2, rules);
    engine.limit_affected(0.999);
    (0..1000).for_each(|key| {
        let decision = engine.decide(SECOND, &exchange(key), by_kind("openai").unwrap());
        assert!(decision.chain.len() <= 1, "only the real one is in the chain");
        decision.close();
    });
    let half = tally(&engine, "half");
    assert_eq!((half.hit, half.would_hit), (0, half.selected));
    assert!((430..570).contains(&half.would_hit), "{half:?}");
    assert!(half.percent_interval.unwrap()[0] < 50.0);
    let unarmed = tally(&engine, "unarmed");
    assert_eq!((unarmed.would_hit, unarmed.impossible), (0, 1000));
    assert_eq!(unarmed.reasons, BTreeMap::from([("no text".to_owned(), 1000)]));
    let line = lines(&mut tap).into_iter().find(|line| &*line.fault == "half" && line.selected);
    assert_eq!(line.map(|line| (line.hit, line.would_hit)), Some((false, Some(true))));
    let refusing = Script { refuses: true, ..HIT };
    let (engine, _tap) = armed(1, vec![shadow(rule("outage", refusing))]);
    assert!(!engine.demand("llm").refuse, "a shadow refuses no one");
}

#[test]
fn requests_steer_where_they_may() {
    let (engine, mut tap) =
        armed(1, vec![Rule { opt_in: true, ..rule("asked", HIT) }, rule("all", HIT)]);
    let with = |name: &'static str, value: &str| {
        let mut exchange = exchange(1);
        exchange.headers.insert(name, value.parse().unwrap());
        exchange
    };
    assert!(!engine.demand("llm").steered);
    pass(&engine, SECOND, &with("x-brownout-skip", "1"));
    assert!(lines(&mut tap).iter().all(|line| line.hit), "off unless the file allows it");
    engine.let_requests_steer(true);
    assert!(engine.demand("llm").steered && engine.demand("llm").any);
    let mut hits = |exchange: &Exchange| -> Vec<bool> {
        pass(&engine, SECOND, exchange);
        lines(&mut tap).iter().map(|line| line.hit).collect()
    };
    assert_eq!(hits(&exchange(1)), [false, true]);
    assert_eq!(hits(&with("x-brownout-fault", "asked")), [true, true]);
    assert_eq!(hits(&with("x-brownout-skip", "1")), [false, false]);
    assert_eq!(hits(&with("x-brownout-skip", "all, asked")), [false, false]);
    assert_eq!(tally(&engine, "asked").unmatched["opt_in"], 1);
    engine.disarm_all();
    let demand = engine.demand("llm");
    assert!(demand.steered && !demand.any && !demand.body, "headers are taken off all the same");
}

/// What is kept of a line: everything but when.
fn chosen(lines: &[DecisionLine]) -> Vec<(String, String, BTreeMap<String, f64>)> {
    let mut chosen: Vec<_> = lines
        .iter()
        .filter(|line| line.selected)
        .map(|line| {
            let mut drawn = line.drawn.clone();
            drawn.remove("percent");
            (line.key.clone(), line.fault.to_string(), drawn)
        })
        .collect();
    chosen.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    chosen
}

#[test]
fn a_journal_is_met_again_under_another_file_and_seed() {
    let (engine, mut tap) = armed(1, vec![percent("a", 30.0, 30.0), percent("gone", 50.0, 50.0)]);
    (0..500).for_each(|key| pass(&engine, SECOND, &exchange(key)));
    let recorded = lines(&mut tap);
    let mut replay = Replay::default();
    for line in &recorded {
        replay.add(&serde_json::to_string(line).unwrap()).unwrap();
    }
    let elsewhere = Selector::new([Part::Stream(true)]);
    let changed = Rule { selector: elsewhere, ..percent("a", 1.0, 1.0) };
    let (engine, mut tap) = armed(99, vec![changed, rule("new", HIT)]);
    engine.replay("decisions.jsonl", replay);
    (100..600).rev().for_each(|key| pass(&engine, SECOND, &exchange(key)));
    let met = lines(&mut tap);
    let known: Vec<DecisionLine> = recorded
        .iter()
        .filter(|line| u64::from_str_radix(&line.key, 16).unwrap() >= 100 && &*line.fault == "a")
        .cloned()
        .collect();
    assert_eq!(chosen(&met), chosen(&known), "same exchanges, same draws");
    assert!(met.iter().all(|line| line.selected == line.hit));
    assert!(met.iter().filter(|line| line.selected).all(|line| line.seed == Some(1)));
    let all =
        |name: &str| recorded.iter().filter(|l| l.selected && &*l.fault == name).count() as u64;
    let told = engine.replayed().unwrap();
    assert_eq!(told.recorded, all("a") + all("gone"));
    assert_eq!(told.met, chosen(&known).len() as u64);
    assert_eq!(told.gone, BTreeMap::from([("gone".to_owned(), all("gone"))]));
    assert_eq!(told.unmet, all("a") - told.met);
    assert_eq!(told.unknown, 100);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(20))]

    /// What goes by time or by who asks does not depend on what came before.
    #[test]
    fn any_interleaving_gives_the_same_decisions(
        seed in 0u64..1000,
        order in proptest::sample::subsequence((0u64..200).collect::<Vec<_>>(), 100..200)
            .prop_shuffle(),
    ) {
        use proptest::prelude::*;
        let bursts = Bursts {
            good: 20.0, bad: 10.0, by: By::Time, percent_good: 5.0, percent_bad: 80.0,
        };
        let rules = || vec![
            turned("bursts", When { bursts: Some(bursts), ..When::default() }),
            Rule {
                cause: Some(SharedCause { name: "eu".into(), each: Each::Time(SECOND * 3) }),
                ..percent("caused", 30.0, 30.0)
            },
            percent("plain", 30.0, 30.0),
        ];
        let run = |order: &[u64]| {
            let (engine, mut tap) = armed(seed, rules());
            for key in order {
                pass(&engine, SECOND * u32::try_from(*key).unwrap(), &exchange(*key));
            }
            chosen(&lines(&mut tap))
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        prop_assert_eq!(run(&order), run(&sorted));
    }
}
