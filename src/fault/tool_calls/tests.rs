//! Broken calls as clients put them together.

use proptest::prelude::*;
use serde_json::json;

use super::super::recorded::{
    Blocks, Heard, Lines, asked, events, message, openai, played, streamed, streamed_calls, whole,
    whole_calls,
};
use super::super::recorded::arm_in;
use super::super::testing::{Played, Upstream, build, exchange, invalid, ms};
use super::*;
use crate::exchange::{Event, Exchange};

const ARGUMENTS: &str = r#"{"city":"Oslo","days":3}"#;
const PIECES: &[&str] = &["{\"ci", "ty\":\"Oslo", "\",\"da", "ys\":", "3}"];

fn request() -> Exchange {
    let tool = |name: &str| {
        json!({ "type": "function", "function": { "name": name, "parameters": {
            "type": "object",
            "properties": { "city": { "type": "string" }, "days": { "type": "integer" } },
            "required": ["city"],
        } } })
    };
    asked(&json!({ "model": "gpt-4o", "messages": [], "tools": [tool("weather"), tool("flights")] }))
}

fn broken(yaml: &str, upstream: &Upstream) -> Played {
    played::<ToolCalls>(openai(), yaml, &request(), upstream)
}

fn call(name: &str, arguments: &str) -> (String, String) {
    (name.to_owned(), arguments.to_owned())
}

#[test]
fn arguments_break_alike_streamed_and_whole() {
    for (yaml, wanted) in [
        ("{}", r#"{"city":"Os"#),
        ("{ break: cut_arguments, key: days }", r#"{"city":"Oslo","days":3"#),
        ("{ break: invalid_json }", r#"{"city":"Oslo","days":3,}"#),
        ("{ break: missing_key }", r#"{"days":3}"#),
        ("{ break: renamed_key, key: days }", r#"{"city":"Oslo","days_value":3}"#),
        ("{ break: wrong_type, key: days }", r#"{"city":"Oslo","days":"3"}"#),
        ("{ break: null_value, key: city }", r#"{"city":null,"days":3}"#),
        ("{ break: extra_key, key: mood }", r#"{"mood":"none","city":"Oslo","days":3}"#),
        ("{ finish: length }", ARGUMENTS),
    ] {
        let stream = streamed_calls(&[("weather", PIECES)]);
        for upstream in [stream, whole_calls(&[("weather", ARGUMENTS)])] {
            let got = broken(yaml, &upstream);
            let heard = Heard::of(&got);
            assert_eq!(heard.calls, [call("weather", wanted)], "{yaml}");
            assert!(got.hit());
            let finish = if yaml.contains("finish") { "length" } else { "tool_calls" };
            assert_eq!(heard.finish.as_deref(), Some(finish), "{yaml}");
        }
    }
    let both = "{ break: cut_arguments, finish: length }";
    let got = broken(both, &whole_calls(&[("weather", ARGUMENTS)]));
    assert_eq!(Heard::of(&got).finish.as_deref(), Some("length"));
}

#[test]
fn calls_are_renamed_doubled_and_lost() {
    let calls = [call("weather", ARGUMENTS), call("flights", "{}")];
    let [one, two] = &calls;
    let unknown = [call("weather_v2", ARGUMENTS), call("flights_v2", "{}")];
    for (yaml, wanted) in [
        ("{ break: unknown_tool }", unknown.to_vec()),
        ("{ break: unknown_tool, call: 2, name: rm }", vec![one.clone(), call("rm", "{}")]),
        ("{ break: duplicate, call: 2 }", vec![one.clone(), two.clone(), two.clone()]),
        ("{ break: missing, call: 2 }", vec![one.clone()]),
        ("{ break: missing }", vec![]),
    ] {
        let stream = streamed_calls(&[("weather", PIECES), ("flights", &["{", "}"])]);
        for upstream in [stream, whole_calls(&[("weather", ARGUMENTS), ("flights", "{}")])] {
            let got = broken(yaml, &upstream);
            let heard = Heard::of(&got);
            assert_eq!(heard.calls, wanted, "{yaml}");
            assert_eq!((heard.finish.as_deref(), got.hit()), (Some("tool_calls"), true), "{yaml}");
        }
    }
    let doubled = broken("{ break: duplicate }", &whole_calls(&[("weather", "{}")])).text();
    assert!(doubled.contains(r#""id":"call_0""#) && doubled.contains(r#""id":"call_0_2""#));
    let stream = streamed_calls(&[("weather", PIECES), ("flights", &["{", "}"])]);
    let got = broken("{ break: duplicate }", &stream);
    assert_eq!(Heard::of(&got).calls.len(), 4);
    assert!(got.text().contains(r#""index":3,"id":"call_1_2""#), "{}", got.text());
}

#[test]
fn numbers_of_calls_mix_them_up() {
    let stream = streamed_calls(&[("weather", PIECES), ("flights", &["{", "}"])]);
    let got = broken("{ break: same_index }", &stream);
    let heard = Heard::of(&got);
    assert_eq!(heard.calls, [call("weatherflights", &format!("{ARGUMENTS}{{}}"))]);
    let got = broken("{ break: no_index }", &stream).text();
    assert!(!got.contains(r#"[{"index":1"#) && got.contains(r#"[{"id":"call_1""#), "{got}");
    let one = broken("{ break: same_index }", &streamed_calls(&[("weather", PIECES)]));
    assert_eq!(one.let_go(), Some("there is one call alone"));
    let whole = broken("{ break: no_index }", &whole_calls(&[("weather", ARGUMENTS)]));
    assert_eq!(whole.impossible(), Some("the calls have no numbers"));
}

#[test]
fn a_call_that_nobody_asked_for() {
    let made = r#"{"city":"example","days":1}"#;
    for upstream in [streamed(&["No", " need", "."]), whole("No need.", 3)] {
        let got = broken("{ break: spurious, name: flights }", &upstream);
        let heard = Heard::of(&got);
        assert_eq!(heard.calls, [call("flights", made)]);
        assert_eq!(heard.text, "No need.");
        assert_eq!((heard.finish.as_deref(), got.hit()), (Some("tool_calls"), true));
    }
    let stream = streamed_calls(&[("weather", PIECES)]);
    assert_eq!(Heard::of(&broken("{ break: spurious, name: flights }", &stream)).calls.len(), 2);
    let fault = build::<ToolCalls>("{ break: spurious }");
    let refused = arm_in(openai(), fault.as_ref(), ms(0), &exchange(1));
    assert_eq!(refused.err().unwrap().0, "the request does not offer the tool");
    let upstream = events(vec![Event::ndjson(r#"{"text":"x","why":"STOP"}"#)]);
    let fault = "{ break: spurious, finish: stop }";
    let got = played::<ToolCalls>(&Lines, fault, &request(), &upstream);
    assert_eq!(got.impossible(), Some("this provider's calls cannot be made up"));
}

#[test]
fn whole_calls_in_a_stream_and_in_blocks() {
    let line = |args: &str| format!(r#"{{"role":"x","calls":[{{"name":"weather","args":{args}}}]}}"#);
    let two = || {
        let lines = [line(ARGUMENTS), line(r#"{"city":"Rome"}"#), r#"{"why":"STOP"}"#.to_owned()];
        events(lines.iter().map(Event::ndjson).collect())
    };
    let got = |yaml: &str| played::<ToolCalls>(&Lines, yaml, &request(), &two());
    assert_eq!(
        got("{ break: missing_key, call: 2 }").text(),
        format!(r#"{} {} {{"why":"STOP"}}"#, line(ARGUMENTS), line("{}"))
    );
    let doubled = got("{ break: duplicate, call: 1 }").text();
    assert_eq!(doubled.matches("Oslo").count(), 2);
    let cut = got("{}");
    assert_eq!(cut.impossible(), Some("the arguments are an object of the answer's own JSON"));
    assert!(!cut.hit());

    let blocks = [
        r#"{"index":0,"delta":{"text":"Hm"}}"#,
        r#"{"stop":1,"index":0}"#,
        r#"{"index":1,"block":{"id":"a","name":"weather"}}"#,
        r#"{"index":1,"delta":{"json":"{\"city\":"}}"#,
        r#"{"index":1,"delta":{"json":"\"Oslo\"}"}}"#,
        r#"{"stop":1,"index":1}"#,
        r#"{"delta":{"why":"STOP"}}"#,
    ];
    let upstream = events(blocks.iter().map(Event::sse).collect());
    let got = |yaml: &str| played::<ToolCalls>(&Blocks, yaml, &request(), &upstream).text();
    let cut = blocks.join(" ").replace(r#""\"Oslo\"}""#, r#""\"Os""#);
    assert_eq!(got("{}"), cut);
    assert_eq!(got("{ break: missing }"), [blocks[0], blocks[1], blocks[6]].join(" "));
    let again = blocks[2..6].join(" ").replace(r#""index":1"#, r#""index":2"#);
    let again = again.replace(r#""id":"a""#, r#""id":"a_2""#);
    let doubled = format!("{} {again} {}", blocks[..6].join(" "), blocks[6]);
    assert_eq!(got("{ break: duplicate }"), doubled);
}

#[test]
fn what_cannot_be_broken_says_why() {
    let why = |yaml: &str, upstream| broken(yaml, &upstream).impossible();
    assert_eq!(why("{}", whole("Hello", 1)), Some("the answer calls no tool"));
    let one = || whole_calls(&[("weather", ARGUMENTS)]);
    assert_eq!(why("{ call: 2 }", one()), Some("the answer has not so many calls"));
    assert_eq!(why("{ key: none }", one()), Some("the JSON has no such key"));
    assert_eq!(why("{ break: invalid_enum }", one()), Some("the tool's schema has no such key"));
    assert_eq!(why("{}", message("{}")), Some("the answer calls no tool"));
    let fault = build::<ToolCalls>("{ break: malformed }");
    assert!(arm_in(openai(), fault.as_ref(), ms(0), &exchange(1)).is_err());
    for (yaml, field) in [
        ("{ break: missing, name: x }", "name"),
        ("{ break: unknown_tool, name: '' }", "name"),
        ("{ call: 0 }", "call"),
        ("{ break: spurious, call: 1 }", "call"),
        ("{ break: malformed, finish: stop }", "finish"),
        ("{ break: missing, key: a }", "key"),
    ] {
        assert_eq!(invalid::<ToolCalls>(yaml).field, field, "{yaml}");
    }
}

proptest! {
    #[test]
    fn the_parts_of_a_stream_make_no_difference(
        cuts in prop::collection::vec(0usize..ARGUMENTS.len(), 0..8), way in 0usize..6,
    ) {
        let mut places = cuts;
        places.extend([0, ARGUMENTS.len()]);
        places.sort_unstable();
        let pieces: Vec<&str> = places.windows(2).map(|pair| &ARGUMENTS[pair[0]..pair[1]]).collect();
        let yaml = ["{}", "{ break: missing_key }", "{ break: wrong_type, key: days }", "{ break: unknown_tool }", "{ break: duplicate }", "{ break: extra_key }"][way];
        let calls = |upstream| Heard::of(&broken(yaml, &upstream)).calls;
        prop_assert_eq!(calls(streamed_calls(&[("weather", &pieces)])), calls(whole_calls(&[("weather", ARGUMENTS)])));
    }
}
