//! What every kind of fault must do, and several of them together.

use std::time::Duration;

use super::testing::{Upstream, arm, build, exchange, ms, play};
use super::*;

#[test]
fn each_example_parses_and_builds() {
    for kind in KINDS {
        let json: serde_json::Value = serde_yaml::from_str(kind.example)
            .unwrap_or_else(|error| panic!("{}: {error}", kind.name));
        if let Err(error) = (kind.try_build)(json) {
            panic!("{}: {error}", kind.name);
        }
        let yaml = format!("{}: {}", kind.name, kind.example);
        let specs: EffectSpecs = serde_yaml::from_str(&yaml).unwrap();
        let built = specs.build();
        assert_eq!(built.len(), 1, "{yaml}");
        assert_eq!(built[0].0, kind.name);
        assert!(built[0].1.is_ok());
    }
}

#[test]
fn each_kind_is_named_as_its_file_and_says_what_it_mimics() {
    for ((module, name), kind) in MODULES.iter().zip(KINDS) {
        assert_eq!(module, name);
        assert_eq!(kind.name, *name);
        assert!(kind.summary.len() > 20 && !kind.summary.ends_with('.'), "{}", kind.summary);
    }
}

#[test]
fn each_option_is_described() {
    for kind in KINDS {
        let schema = serde_json::to_value((kind.schema)()).unwrap();
        assert!(schema["description"].is_string(), "{}", kind.name);
        for (option, about) in schema["properties"].as_object().unwrap() {
            let text = about["description"].as_str().unwrap_or_default();
            assert!(text.len() > 10, "{}.{option} has no description", kind.name);
        }
    }
}

#[test]
fn a_typo_names_the_options_there_are() {
    let error = serde_yaml::from_str::<EffectSpecs>("trunctate: { after: 3 }").unwrap_err();
    assert!(error.to_string().contains("truncate"), "{error}");
    let error = serde_yaml::from_str::<EffectSpecs>("latency: { ad: 3s }").unwrap_err();
    assert!(error.to_string().contains("add"), "{error}");
}

#[test]
fn effects_of_one_fault_combine_in_their_order() {
    let yaml = "{ error: { as: timeout }, latency: { add: 2s } }";
    let built = serde_yaml::from_str::<EffectSpecs>(yaml).unwrap().build();
    let faults: Vec<_> = built.into_iter().map(|(_, fault)| fault.unwrap()).collect();
    let faults: Vec<&dyn Fault> = faults.iter().map(AsRef::as_ref).collect();
    let played = play(&faults, &exchange(1), &Upstream::message(3));
    assert_eq!(played.answer.unwrap().0, ms(2000), "a late error, not an early one");
}

#[test]
fn compressed_answers_pass_byte_for_byte() {
    for (name, yaml) in [
        ("burst", "{ collect: 2 tokens }"),
        ("corrupt", "{}"),
        ("degrade", "{ text: empty, model: x }"),
        ("drop", "{}"),
        ("duplicate", "{}"),
        ("reorder", "{}"),
        ("regroup", "{ split: 2 }"),
        ("strip", "{ parts: [done] }"),
        ("truncate", "{ at: before_terminal, ending: reset }"),
        ("error", "{ after: 1 token }"),
        ("rate_limit", "{ tokens_per_minute: 600, headers: none }"),
        ("saturation", "{ slots: 1, decode_tokens_per_second: 1 }"),
        ("slow_stream", "{ tokens_per_second: 1 }"),
        ("stall", "{ after: 1 token }"),
        ("structured", "{}"),
        ("tool_calls", "{}"),
        ("truncate", "{ after: 1 token }"),
        ("truncate", "{ ending: no_done }"),
    ] {
        let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
        for mut upstream in [Upstream::stream(5, ms(1)), Upstream::message(5)] {
            let fault = (kind.try_build)(serde_yaml::from_str(yaml).unwrap()).unwrap();
            upstream.headers.insert("content-encoding", "br".parse().unwrap());
            let played = play(&[fault.as_ref()], &exchange(1), &upstream);
            let came: Vec<_> = upstream.items.into_iter().map(|(_, item)| item).collect();
            let sent: Vec<_> = played.sent.iter().map(|(_, item)| item.clone()).collect();
            assert_eq!(sent, came, "{name}");
            assert_eq!((played.hit(), played.ended()), (false, None), "{name}");
            let reason = (name != "rate_limit").then_some("the answer is compressed");
            assert_eq!(played.impossible(), reason, "{name}");
            assert_eq!(played.head.unwrap().1.headers.len(), upstream.headers.len(), "{name}");
        }
    }
}

#[test]
fn a_later_effect_reckons_with_the_waits_before_it() {
    let stall = build::<Stall>("{ after: 1 token, pause: 10s }");
    let slow = build::<SlowStream>("{ time_to_first_token: 1s, tokens_per_second: 1 }");
    let upstream = Upstream::stream(3, ms(1));
    let played = play(&[stall.as_ref(), slow.as_ref()], &exchange(1), &upstream);
    // The pause counts against the pace: it is not added to it.
    assert_eq!((played.time_of("t0"), played.time_of("t1")), (ms(1000), ms(11_000)));
}

#[test]
fn the_same_seed_gives_the_same_fate_whatever_the_order() {
    // The kinds without shared state; the docs of the others say that order matters.
    for (name, yaml) in [
        ("burst", "{ collect: 2 tokens }"),
        ("corrupt", "{ percent: 50%, characters: 2 }"),
        ("duplicate", "{ percent: 50% }"),
        ("regroup", "{ merge: 1..3, split: 2..4 }"),
        ("reorder", "{ percent: 50%, window: 3 }"),
        ("drop", "{ percent: 50% }"),
        ("latency", "{ distribution: { lognormal: { p50: 300ms, p99: 2s } } }"),
        ("slow_stream", "{ tokens_per_second: 8, jitter: 50% }"),
        ("stall", "{ after: 2 tokens, pause: 3s }"),
        ("truncate", "{ after: 2 tokens, ending: close }"),
    ] {
        let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
        let fates = |keys: &mut dyn Iterator<Item = u64>| {
            let fault = (kind.try_build)(serde_yaml::from_str(yaml).unwrap()).unwrap();
            let mut fates: Vec<_> = keys
                .map(|key| {
                    let drawn = arm(fault.as_ref(), Duration::ZERO, &exchange(key)).unwrap().1;
                    let upstream = Upstream::stream(5, ms(1));
                    let played = play(&[fault.as_ref()], &exchange(key), &upstream);
                    (key, drawn.into_drawn(), played.sent, played.end)
                })
                .collect();
            fates.sort_by_key(|fate| fate.0);
            fates
        };
        let forwards = fates(&mut (0..200));
        assert_eq!(forwards, fates(&mut (0..200).rev()), "{name}");
    }
}
