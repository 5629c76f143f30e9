//! Where answers are cut, and how they end.

use http::{HeaderValue, header};

use super::super::testing::{
    Played, Upstream, arm, build, exchange, invalid, ms, play, play_one, socket,
};
use crate::dialect::by_kind;
use super::*;

fn cut(yaml: &str, upstream: &Upstream) -> Played {
    play(&[build::<Truncate>(yaml).as_ref()], &exchange(1), upstream)
}

#[test]
fn each_ending_ends_a_stream_after_its_tokens() {
    for (ending, text, how) in [
        ("clean", "role t0 t1", Ending::Clean),
        ("no_done", "role t0 t1", Ending::Clean),
        ("finish_length", "role t0 t1 finish:length [DONE]", Ending::Clean),
        ("close", "role t0 t1", Ending::Close),
        ("reset", "role t0 t1", Ending::Reset),
        ("hang", "role t0 t1", Ending::Hang),
    ] {
        let yaml = format!("{{ after: 2 tokens, ending: {ending} }}");
        let played = cut(&yaml, &Upstream::stream(5, ms(1)));
        assert_eq!(played.text(), text, "{ending}");
        assert_eq!(played.ended(), Some(how), "{ending}");
        assert_eq!(played.note("reached_tokens"), Some(2.0));
        assert!(played.hit());
    }
}

#[test]
fn places_are_found_in_streams() {
    let stream = Upstream::stream(5, ms(1));
    assert_eq!(cut("{ after: 3 events }", &stream).text(), "role t0 t1");
    assert_eq!(cut("{ after: 0 tokens }", &stream).text(), "role");
    let bytes = cut("{ after: 17B, ending: close }", &stream);
    assert_eq!(bytes.grain, Grain::Bytes);
    let raw: usize = bytes.sent.iter().map(|(_, item)| item.raw().len()).sum();
    assert_eq!(raw, 17, "bytes are cut in mid-event");
}

#[test]
fn no_done_alone_withholds_the_terminal_event() {
    let played = cut("{ ending: no_done }", &Upstream::stream(2, ms(1)));
    assert_eq!(played.text(), "role t0 t1 finish:stop");
    assert_eq!(played.ended(), Some(Ending::Clean));
    let played = cut("{ ending: no_done }", &Upstream::message(2));
    assert_eq!(played.impossible(), Some("the answer has no terminal event"));
    assert_eq!(played.text(), "word word");
}

#[test]
fn an_answer_that_ends_earlier_is_impossible_and_untouched() {
    for yaml in ["{ after: 5 tokens }", "{ after: 9kB }", "{ after: 8 events }"] {
        let played = cut(yaml, &Upstream::stream(5, ms(1)));
        assert_eq!(played.impossible(), Some("the answer ended before the cut"), "{yaml}");
        assert_eq!((played.hit(), played.sent.len()), (false, 8), "{yaml}");
    }
}

#[test]
fn whole_answers_stay_well_formed_or_are_cut_in_their_bytes() {
    let message = Upstream::message(10);
    let clean = cut("{ after: 30% tokens }", &message);
    assert_eq!(clean.text(), "word word word (stop)");
    assert!(clean.head.as_ref().unwrap().1.headers.get("content-length").is_none());
    let length = cut("{ after: 4 tokens, ending: finish_length }", &message);
    assert_eq!(length.text(), "word word word word (length)");
    assert_eq!(length.note("reached_share"), Some(0.4));
    let bytes = cut("{ after: 50% }", &message);
    assert_eq!(bytes.text().len(), 24, "half of 49 bytes");
    let close = cut("{ after: 50% tokens, ending: close }", &message);
    assert_eq!((close.text().len(), close.ended()), (24, Some(Ending::Close)));
    assert!(close.head.unwrap().1.headers.contains_key("content-length"), "it promised more");
    let events = cut("{ after: 3 events }", &message);
    assert_eq!(events.impossible(), Some("the answer is no stream"));
    assert_eq!(events.text().len(), 49);
}

#[test]
fn a_share_of_a_live_stream_comes_from_the_lengths_seen() {
    let fault = build::<Truncate>("{ after: 50% tokens, ending: close }");
    let (mut first, mut later) = (exchange(1), exchange(2));
    first.facts.max_tokens = Some(40);
    later.facts.max_tokens = Some(40);
    let short = play(&[fault.as_ref()], &first, &Upstream::stream(10, ms(1)));
    assert_eq!(short.impossible(), Some("the answer ended before the cut"), "20 of 40");
    let cut = play(&[fault.as_ref()], &later, &Upstream::stream(100, ms(1)));
    assert_eq!(cut.note("assumed_tokens"), Some(10.0), "the one length seen");
    assert_eq!((cut.note("reached_tokens"), cut.note("reached_share")), (Some(5.0), Some(0.5)));
}

#[test]
fn what_cannot_be_read_is_left_alone() {
    let mut upstream = Upstream::stream(5, ms(1));
    upstream.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let played = cut("{ after: 1 tokens }", &upstream);
    assert_eq!(played.impossible(), Some("the answer is compressed"));
    assert_eq!(played.sent.len(), 8);
    let mut upstream = Upstream::message(5);
    upstream.status = http::StatusCode::BAD_REQUEST;
    let played = cut("{ after: 10% }", &upstream);
    assert_eq!(played.impossible(), Some("the upstream answered with an error"));
}

#[test]
fn a_socket_is_closed_in_its_own_words() {
    let yaml = "{ after: 2 tokens, ending: close_frame, code: 4001, reason: bye }";
    let fault = build::<Truncate>(yaml);
    let mut upstream = Upstream::stream(5, ms(1));
    upstream.status = http::StatusCode::SWITCHING_PROTOCOLS;
    let played = play(&[fault.as_ref()], &socket(1), &upstream);
    assert_eq!(played.ended(), Some(Ending::CloseFrame(4001)));
    let Some((_, Item::Event(close))) = played.sent.last() else { panic!("nothing sent") };
    assert_eq!((close.name.as_deref(), &close.data[..]), (Some("close"), &b"\x0f\xa1bye"[..]));
    assert!(arm(fault.as_ref(), ms(0), &exchange(1)).is_err(), "over plain HTTP");
}

#[test]
fn options_that_do_not_fit_are_refused() {
    assert_eq!(invalid::<Truncate>("{ after: 1 token, ending: close, code: 1011 }").field, "code");
    let never = "{ after: 1 token, ending: close_frame, code: 1006 }";
    assert_eq!(invalid::<Truncate>(never).field, "code");
    assert_eq!(invalid::<Truncate>("{ after: 1kB, ending: close_frame }").field, "ending");
    assert_eq!(invalid::<Truncate>("{ ending: close }").field, "after");
    assert_eq!(invalid::<Truncate>("{ after: 1kB, ending: finish_length }").field, "ending");
}

/// A chat that says something and calls a tool, as OpenAI streams it.
const CALL: &[&str] = &[
    r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"content":"Gr\u00fc\u00df Gott: Grüß"},"finish_reason":null}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":null}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]},"finish_reason":null}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Graz\"}"}}]},"finish_reason":null}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
    "[DONE]",
];

fn cut_call(yaml: &str) -> (Vec<u8>, Played) {
    let fault = build::<Truncate>(yaml);
    let upstream = Upstream::sse(CALL, ms(1));
    let played = play_one(by_kind("openai").unwrap(), fault.as_ref(), &upstream);
    (played.sent.iter().flat_map(|(_, item)| item.raw().to_vec()).collect(), played)
}

fn wire(events: usize) -> Vec<u8> {
    CALL[..events].iter().flat_map(|data| Event::sse(data).raw.to_vec()).collect()
}

#[test]
fn six_positions_with_six_endings() {
    let half = [wire(3), Event::sse(CALL[3]).raw[..Event::sse(CALL[3]).raw.len() / 2].to_vec()];
    for (at, left) in [
        ("before_body", Vec::new()),
        ("after_first_token", wire(2)),
        ("mid_arguments", wire(4)),
        ("mid_event", half.concat()),
        ("before_terminal", wire(6)),
        ("after_terminal", wire(7)),
    ] {
        for (ending, how) in [
            ("clean", Some(Ending::Clean)),
            ("close", Some(Ending::Close)),
            ("reset", Some(Ending::Reset)),
            ("hang", Some(Ending::Hang)),
            ("hang_with_comments", None),
            ("done_but_open", Some(Ending::Hang)),
        ] {
            let yaml = format!("{{ at: {at}, ending: {ending} }}");
            let refused = matches!(
                (at, ending),
                ("after_terminal", "clean") | ("mid_event", "hang_with_comments" | "done_but_open")
            );
            if refused {
                assert_eq!(invalid::<Truncate>(&yaml).field, "ending", "{yaml}");
                continue;
            }
            let (sent, played) = cut_call(&yaml);
            let mut wanted = left.clone();
            match ending {
                "hang_with_comments" => wanted.extend(b": keep-alive\n\n".repeat(3)),
                "done_but_open" if at != "after_terminal" => wanted.extend(b"data: [DONE]\n\n"),
                _ => {}
            }
            let [sent, wanted] = [sent, wanted].map(|raw| String::from_utf8(raw).unwrap());
            assert_eq!(sent, wanted, "{yaml}");
            assert_eq!((played.ended(), played.endless), (how, how.is_none()), "{yaml}");
            assert!(played.hit() && played.impossible().is_none(), "{yaml}");
        }
    }
}

#[test]
fn arguments_are_cut_with_a_finish_that_is_not_true() {
    let (sent, played) = cut_call("{ at: mid_arguments, finish: tool_calls }");
    let finish = r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#;
    let end = [Event::sse(finish).raw, Event::sse("[DONE]").raw].concat();
    assert_eq!(sent, [wire(4), end].concat());
    assert_eq!(played.ended(), Some(Ending::Clean));
}

#[test]
fn arguments_in_one_piece_are_halved_in_a_valid_event() {
    let whole = r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{\"a\":12}"}}]},"finish_reason":null}]}"#;
    let fault = build::<Truncate>("{ at: mid_arguments }");
    let upstream = Upstream::sse(&[whole, "[DONE]"], ms(1));
    let played = play_one(by_kind("openai").unwrap(), fault.as_ref(), &upstream);
    assert_eq!(played.text(), whole.replace(r#"{\"a\":12}"#, r#"{\"a\""#));
    let body = whole.replace("delta", "message").replace("null", "\"tool_calls\"");
    let mut upstream = Upstream::message(1);
    upstream.items = vec![(ms(0), Item::Message(body.clone().into()))];
    let played = play_one(by_kind("openai").unwrap(), fault.as_ref(), &upstream);
    assert_eq!(played.text(), body.replace(r#"{\"a\":12}"#, r#"{\"a\""#));
    let fault = build::<Truncate>("{ at: mid_arguments, ending: close }");
    let played = play_one(by_kind("openai").unwrap(), fault.as_ref(), &upstream);
    assert!(body.starts_with(&played.text()) && played.text().ends_with(r#"{\"a\"#));
}

#[test]
fn a_character_is_cut_in_two() {
    let (sent, played) = cut_call("{ at: mid_character, ending: close }");
    assert!(wire(7).starts_with(&sent) && std::str::from_utf8(&sent).is_err());
    assert!(std::str::from_utf8(&sent[..sent.len() - 1]).unwrap().ends_with("Gott: Gr"));
    assert!(played.hit());
    let plain = Upstream::stream(3, ms(1));
    let none = cut("{ at: mid_character }", &plain);
    assert_eq!(none.impossible(), Some("the answer has no character of several bytes"));
    assert_eq!(none.sent.len(), 6);
}

#[test]
fn a_position_is_looked_for_behind_a_place() {
    let stream = Upstream::stream(5, ms(1));
    let played = cut("{ at: after_first_token, after: 3 tokens, ending: reset }", &stream);
    assert_eq!((played.text().as_str(), played.note("reached_tokens")), ("role t0 t1 t2 t3", Some(4.0)));
    let played = cut("{ at: mid_event, after: 3 tokens, ending: reset }", &stream);
    assert_eq!(played.text(), "role t0 t1 t2 data:");
}

#[test]
fn what_has_no_such_position_is_left_alone() {
    let played = cut("{ at: mid_arguments }", &Upstream::stream(3, ms(1)));
    assert_eq!((played.impossible(), played.sent.len()), (Some("the answer calls no tool"), 6));
    let mut json = Upstream::message(3);
    let hang = cut("{ after: 1 token, ending: hang_with_comments }", &json);
    assert_eq!(hang.impossible(), Some("only SSE streams and WebSockets have keep-alives"));
    json.headers.remove("content-length");
    let open = cut("{ ending: done_but_open }", &json);
    assert_eq!((open.text().as_str(), open.ended()), ("word word word", Some(Ending::Hang)));
}

#[test]
fn positions_that_do_not_fit_are_refused() {
    for (yaml, field) in [
        ("{ at: before_body, after: 3 tokens }", "after"),
        ("{ at: mid_event, after: 4kB }", "after"),
        ("{ at: mid_event, finish: stop }", "ending"),
        ("{ after: 3 tokens, ending: close, finish: stop }", "finish"),
        ("{ at: before_terminal, finish: stop }", "finish"),
        ("{ at: mid_arguments, every: 5s }", "every"),
        ("{ at: before_terminal, ending: hang_with_pings, comment: x }", "comment"),
    ] {
        assert_eq!(invalid::<Truncate>(yaml).field, field, "{yaml}");
    }
}

proptest::proptest! {
    #[test]
    fn what_is_left_is_a_part_of_what_came(
        texts in proptest::collection::vec("[a-zé世\"\\\\]{0,12}", 1..8),
        at in proptest::sample::select(vec![
            "before_body", "after_first_token", "mid_event", "mid_character", "before_terminal",
        ]),
    ) {
        let data: Vec<String> = texts
            .iter()
            .map(|text| serde_json::json!({"choices":[{"delta":{"content":text}}]}).to_string())
            .chain(["[DONE]".to_owned()])
            .collect();
        let data: Vec<&str> = data.iter().map(String::as_str).collect();
        let fault = build::<Truncate>(&format!("{{ at: {at}, ending: reset }}"));
        let upstream = Upstream::sse(&data, ms(1));
        let played = play_one(by_kind("openai").unwrap(), fault.as_ref(), &upstream);
        let sent: Vec<u8> = played.sent.iter().flat_map(|(_, item)| item.raw().to_vec()).collect();
        let came: Vec<u8> = upstream.items.iter().flat_map(|(_, item)| item.raw().to_vec()).collect();
        proptest::prop_assert!(came.starts_with(&sent));
        proptest::prop_assert_eq!(sent.len() < came.len(), played.hit());
    }
}

#[test]
fn a_provider_ends_and_waits_in_its_own_words() {
    let start = r#"{"type":"message_start","message":{"id":"m","role":"assistant","content":[],"usage":{"input_tokens":9,"output_tokens":1}}}"#;
    let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let token = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#;
    let more = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" you"}}"#;
    let named = |data: &str| {
        let kind = serde_json::from_str::<serde_json::Value>(data).unwrap();
        Event::named(kind["type"].as_str().unwrap(), data)
    };
    let events = [start, block, token, more].map(|data| (ms(1), Item::Event(named(data))));
    let upstream = Upstream::events(events.to_vec());
    let anthropic = by_kind("anthropic").unwrap();
    let sent = |yaml: &str| {
        let played = play_one(anthropic, build::<Truncate>(yaml).as_ref(), &upstream);
        let raw = played.sent.iter().flat_map(|(_, item)| item.raw().to_vec()).collect();
        String::from_utf8(raw).unwrap()
    };
    let before: String =
        [start, block, token].map(|data| String::from_utf8(named(data).raw.to_vec()).unwrap()).concat();
    let pings = sent("{ after: 1 token, ending: hang_with_pings }");
    let ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    assert_eq!(pings, format!("{before}{}", ping.repeat(3)));
    let open = sent("{ after: 1 token, ending: done_but_open }");
    assert_eq!(open.strip_prefix(&before), Some("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    let finished = sent("{ after: 1 token, finish: tool_calls }");
    assert!(finished.starts_with(&before) && finished.contains("\"stop_reason\":\"tool_use\""), "{finished}");
}
