//! Streams through the effects that act on events.

use std::time::Duration;

use brownout::dialect::Reason;
use brownout::exchange::{Framing, Item};
use brownout::fault::Ending;

use super::{CALLS, Case, Got, STREAMS, TOKENS};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The stream up to where its third token would come.
fn two_tokens(case: &Case) -> &'static [u8] {
    let third = format!("\"{}\"", TOKENS[2]);
    let at = memchr::memmem::find(case.answer, third.as_bytes()).unwrap();
    let before = &case.answer[..at];
    let end = match case.content_type {
        "application/x-ndjson" => before.iter().rposition(|byte| *byte == b'\n').unwrap() + 1,
        _ if case.kind == "gemini" => memchr::memmem::rfind(before, b"\r\n\r\n").unwrap() + 4,
        _ => memchr::memmem::rfind(before, b"\n\n").unwrap() + 2,
    };
    &case.answer[..end]
}

#[test]
fn a_fault_that_finds_no_place_changes_no_byte() {
    for case in STREAMS.iter().chain(CALLS) {
        for (effect, yaml) in [
            ("truncate", "{ after: 500 tokens }"),
            ("error", "{ as: overloaded, after: 500 tokens }"),
            ("stall", "{ after: 500 tokens, pause: 1s }"),
            ("drop", "{ after: 500 tokens }"),
            ("corrupt", "{ after: 500 tokens }"),
            ("slow_stream", "{ tokens_per_second: 1000000 }"),
        ] {
            let got = case.through(effect, yaml);
            assert_eq!(got.bytes, case.answer, "{}: {effect}", case.name);
            assert_eq!(got.ending, None);
        }
    }
}

#[test]
fn each_ending_leaves_what_came_before_it_as_it_came() {
    for case in STREAMS {
        for (ending, how) in [
            ("clean", Ending::Clean),
            ("no_done", Ending::Clean),
            ("close", Ending::Close),
            ("reset", Ending::Reset),
            ("hang", Ending::Hang),
        ] {
            let got = case.through("truncate", &format!("{{ after: 2 tokens, ending: {ending} }}"));
            assert_eq!(text(&got.bytes), text(two_tokens(case)), "{} {ending}", case.name);
            assert_eq!((got.ending, got.hit), (Some(how), true), "{} {ending}", case.name);
            let heard = case.heard(&got.bytes);
            assert_eq!((heard.text.as_str(), heard.finish, heard.done), ("A refund", None, false));
        }
    }
}

#[test]
fn a_stream_ends_for_length_in_its_providers_way() {
    for case in STREAMS {
        let got = case.through("truncate", "{ after: 2 tokens, ending: finish_length }");
        let (before, end) = got.bytes.split_at(two_tokens(case).len());
        assert_eq!(before, two_tokens(case), "{}", case.name);
        let end = text(end);
        let wanted = match case.name {
            "anthropic.sse" => {
                "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
                 event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\
                 \"max_tokens\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":2}}\n\n\
                 event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
            }
            "gemini.sse" => {
                "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\
                 \"model\"},\"index\":0,\"finishReason\":\"MAX_TOKENS\"}],\"usageMetadata\":\
                 {\"promptTokenCount\":6,\"candidatesTokenCount\":2,\"totalTokenCount\":8},\
                 \"modelVersion\":\"gemini-2.5-flash\",\"responseId\":\"kQ8kaZ3sCbWm\"}\r\n\r\n"
            }
            "ollama_chat.ndjson" => {
                "{\"model\":\"llama3.2\",\"created_at\":\"2026-11-24T06:00:00.001000001Z\",\
                 \"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\
                 \"done_reason\":\"length\",\"total_duration\":80000000,\"load_duration\":\
                 20000000,\"prompt_eval_count\":1,\"prompt_eval_duration\":20000000,\
                 \"eval_count\":2,\"eval_duration\":40000000}\n"
            }
            "ollama_generate.ndjson" => {
                "{\"model\":\"llama3.2\",\"created_at\":\"2026-11-24T06:00:00.001000001Z\",\
                 \"response\":\"\",\"done\":true,\"done_reason\":\"length\",\"total_duration\":\
                 80000000,\"load_duration\":20000000,\"prompt_eval_count\":1,\
                 \"prompt_eval_duration\":20000000,\"eval_count\":2,\"eval_duration\":40000000}\n"
            }
            "cohere.sse" => {
                "event: content-end\ndata: {\"type\":\"content-end\",\"index\":0}\n\n\
                 event: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\
                 \"MAX_TOKENS\",\"usage\":{\"billed_units\":{\"input_tokens\":1,\"output_tokens\":\
                 2},\"tokens\":{\"input_tokens\":1,\"output_tokens\":2}}}}\n\ndata: [DONE]\n\n"
            }
            "mistral.sse" => {
                "data: {\"id\":\"cmpl-e5cc70bb28c444948073e77776eb30ef\",\"object\":\
                 \"chat.completion.chunk\",\"created\":1795507583,\"model\":\
                 \"mistral-small-latest\",\"choices\":[{\"index\":0,\"delta\":{},\
                 \"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n"
            }
            other => panic!("{other}"),
        };
        assert_eq!(end, wanted, "{}", case.name);
        let heard = case.heard(&got.bytes);
        let word = case.dialect().reason(case.exchange().facts.operation, Reason::Length);
        assert_eq!(heard.finish.as_deref(), word, "{}", case.name);
        assert_eq!(heard.done, case.kind != "gemini", "{}", case.name);
    }
}

#[test]
fn the_terminal_event_alone_can_be_missing() {
    for case in STREAMS {
        let got = case.through("truncate", "{ ending: no_done }");
        if case.kind == "gemini" {
            // The last chunk ends a stream of Gemini, and nothing behind it.
            assert_eq!(got.impossible, Some("the answer has no terminal event"));
            assert_eq!(got.bytes, case.answer);
            continue;
        }
        let whole = case.heard(case.answer).events;
        let left = case.heard(&got.bytes).events;
        assert_eq!(left[..], whole[..whole.len() - 1], "{}", case.name);
        assert_eq!(got.ending, Some(Ending::Clean));
    }
}

#[test]
fn tool_calls_are_cut_in_the_middle_of_their_arguments() {
    // After what is thought and the first piece of the arguments, where they come in pieces.
    for (case, tokens, ends) in [
        (&CALLS[0], 3, Some(r#"{"order""#)),
        (&CALLS[1], 1, None),
        (&CALLS[2], 1, None),
        (&CALLS[3], 3, Some(r#"{"order""#)),
        (&CALLS[4], 1, None),
    ] {
        let yaml = format!("{{ after: {tokens} tokens, ending: finish_length }}");
        let got = case.through("truncate", &yaml);
        let heard = case.heard(&got.bytes);
        assert!(got.hit && heard.torn.is_none(), "{}", case.name);
        match ends {
            Some(ends) => assert!(heard.text.ends_with(ends), "{}: {}", case.name, heard.text),
            None => assert!(!heard.text.contains("order\""), "{}: {}", case.name, heard.text),
        }
        let word = case.dialect().reason(case.exchange().facts.operation, Reason::Length);
        assert_eq!(heard.finish.as_deref(), word, "{}", case.name);
    }
}

#[test]
fn the_block_that_is_open_is_the_one_that_ends() {
    // What is thought has ended and the call has begun, with no argument yet.
    for (case, opened, closed) in [
        (
            &CALLS[0],
            8,
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
        ),
        (&CALLS[0], 6, "event: message_delta\n"),
        (&CALLS[3], 4, "event: tool-call-end\ndata: {\"type\":\"tool-call-end\",\"index\":0}\n\n"),
        (&CALLS[3], 3, "event: message-end\n"),
    ] {
        let yaml = format!("{{ after: {opened} events, ending: finish_length }}");
        let got = case.through("truncate", &yaml);
        let before: usize =
            case.heard(case.answer).events[..opened].iter().map(|event| event.raw.len()).sum();
        assert_eq!(got.bytes[..before], case.answer[..before], "{}", case.name);
        let end = text(&got.bytes[before..]);
        assert!(end.starts_with(closed), "{} after {opened}: {end}", case.name);
    }
}

#[test]
fn an_error_breaks_into_a_stream_in_its_providers_words() {
    for case in STREAMS {
        let got = case.through("error", "{ as: overloaded, after: 2 tokens }");
        let (before, error) = got.bytes.split_at(two_tokens(case).len());
        assert_eq!(before, two_tokens(case), "{}", case.name);
        let wanted = match case.kind {
            "anthropic" => {
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\
                 \"overloaded_error\",\"message\":\"Overloaded\"}}\n\n"
            }
            "gemini" => {
                "data: {\"error\":{\"code\":503,\"message\":\"The model is overloaded. Please \
                 try again later.\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n"
            }
            "ollama" => {
                "{\"error\":\"server busy, please try again.  maximum pending requests \
                 exceeded\"}\n"
            }
            "cohere" => {
                "event: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"error\":\"the \
                 service is overloaded, please try again later\",\"finish_reason\":\"ERROR\"}}\n\n"
            }
            "mistral" => {
                "data: {\"object\":\"error\",\"message\":\"Service tier capacity exceeded for \
                 this model.\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":null}\n\n"
            }
            other => panic!("{other}"),
        };
        assert_eq!(text(error), wanted, "{}", case.name);
        assert_eq!(got.ending, Some(Ending::Clean));
        let own = case.through("error", "{ after: 1 token, message: 'my own' }");
        assert_eq!(case.heard(&own.bytes).error.as_deref(), Some("my own"), "{}", case.name);
    }
}

#[test]
fn a_pause_changes_no_event() {
    let yaml = "{ after: 2 tokens, pause: 12s, keep_alive: comments, every: 5s }";
    for case in STREAMS {
        let got = case.through("stall", yaml);
        assert_eq!(got.waited, Duration::from_secs(12), "{}", case.name);
        let (before, rest) = case.answer.split_at(two_tokens(case).len());
        // A blank line would be an error to Ollama's clients, and lines have no comments.
        let comments: &[u8] = match case.content_type {
            "application/x-ndjson" => b"",
            _ => b": keep-alive\n\n: keep-alive\n\n",
        };
        assert_eq!(got.bytes, [before, comments, rest].concat(), "{}", case.name);
    }
}

#[test]
fn a_slow_stream_is_late_and_whole() {
    for case in STREAMS {
        let got = case.through("slow_stream", "{ time_to_first_token: +3s, tokens_per_second: 8 }");
        assert_eq!(got.bytes, case.answer, "{}", case.name);
        // The pump of this test does not wait: each token is told when it is due.
        let due = |token: u32| Duration::from_secs(3) + Duration::from_millis(125) * token;
        assert_eq!(got.waited, (0..9).map(due).sum::<Duration>(), "{}", case.name);
    }
}

#[test]
fn what_is_left_of_a_lossy_stream_are_its_ends() {
    for case in STREAMS {
        let got = case.through("drop", "{}");
        let left: Vec<_> = case.heard(&got.bytes).events;
        let whole = case.heard(case.answer).events;
        let ends = match case.name {
            "anthropic.sse" | "cohere.sse" | "mistral.sse" => 2,
            _ => 1,
        };
        assert_eq!(left[..], whole[whole.len() - ends..], "{}", case.name);
        let half = case.through("drop", "{ percent: 50%, after: 1 token }");
        assert!(half.bytes.len() < case.answer.len() && half.bytes.len() > got.bytes.len());
    }
}

#[test]
fn damage_stays_within_its_frames() {
    for case in STREAMS {
        for yaml in ["{ after: 2 tokens, how: cut, at_most: 3 }", "{ after: 2 tokens, at_most: 3 }"]
        {
            let got = case.through("corrupt", yaml);
            let (whole, damaged) = (case.heard(case.answer), case.heard(&got.bytes));
            assert!(got.hit && damaged.torn.is_none(), "{}", case.name);
            assert_eq!(damaged.events.len(), whole.events.len(), "{}", case.name);
            let changed: Vec<_> =
                damaged.events.iter().zip(&whole.events).filter(|(new, old)| new != old).collect();
            assert_eq!(changed.len(), 3, "{} {yaml}", case.name);
            for (new, old) in changed {
                assert_eq!((&new.name, new.framing), (&old.name, old.framing), "{}", case.name);
                let end: &[u8] = match (new.framing, case.kind) {
                    (Framing::Ndjson, _) => b"\n",
                    (_, "gemini") => b"\r\n\r\n",
                    _ => b"\n\n",
                };
                assert!(new.raw.ends_with(end), "{}: {:?}", case.name, new.raw);
            }
            assert_eq!(damaged.finish, whole.finish, "{}: the end is spared", case.name);
        }
    }
}

#[test]
fn bytes_are_cut_in_the_middle_of_an_event() {
    for case in STREAMS {
        let Got { bytes, ending, items, .. } =
            case.through("truncate", "{ after: 910B, ending: close }");
        assert_eq!(bytes, case.answer[..910], "{}", case.name);
        assert_eq!(ending, Some(Ending::Close));
        assert!(items.iter().all(|item| matches!(item, Item::Bytes(_))));
        assert!(case.heard(&bytes).torn.is_some(), "{}", case.name);
    }
}
