//! Other rules in place of those that were loaded.

use std::sync::atomic::AtomicU32;

use super::*;

/// A fault that acts on the `llm` and counts how often its state was reset.
fn fault(name: &str, resets: &Arc<AtomicU32>) -> Rule {
    Rule { effects: vec![("act", Box::new(Scripted(HIT, Arc::clone(resets))))], ..rule(name, HIT) }
}

#[test]
fn armed_faults_stay_armed_and_their_tallies_go_on() {
    let resets = Arc::default();
    let (engine, _tap) = armed(1, vec![rule("gone", HIT), fault("storm", &resets)]);
    let half = Ramp { from: 50.0, to: 50.0 };
    let until = Some(Duration::from_secs(60));
    let arming = Arming { percent: Some(half), from: Duration::from_secs(3), until };
    engine.arm("storm", arming).unwrap();
    (0..100).for_each(|key| pass(&engine, Duration::ZERO, &exchange(key)));
    let before = tally(&engine, "storm").armed;
    let gate = engine.gate("llm");
    let mut changes = engine.changes();
    let other = Rule { targets: vec!["other".into()], ..rule("new", HIT) };
    let gone = engine.replace(vec![other, fault("storm", &resets)], &|_| false);
    assert_eq!(gone, ["gone".into()]);
    assert!(changes.has_changed().unwrap() && *changes.borrow_and_update() > 0);
    assert_eq!(engine.armed(), [("storm".into(), arming)]);
    assert_eq!((engine.gate("llm"), engine.demand_at(gate).any), (gate, true), "gates stay valid");
    (100..200).for_each(|key| pass(&engine, Duration::ZERO, &exchange(key)));
    assert_eq!((before, tally(&engine, "storm").armed), (100, 200));
    assert!(engine.arm("gone", Arming::default()).is_err());
    engine.arm("new", Arming::default()).unwrap();
    assert!(engine.demand("other").any);
    assert_eq!(engine.rules().len(), 2);
}

#[test]
fn an_unchanged_fault_keeps_its_state_and_another_does_not() {
    let (old, new) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let engine = Engine::new(1, vec![fault("a", &old), fault("b", &old)], Recorder::none());
    engine.replace(vec![fault("a", &new), fault("b", &new)], &|name| name == "a");
    engine.arm("a", Arming::default()).unwrap();
    assert_eq!((old.load(Ordering::Relaxed), new.load(Ordering::Relaxed)), (1, 0), "the old one");
    engine.arm("b", Arming::default()).unwrap();
    assert_eq!((old.load(Ordering::Relaxed), new.load(Ordering::Relaxed)), (1, 1), "the new one");
}

#[test]
fn an_exchange_under_way_keeps_what_was_decided() {
    let (engine, mut tap) = armed(1, vec![rule("storm", HIT)]);
    let dialect = by_kind("openai").unwrap();
    let mut decision = engine.decide(Duration::ZERO, &exchange(1), dialect);
    engine.replace(Vec::new(), &|_| false);
    assert!(!engine.demand("llm").any && engine.tallies().is_empty());
    decision.chain.on_item(Duration::ZERO, Item::Bytes("x".into()));
    decision.close();
    let lines = lines(&mut tap);
    assert_eq!((&*lines[0].fault, lines[0].hit), ("storm", true));
}

#[test]
fn the_same_decisions_are_made_after_a_reload_that_changes_nothing() {
    let roll = |engine: &Engine| -> Vec<bool> {
        let dialect = by_kind("openai").unwrap();
        let decide = |key| engine.decide(Duration::ZERO, &exchange(key), dialect);
        (0..200).map(|key| decide(key).open.as_ref().unwrap().considered[0].selected).collect()
    };
    let (engine, _tap) = armed(9, vec![percent("some", 30.0, 30.0)]);
    let before = roll(&engine);
    engine.replace(vec![rule("first", HIT), percent("some", 30.0, 30.0)], &|_| false);
    assert_eq!(roll(&engine), before);
}
