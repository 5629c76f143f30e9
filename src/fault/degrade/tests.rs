//! Degraded answers as clients put them together.

use proptest::prelude::*;
use serde_json::json;

use super::super::recorded::{
    Blocks, Heard, Lines, events, message, openai, played, streamed, whole,
};
use super::super::testing::{Played, Upstream, build, exchange, invalid, ms, play_in};
use super::words::REFUSAL;
use super::*;

const PIECES: &[&str] = &["Refunds", " take", " five", " days", ".", " Ask", " us", "."];
const TEXT: &str = "Refunds take five days. Ask us.";

fn degraded(yaml: &str, upstream: &Upstream) -> Played {
    played::<Degrade>(openai(), yaml, &exchange(1), upstream)
}

/// The same change in a stream and in a whole answer.
fn both(yaml: &str) -> [Heard; 2] {
    let [one, other] = [streamed(PIECES), whole(TEXT, PIECES.len())].map(|upstream| {
        let played = degraded(yaml, &upstream);
        assert!(played.hit(), "{yaml}: {:?} {:?}", played.impossible(), played.let_go());
        Heard::of(&played)
    });
    [one, other]
}

#[test]
fn texts_change_alike_streamed_and_whole_and_counts_follow() {
    for (yaml, text, finish, completion) in [
        ("{ text: shorten, to: 3 tokens }", "Refunds take five", "stop", 3),
        ("{ text: empty }", "", "stop", 0),
        ("{ text: extend, times: 2 }", &format!("{TEXT} {TEXT}"), "stop", 16),
        (
            "{ text: extend, times: 3, to: 10 tokens }",
            "Refunds take five days. Ask us. Refunds take",
            "length",
            10,
        ),
        (
            "{ text: loop, repeat: token, after: 2 tokens, to: 6 tokens }",
            "Refunds take take take take take",
            "length",
            6,
        ),
        (
            "{ text: loop, after: 8 tokens, to: 14 tokens }",
            "Refunds take five days. Ask us. Ask us. Ask us.",
            "length",
            14,
        ),
        (
            "{ text: language, language: german, after: 2 tokens }",
            "Refunds take Die Antwort steht im Dokument.",
            "stop",
            8,
        ),
    ] {
        for heard in both(yaml) {
            assert_eq!(heard.text, text, "{yaml}");
            assert_eq!(heard.finish.as_deref(), Some(finish), "{yaml}");
            assert_eq!(heard.usage, Some((8, completion, completion + 8)), "{yaml}");
        }
    }
}

#[test]
fn a_loop_goes_on_to_what_the_request_allows() {
    // The exchange of the tests allows 100 tokens.
    for heard in both("{ text: loop, after: 1 token }") {
        assert_eq!(heard.usage, Some((8, 100, 108)));
        assert_eq!(heard.text.matches(" Refunds").count(), 99);
    }
    let played = degraded("{ text: loop }", &streamed(PIECES));
    assert_eq!(played.note("tokens_sent"), Some(100.0));
    // At the pace at which the others came.
    let times: Vec<_> = played.sent.iter().map(|(at, _)| *at).collect();
    assert_eq!(times[60] - times[59], ms(10));
}

#[test]
fn a_refusal_is_said_in_the_providers_own_way() {
    for heard in both("{ text: refusal }") {
        assert_eq!(heard.refusal, REFUSAL);
        assert_eq!((heard.text.as_str(), heard.finish.as_deref()), ("", Some("stop")));
    }
    let bare = br#"{"choices":[{"message":{"content":"yes"},"finish_reason":"length"}]}"#;
    let played = degraded("{ text: refusal }", &message(&bare[..]));
    let wanted = format!(
        r#"{{"choices":[{{"message":{{"content":null,"refusal":"{REFUSAL}"}},"finish_reason":"stop"}}]}}"#
    );
    assert_eq!(played.text(), wanted);
    // A provider that says it without words.
    let lines = [r#"{"text":"Yes"}"#, r#"{"text":"","why":"STOP"}"#];
    let upstream = events(lines.iter().map(Event::ndjson).collect());
    let got = super::super::recorded::played::<Degrade>(
        &Lines,
        "{ text: refusal }",
        &exchange(1),
        &upstream,
    );
    assert_eq!(got.text(), r#"{"text":"","why":"SAFETY"}"#);
}

#[test]
fn tokens_are_garbled_at_a_rate_and_lost() {
    let pieces = vec![" word"; 2000];
    let whole = whole(&" word".repeat(2000), 2000);
    for yaml in ["{ text: garble, rate: 10% }", "{ text: drop_tokens, rate: 10% }"] {
        let heard = [streamed(&pieces), whole.clone()].map(|up| Heard::of(&degraded(yaml, &up)));
        assert_eq!(heard[0].text, heard[1].text, "{yaml}");
        let right = heard[0].text.split(' ').filter(|word| *word == "word").count();
        assert!((1740..1860).contains(&right), "{yaml}: {right} of 2000");
        assert_eq!(heard[0].usage, Some((8, 2000, 2008)));
    }
    let lost = Heard::of(&degraded("{ text: drop_tokens, rate: 10% }", &streamed(&pieces)));
    assert!(lost.events < 1900, "an event with nothing to say is not sent");
}

#[test]
fn what_is_told_beside_the_text_changes_alone() {
    let stream = streamed(PIECES);
    for (yaml, old, new) in [
        ("{ model: gpt-3.5 }", r#""model":"gpt-4o""#, r#""model":"gpt-3.5""#),
        ("{ finish: content_filter }", r#""finish_reason":"stop""#, r#""finish_reason":"content_filter""#),
        (
            "{ usage: zero }",
            r#"{"prompt_tokens":8,"completion_tokens":8,"total_tokens":16}"#,
            r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#,
        ),
        (
            "{ usage: wrong, factor: 1.5 }",
            r#"{"prompt_tokens":8,"completion_tokens":8,"total_tokens":16}"#,
            r#"{"prompt_tokens":12,"completion_tokens":12,"total_tokens":24}"#,
        ),
    ] {
        let whole = whole(TEXT, 8);
        for upstream in [&stream, &whole] {
            let untouched = degraded("{ model: gpt-4o }", upstream);
            let wanted = untouched.text().replace(old, new);
            assert_ne!(wanted, untouched.text());
            assert_eq!(degraded(yaml, upstream).text(), wanted, "{yaml}");
        }
    }
    let played = degraded("{ usage: missing }", &stream);
    assert_eq!(Heard::of(&played).usage, None);
    assert_eq!(played.sent.len(), stream.items.len() - 1, "the event that told it is gone");
    let played = degraded("{ usage: missing }", &whole(TEXT, 8));
    assert!(played.text().ends_with(r#""finish_reason":"stop"}]}"#), "{}", played.text());
    let let_go = degraded("{ model: gpt-4o }", &stream);
    assert_eq!((let_go.hit(), let_go.let_go().is_some()), (false, true));
}

#[test]
fn what_a_block_still_has_to_say_comes_before_its_end() {
    let stream = [
        r#"{"index":0,"start":1}"#,
        r#"{"index":0,"delta":{"text":"Hi"}}"#,
        r#"{"type":"ping"}"#,
        r#"{"stop":1,"index":0}"#,
        r#"{"index":1,"block":{"id":"a","name":"f"}}"#,
        r#"{"delta":{"why":"STOP"}}"#,
    ];
    let upstream = events(stream.iter().map(Event::sse).collect());
    let got = played::<Degrade>(&Blocks, "{ text: extend, times: 3 }", &exchange(1), &upstream);
    let more = r#"{"index":0,"delta":{"text":" Hi"}}"#;
    let wanted =
        [stream[0], stream[1], stream[2], more, more, stream[3], stream[4], stream[5]].join(" ");
    assert_eq!(got.text(), wanted);
}

#[test]
fn an_end_that_brings_text_has_it_said_in_its_turn() {
    let lines = [r#"{"role":"x","text":"One"}"#, r#"{"role":"x","text":" two.","why":"STOP","count":2}"#];
    let upstream = events(lines.iter().map(Event::ndjson).collect());
    let yaml = "{ text: extend, times: 2, model: other }";
    let got = played::<Degrade>(&Lines, yaml, &exchange(1), &upstream).text();
    let said = |text: &str| format!(r#"{{"role":"x","text":"{text}"}}"#);
    let more = [said("One"), said(" two"), said("."), said(" One"), said(" two"), said(".")];
    assert!(got.starts_with(&said("One")), "{got}");
    assert!(got.ends_with(r#"{"role":"x","text":"","why":"STOP","count":4}"#), "{got}");
    let text: String = got.split("} {").filter_map(|part| part.split('"').nth(7)).collect();
    assert_eq!(text, "One two. One two.", "{more:?}");
}

#[test]
fn what_is_told_again_is_what_the_app_has_got() {
    let delta = |text: &str| format!(r#"{{"type":"response.output_text.delta","output_index":0,"delta":"{text}"}}"#);
    let again = |text: &str| {
        [
            format!(r#"{{"type":"response.output_text.done","output_index":0,"text":"{text}"}}"#),
            format!(r#"{{"type":"response.completed","response":{{"model":"m","output":[{{"content":[{{"text":"{text}"}}]}}]}}}}"#),
        ]
    };
    let stream = |deltas: &[&str], text: &str| {
        let deltas = deltas.iter().map(|text| delta(text));
        deltas.chain(again(text)).collect::<Vec<_>>()
    };
    let upstream = stream(&["One", " two"], "One two");
    let upstream = events(upstream.iter().map(Event::sse).collect());
    let got = |yaml: &str| degraded(yaml, &upstream).text();
    assert_eq!(got("{ text: shorten, to: 1 token }"), stream(&["One"], "One").join(" "));
    let longer = stream(&["One", " two", " One", " two"], "One two One two").join(" ");
    assert_eq!(got("{ text: extend, times: 2 }"), longer);
    let refused = got("{ text: refusal }");
    assert!(refused.ends_with(&again(REFUSAL).join(" ")), "{refused}");
}

#[test]
fn several_answers_are_told_apart() {
    let chunk = |index: usize, text: &str| {
        Event::sse(json!({ "choices": [{ "index": index, "delta": { "content": text } }] }).to_string())
    };
    let upstream = events(vec![chunk(0, "a"), chunk(1, "x"), chunk(0, " b"), chunk(1, " y")]);
    let got = degraded("{ text: shorten, to: 1 token }", &upstream);
    assert_eq!(got.sent.len(), 2);
    assert!(got.text().contains(r#""a""#) && got.text().contains(r#""x""#), "{}", got.text());
}

#[test]
fn a_stale_answer_is_another_requests() {
    let fault = build::<Degrade>("{ stale: anyone }");
    let other = build::<Degrade>("{ stale: other_user }");
    let run = |fault: &dyn Fault, key, user: &str, text: &[&str]| {
        let exchange = crate::exchange::Exchange { user: Some(user.to_owned()), ..exchange(key) };
        play_in(openai(), ms(0), &[fault], &exchange, &streamed(text))
    };
    let first = run(fault.as_ref(), 1, "ann", PIECES);
    assert_eq!(first.impossible(), Some("no other exchange has got an answer yet"));
    assert_eq!(Heard::of(&first).text, TEXT);
    let again = run(fault.as_ref(), 1, "ann", PIECES);
    assert_eq!(again.impossible(), first.impossible(), "its own answer is none");
    let got = Heard::of(&run(fault.as_ref(), 2, "bob", &["No", "."]));
    assert_eq!((got.text.as_str(), got.usage), (TEXT, Some((8, 8, 16))));
    run(other.as_ref(), 1, "ann", PIECES);
    assert!(run(other.as_ref(), 2, "ann", &["No"]).impossible().is_some());
    assert_eq!(Heard::of(&run(other.as_ref(), 3, "bob", &["No"])).text, TEXT);
    fault.reset();
    assert!(run(fault.as_ref(), 2, "bob", &["No"]).impossible().is_some());
}

#[test]
fn what_cannot_be_done_says_why() {
    let calls = super::super::recorded::whole_calls(&[("f", "{}")]);
    assert_eq!(degraded("{ text: empty }", &calls).impossible(), Some("the answer has no text"));
    let odd = message("nope");
    assert_eq!(
        degraded("{ model: x }", &odd).impossible(),
        Some("the answer has no parts that this dialect knows")
    );
    let mut embed = exchange(1);
    embed.facts.operation = Operation::Embed;
    let refused = super::super::testing::arm(
        build::<Degrade>("{ text: empty }").as_ref(),
        ms(0),
        &embed,
    );
    assert!(refused.is_err());
    let body = br#"{"model":"e","data":[],"usage":{"prompt_tokens":1,"total_tokens":1}}"#;
    let got = played::<Degrade>(openai(), "{ model: x }", &embed, &message(&body[..]));
    assert!(got.text().starts_with(r#"{"model":"x","data""#), "embeddings have a model too");
    // No word of this dialect.
    let fault = build::<Degrade>("{ finish: content_filter }");
    assert!(super::super::recorded::arm_in(&Lines, fault.as_ref(), ms(0), &exchange(1)).is_err());
}

#[test]
fn options_that_do_not_fit_are_refused() {
    for (yaml, field) in [
        ("{}", ""),
        ("{ model: x, to: 3 tokens }", "to"),
        ("{ text: shorten, to: 4kB }", "to"),
        ("{ text: loop, to: 20% }", "to"),
        ("{ text: empty, times: 3 }", "times"),
        ("{ text: extend, times: 1 }", "times"),
        ("{ text: shorten, after: 3 tokens }", "after"),
        ("{ text: loop, after: 10% }", "after"),
        ("{ text: garble, repeat: token }", "repeat"),
        ("{ text: loop, language: german }", "language"),
        ("{ text: loop, rate: 5% }", "rate"),
        ("{ text: garble, rate: 0% }", "rate"),
        ("{ usage: zero, factor: 2 }", "factor"),
        ("{ text: empty, stale: anyone }", "stale"),
        ("{ model: '' }", "model"),
    ] {
        assert_eq!(invalid::<Degrade>(yaml).field, field, "{yaml}");
    }
}

proptest! {
    /// Whatever the text and its pieces: valid JSON, and no other byte than those of the slots.
    #[test]
    fn other_bytes_stay(pieces in prop::collection::vec("[a-zé. \"\\\\\n答]{0,6}", 0..12), option in 0usize..8) {
        let yaml = [
            "{ text: shorten, to: 3 tokens }",
            "{ text: extend, times: 2 }",
            "{ text: loop, after: 2 tokens, to: 12 tokens }",
            "{ text: empty }",
            "{ text: refusal }",
            "{ text: garble, rate: 50% }",
            "{ text: language, after: 1 token }",
            "{ text: drop_tokens, rate: 50% }",
        ][option];
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let text = pieces.concat();
        for upstream in [streamed(&pieces), whole(&text, 9)] {
            let got = degraded(yaml, &upstream);
            let heard = Heard::of(&got);
            prop_assert_eq!(heard.model.is_empty() || heard.model == "gpt-4o", true);
            prop_assert!(got.hit() || heard.text == text);
            if text.is_empty() {
                prop_assert_eq!(got.impossible(), Some("the answer has no text"));
            }
            let came: Vec<_> = upstream.items.iter().map(|(_, item)| item.clone()).collect();
            let sent: Vec<_> = got.sent.iter().map(|(_, item)| item.clone()).collect();
            prop_assert_eq!(beside(&sent), beside(&came));
        }
    }
}

/// What is told beside choices and counts, once each.
fn beside(items: &[Item]) -> Vec<serde_json::Value> {
    let told = |item: &Item| {
        let data = if let Item::Event(event) = item { &event.data } else { item.raw() };
        let mut json: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
        for key in ["choices", "usage"] {
            if let Some(value) = json.get_mut(key) {
                value.take();
            }
        }
        json
    };
    let mut told: Vec<_> = items.iter().map(told).collect();
    told.dedup();
    told
}
