//! The engine as a whole, with faults that only say whether they acted.

#[path = "composition_tests.rs"]
mod composition;
#[path = "reload_tests.rs"]
mod reload;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

use super::judge::LIMITED;
use super::selector::Part;
use super::*;
use crate::dialect::by_kind;
use crate::exchange::{Facts, Item};
use crate::fault::{self, Effect, Fault, Impossible, Orders};
use crate::measure::{DecisionLine, Observation, Tap};

/// What a test fault does.
#[derive(Clone, Copy, Debug, Default)]
struct Script {
    hit: bool,
    unarmed: Option<&'static str>,
    impossible: Option<&'static str>,
    let_go: Option<&'static str>,
    refuses: bool,
}

#[derive(Debug, Default)]
struct Scripted(Script, Arc<AtomicU32>);

impl Fault for Scripted {
    fn arm(&self, arming: &mut fault::Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        arming.draw.unit("u");
        self.0.unarmed.map_or_else(|| Ok(Box::new(Acts(self.0)) as _), |why| Err(Impossible(why)))
    }

    fn refuses_connections(&self) -> bool {
        self.0.refuses
    }

    fn reset(&self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

struct Acts(Script);

impl Effect for Acts {
    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        if self.0.hit {
            out.hit();
            out.note("reached", 0.5);
        }
        if let Some(reason) = self.0.impossible {
            out.impossible(reason);
        }
        if let Some(reason) = self.0.let_go {
            out.let_go(reason);
        }
        out.send(item);
    }
}

const HIT: Script =
    Script { hit: true, unarmed: None, impossible: None, let_go: None, refuses: false };

fn rule(name: &str, script: Script) -> Rule {
    Rule {
        name: name.into(),
        targets: vec!["llm".into()],
        target_text: "llm".into(),
        selector: Selector::default(),
        percent: Ramp { from: 100.0, to: 100.0 },
        effects: vec![("act", Box::new(Scripted(script, Arc::default())))],
        ..Rule::default()
    }
}

fn percent(name: &str, from: f64, to: f64) -> Rule {
    Rule { percent: Ramp { from, to }, ..rule(name, HIT) }
}

/// An exchange with the `llm`, told apart by its key.
pub(super) fn exchange(key: u64) -> Exchange {
    Exchange {
        dependency: "llm".into(),
        level: Default::default(),
        transport: Default::default(),
        key: ExchangeKey(key),
        ordinal: 0,
        method: Method::POST,
        uri: Uri::from_static("/"),
        headers: HeaderMap::new(),
        facts: Facts::default(),
        body: Bytes::new(),
        user: None,
        session: None,
        api_key: None,
    }
}

/// An engine with everything armed from 0 s on, and its journal.
fn armed(seed: u64, rules: Vec<Rule>) -> (Engine, Tap) {
    let (journal, tap) = Recorder::channel(10_000);
    let engine = Engine::new(seed, rules, journal);
    let names: Vec<Arc<str>> = engine.rules().iter().map(|rule| Arc::clone(&rule.name)).collect();
    for name in names {
        engine.arm(&name, Arming::default()).unwrap();
    }
    (engine, tap)
}

/// Decides, lets one piece of an answer pass, and closes.
fn pass(engine: &Engine, at: Duration, exchange: &Exchange) {
    let mut decision = engine.decide(at, exchange, by_kind("openai").unwrap());
    decision.chain.on_item(at, Item::Bytes("x".into()));
    decision.close();
}

fn lines(tap: &mut Tap) -> Vec<DecisionLine> {
    std::iter::from_fn(|| tap.try_next())
        .filter_map(|seen| match seen {
            Observation::Decision(line) => Some(*line),
            _ => None,
        })
        .collect()
}

fn tally(engine: &Engine, name: &str) -> Tally {
    engine.tallies().into_iter().find(|(rule, _)| **rule == *name).unwrap().1
}

/// How many of 1,000 keys a rule chooses at this time.
fn chosen_at(engine: &Engine, tap: &mut Tap, at: Duration) -> usize {
    (0..1000).for_each(|key| pass(engine, at, &exchange(key)));
    lines(tap).iter().filter(|line| line.selected).count()
}

#[test]
fn a_thousand_keys_forward_and_backward_give_equal_decisions() {
    let run = |seed: u64, keys: Vec<u64>| {
        let (engine, mut tap) =
            armed(seed, vec![percent("a", 30.0, 30.0), percent("b", 70.0, 70.0)]);
        keys.iter().for_each(|key| pass(&engine, Duration::ZERO, &exchange(*key)));
        lines(&mut tap)
            .into_iter()
            .map(|line| ((line.key, line.fault.to_string()), (line.selected, line.drawn)))
            .collect::<BTreeMap<_, _>>()
    };
    let forward = run(7, (0..1000).collect());
    assert_eq!(forward.len(), 2000);
    assert_eq!(forward, run(7, (0..1000).rev().collect()));
    let other = run(8, (0..1000).collect());
    let differing = forward.iter().filter(|(key, line)| other[*key].0 != line.0).count();
    assert!(differing > 500, "another seed, other decisions: {differing}");
    let chosen = forward.iter().filter(|((_, fault), line)| fault == "a" && line.0).count();
    assert!((250..350).contains(&chosen), "{chosen} of 1000 at 30 %");
}

#[test]
fn faults_roll_for_themselves_and_retries_roll_anew() {
    let (engine, mut tap) = armed(1, vec![percent("a", 50.0, 50.0), percent("b", 50.0, 50.0)]);
    for ordinal in [0, 1] {
        pass(&engine, Duration::ZERO, &Exchange { ordinal, ..exchange(3) });
    }
    let rolls: Vec<f64> = lines(&mut tap).iter().map(|line| line.drawn["percent"]).collect();
    assert_eq!(rolls.len(), 4);
    for (at, roll) in rolls.iter().enumerate() {
        assert!((0.0..100.0).contains(roll));
        assert!(!rolls[at + 1..].contains(roll), "{rolls:?}");
    }
}

#[test]
fn nothing_at_0_and_everything_at_100_percent() {
    let (engine, mut tap) = armed(1, vec![percent("never", 0.0, 0.0)]);
    assert_eq!(chosen_at(&engine, &mut tap, Duration::ZERO), 0);
    let (engine, mut tap) = armed(1, vec![percent("always", 100.0, 100.0)]);
    assert_eq!(chosen_at(&engine, &mut tap, Duration::ZERO), 1000);
}

#[test]
fn ramps_run_from_arming_to_its_end() {
    let (engine, mut tap) = armed(1, vec![percent("ramp", 0.0, 100.0)]);
    let at = Duration::from_secs;
    engine.arm("ramp", Arming { percent: None, from: at(100), until: Some(at(200)) }).unwrap();
    assert_eq!(chosen_at(&engine, &mut tap, at(100)), 0);
    let half = chosen_at(&engine, &mut tap, at(150));
    assert!((450..550).contains(&half), "{half}");
    assert!(chosen_at(&engine, &mut tap, at(199)) > 950);
    let wanted = tally(&engine, "ramp").percent_wanted.unwrap();
    assert!((wanted - 49.67).abs() < 0.1, "the mean of 0, 50 and 99 is told: {wanted}");
    assert_eq!(chosen_at(&engine, &mut tap, at(200)), 0, "over, though nobody disarmed it");
    let over = Some(Ramp { from: 100.0, to: 100.0 });
    engine.arm("ramp", Arming { percent: over, ..Arming::default() }).unwrap();
    assert_eq!(chosen_at(&engine, &mut tap, at(300)), 1000, "the arming's percent counts");
}

#[test]
fn sticky_faults_stay_with_their_user() {
    let sticky = Rule { sticky: Some(Sticky::User), ..percent("flaky", 40.0, 40.0) };
    let (engine, mut tap) = armed(1, vec![sticky]);
    for key in 0..1000 {
        let user = Some(format!("u{}", key % 100));
        pass(&engine, Duration::ZERO, &Exchange { user, ..exchange(key) });
    }
    let mut by_user: BTreeMap<usize, Vec<bool>> = BTreeMap::new();
    for (index, line) in lines(&mut tap).iter().enumerate() {
        by_user.entry(index % 100).or_default().push(line.selected);
    }
    assert!(by_user.values().all(|fates| fates.iter().all(|fate| *fate == fates[0])));
    let suffering = by_user.values().filter(|fates| fates[0]).count();
    assert!((25..55).contains(&suffering), "{suffering} of 100 users");
}

#[test]
fn sticky_needs_the_identity() {
    for sticky in [Sticky::ApiKey, Sticky::Session, Sticky::User] {
        let (engine, mut tap) = armed(1, vec![Rule { sticky: Some(sticky), ..rule("f", HIT) }]);
        pass(&engine, Duration::ZERO, &exchange(1));
        let known = Exchange {
            user: Some("a".into()),
            session: Some("b".into()),
            api_key: Some(3),
            ..exchange(1)
        };
        pass(&engine, Duration::ZERO, &known);
        let lines = lines(&mut tap);
        assert!(lines[0].matched && !lines[0].selected);
        assert!(lines[0].let_go.as_deref().unwrap().contains("on the request"));
        assert!(lines[1].hit, "{sticky:?}");
        let tally = tally(&engine, "f");
        assert_eq!((tally.matched, tally.selected, tally.impossible), (2, 1, 0));
        assert_eq!((tally.let_go, tally.reasons.values().sum::<u64>()), (1, 1));
    }
}

#[test]
fn the_funnel_narrows() {
    let selector = Selector::new([Part::Model(Pattern::glob("gpt-*").unwrap())]);
    let faults = vec![
        Rule { selector, ..percent("some", 50.0, 50.0) },
        rule("idle", Script::default()),
        rule("unarmed", Script { unarmed: Some("no text"), ..Script::default() }),
        rule("given up", Script { impossible: Some("too few tokens"), ..Script::default() }),
    ];
    let (engine, mut tap) = armed(5, faults);
    for key in 0..200 {
        let model = Some(if key % 2 == 0 { "gpt-4o" } else { "other" }.to_owned());
        let facts = Facts { model, ..Facts::default() };
        pass(&engine, Duration::from_millis(1500), &Exchange { facts, ..exchange(key) });
    }
    let some = tally(&engine, "some");
    assert_eq!((some.armed, some.matched), (200, 100));
    assert_eq!(some.unmatched, BTreeMap::from([("model".to_owned(), 100)]));
    assert!((30..70).contains(&some.selected) && some.hit == some.selected, "{some:?}");
    assert_eq!((some.impossible, some.percent_wanted), (0, Some(50.0)));
    for (name, reason) in
        [("idle", decision::TOO_SHORT), ("unarmed", "no text"), ("given up", "too few tokens")]
    {
        let tally = tally(&engine, name);
        assert_eq!((tally.selected, tally.hit, tally.impossible), (200, 0, 200), "{name}");
        assert_eq!(tally.reasons, BTreeMap::from([(reason.to_owned(), 200)]));
    }
    let lines = lines(&mut tap);
    assert_eq!(lines.len(), 800, "a line for each fault considered, matched or not");
    let hit = lines.iter().find(|line| line.hit).unwrap();
    let names: Vec<&str> = hit.drawn.keys().map(String::as_str).collect();
    assert_eq!(names, ["percent", "reached", "u"]);
    assert_eq!((hit.at_s, hit.impossible.as_deref()), (1.5, None));
    let unmatched = lines.iter().find(|line| !line.matched).unwrap();
    assert!(!unmatched.selected && unmatched.drawn.is_empty());
}

#[test]
fn one_effect_may_act_while_another_cannot() {
    let mut both = rule("both", HIT);
    let unable = Script { unarmed: Some("no text"), ..Script::default() };
    both.effects.push(("other", Box::new(Scripted(unable, Arc::default()))));
    let (engine, mut tap) = armed(1, vec![both]);
    pass(&engine, Duration::ZERO, &exchange(1));
    let tally = tally(&engine, "both");
    assert_eq!((tally.hit, tally.impossible), (1, 0));
    assert_eq!(tally.reasons, BTreeMap::from([("other: no text".to_owned(), 1)]));
    let line = lines(&mut tap).remove(0);
    assert!(line.hit && line.impossible.as_deref() == Some("other: no text"));
    assert!(line.drawn.contains_key("u") && line.drawn.contains_key("other.u"));
    assert_ne!(line.drawn["u"], line.drawn["other.u"], "each effect draws for itself");
}

#[test]
fn what_was_let_go_is_neither_a_hit_nor_impossible() {
    let idle = Script { let_go: Some("within the limit"), ..Script::default() };
    let unable = Script { impossible: Some("no stream"), ..Script::default() };
    let mut mixed = rule("mixed", idle);
    mixed.effects.push(("other", Box::new(Scripted(unable, Arc::default()))));
    let mut acted = rule("acted", HIT);
    acted.effects.push(("other", Box::new(Scripted(idle, Arc::default()))));
    let (engine, mut tap) = armed(1, vec![rule("limit", idle), mixed, acted]);
    pass(&engine, Duration::ZERO, &exchange(1));
    let count = |name: &str| {
        let tally = tally(&engine, name);
        (tally.hit, tally.let_go, tally.impossible)
    };
    assert_eq!(count("limit"), (0, 1, 0));
    assert_eq!(tally(&engine, "limit").reasons["within the limit"], 1);
    assert_eq!(count("mixed"), (0, 0, 1), "what could not act says more");
    assert_eq!(tally(&engine, "mixed").reasons, BTreeMap::from([("no stream".to_owned(), 1)]));
    assert_eq!(count("acted"), (1, 0, 0));
    assert_eq!(tally(&engine, "acted").reasons["other: within the limit"], 1);
    let lines = lines(&mut tap);
    let told = |line: &DecisionLine| (line.let_go.clone(), line.impossible.clone());
    assert_eq!(told(&lines[0]), (Some("within the limit".to_owned()), None));
    assert_eq!(told(&lines[1]), (None, Some("no stream".to_owned())));
    assert_eq!(told(&lines[2]), (Some("other: within the limit".to_owned()), None));
}

#[test]
fn a_decision_names_the_faults_that_acted() {
    let (engine, _tap) = armed(1, vec![rule("idle", Script::default()), rule("acts", HIT)]);
    let mut decision = engine.decide(Duration::ZERO, &exchange(1), by_kind("openai").unwrap());
    assert!(decision.acted().is_empty());
    decision.chain.on_item(Duration::ZERO, Item::Bytes("x".into()));
    assert_eq!(decision.acted(), ["acts".into()]);
    assert_eq!(tally(&engine, "acts").armed, 0, "the books are open");
    drop(decision);
    assert_eq!(tally(&engine, "acts").hit, 1);
}

#[test]
fn no_more_than_max_affected_is_touched() {
    let (engine, mut tap) = armed(1, vec![rule("all", HIT)]);
    engine.limit_affected(0.25);
    assert_eq!((0..1000).for_each(|key| pass(&engine, Duration::ZERO, &exchange(key))), ());
    let tally = tally(&engine, "all");
    assert_eq!((tally.selected, tally.hit, tally.let_go), (1000, 250, 750));
    assert_eq!(tally.impossible, 0, "they could have been touched");
    assert_eq!(tally.reasons, BTreeMap::from([(LIMITED.to_owned(), 750)]));
    assert_eq!(lines(&mut tap).iter().filter(|line| line.hit).count(), 250);
}

#[test]
fn only_what_was_really_touched_counts_against_max_affected() {
    let (engine, _tap) = armed(1, vec![rule("idle", Script::default())]);
    engine.limit_affected(0.25);
    (0..1000).for_each(|key| pass(&engine, Duration::ZERO, &exchange(key)));
    let let_go = tally(&engine, "idle").reasons[LIMITED];
    assert_eq!(let_go, 3, "the first three are below a quarter of nothing");
}

#[test]
fn arming_is_told_and_resets_the_fault() {
    let resets = Arc::new(AtomicU32::new(0));
    let mut counted = rule("storm", HIT);
    counted.effects = vec![("act", Box::new(Scripted(HIT, Arc::clone(&resets))))];
    let engine = Engine::new(1, vec![counted, rule("calm", HIT)], Recorder::none());
    let mut changes = engine.changes();
    assert_eq!(engine.demand("llm"), Demand::default());
    engine.arm("storm", Arming::default()).unwrap();
    assert!(changes.has_changed().unwrap());
    assert_eq!((*changes.borrow_and_update(), resets.load(Ordering::Relaxed)), (1, 1));
    assert_eq!(engine.demand("llm"), Demand { any: true, body: true, ..Demand::default() });
    assert_eq!(engine.demand("other"), Demand::default());
    assert_eq!(engine.demand_at(engine.gate("llm")), engine.demand("llm"));
    assert_eq!(engine.armed(), [("storm".into(), Arming::default())]);
    assert!(engine.disarm("storm") && !engine.disarm("storm") && !engine.disarm("none"));
    assert_eq!(*changes.borrow_and_update(), 2);
    assert_eq!(engine.demand("llm"), Demand::default());
    pass(&engine, Duration::ZERO, &exchange(1));
    assert_eq!(tally(&engine, "storm"), Tally::default(), "disarmed faults see nothing");
}

#[test]
fn an_unknown_fault_is_told_the_known_ones() {
    let engine = Engine::new(1, vec![rule("storm", HIT), rule("cut", HIT)], Recorder::none());
    assert_eq!(
        engine.arm("strom", Arming::default()).unwrap_err(),
        "unknown fault `strom`; did you mean `storm`? (faults in this file: `storm`, `cut`)"
    );
    assert!(!engine.arm("zzz", Arming::default()).unwrap_err().contains("mean"));
}

#[test]
fn armings_end_by_themselves() {
    let engine = Engine::new(1, vec![rule("a", HIT), rule("b", HIT)], Recorder::none());
    let until = Some(Duration::from_secs(5));
    engine.arm("a", Arming { until, ..Arming::default() }).unwrap();
    engine.arm("b", Arming::default()).unwrap();
    engine.expire(Duration::from_secs(4));
    assert_eq!(engine.armed().len(), 2);
    engine.expire(Duration::from_secs(5));
    assert_eq!(engine.armed(), [("b".into(), Arming::default())]);
    engine.disarm_all();
    assert!(engine.armed().is_empty());
}

#[test]
fn only_a_fault_for_everything_refuses_connections() {
    let refusing = Script { refuses: true, ..HIT };
    let refuse = |rule: Rule| armed(1, vec![rule]).0.demand("llm").refuse;
    assert!(refuse(rule("outage", refusing)));
    assert!(!refuse(rule("error", HIT)));
    let some = Ramp { from: 99.0, to: 100.0 };
    assert!(!refuse(Rule { percent: some, ..rule("outage", refusing) }));
    assert!(!refuse(Rule { sticky: Some(Sticky::User), ..rule("outage", refusing) }));
    let selector = Selector::new([Part::Stream(true)]);
    assert!(!refuse(Rule { selector, ..rule("outage", refusing) }));

    let (engine, mut tap) = armed(1, vec![rule("outage", refusing), rule("error", HIT)]);
    engine.count_refused("llm");
    let outage = tally(&engine, "outage");
    assert_eq!((outage.armed, outage.matched, outage.selected, outage.hit), (1, 1, 1, 1));
    assert_eq!(tally(&engine, "error").armed, 0);
    assert!(lines(&mut tap).is_empty(), "a connection has no key to write down");
    engine.limit_affected(0.4);
    assert!(!engine.demand("llm").refuse, "a limited blast radius refuses no one as a whole");
}

#[test]
fn requests_become_exchanges() {
    let engine = Engine::new(1, vec![rule("storm", HIT)], Recorder::none());
    let identify = Identify { user: Some("json $.user".parse().unwrap()), session: None };
    let dialect = by_kind("openai").unwrap();
    let read = |label: Option<&str>, body: &str| {
        let mut request = http::Request::post("/v1/chat/completions")
            .header("authorization", "Bearer sk-planted");
        if let Some(label) = label {
            request = request.header("x-brownout-session", label);
        }
        let head = request.body(()).unwrap().into_parts().0;
        engine.exchange(&"llm".into(), &head, &body.to_owned().into(), dialect, &identify)
    };
    let body = r#"{"model":"m","user":"ann","messages":[]}"#;
    let (first, again) = (read(None, body), read(None, body));
    assert_eq!((first.key, first.ordinal, again.ordinal), (again.key, 0, 1));
    assert_eq!(
        (first.user.as_deref(), first.facts.operation),
        (Some("ann"), crate::exchange::Operation::Chat)
    );
    assert_ne!(read(None, "{}").key, first.key);
    assert!(first.api_key.is_some());
    assert!(!format!("{first:?}").contains("planted"), "keys do not show");
    let labelled = read(Some("s1/t1"), body);
    assert_eq!(labelled.key, ExchangeKey::labelled("s1/t1"));
    assert_eq!(read(Some("s1/t1"), "{}").ordinal, 1, "the label alone is the key");
}
