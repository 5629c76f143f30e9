//! Whole answers, and vectors.

use brownout::dialect::{Arrangement, Reason};
use brownout::fault::Ending;
use serde_json::Value;

use super::{TOKENS, VECTORS, WHOLE};

#[test]
fn a_whole_answer_is_shortened_and_nothing_else_of_it_changes() {
    let (all, half) = (TOKENS.concat(), &TOKENS.concat()[..21]);
    for case in WHOLE {
        let operation = case.exchange().facts.operation;
        for (ending, reason) in [("clean", Reason::Stop), ("finish_length", Reason::Length)] {
            let got =
                case.through("truncate", &format!("{{ after: 50% tokens, ending: {ending} }}"));
            assert_eq!((got.ending, got.hit), (Some(Ending::Clean), true), "{}", case.name);
            let heard = case.heard(&got.bytes);
            assert_eq!((heard.text.as_str(), heard.tokens), (half, 4), "{} {ending}", case.name);
            let word = case.dialect().reason(operation, reason);
            assert_eq!(heard.finish.as_deref(), word, "{} {ending}", case.name);
            // Put back what was meant to change, and it is the answer again.
            let before = case.heard(case.answer).finish.unwrap();
            let text = String::from_utf8(got.bytes).unwrap();
            let text = text.replace(&format!("\"{half}\""), &format!("\"{all}\""));
            let text = text.replace(&format!("\"{}\"", word.unwrap()), &format!("\"{before}\""));
            let restored: Value = serde_json::from_str(&text).unwrap();
            let mut whole: Value = serde_json::from_slice(case.answer).unwrap();
            let mut restored = restored;
            for counts in [
                "/usage/output_tokens",
                "/usage/tokens/output_tokens",
                "/usage/completion_tokens",
                "/usage/total_tokens",
                "/usageMetadata/candidatesTokenCount",
                "/usageMetadata/totalTokenCount",
                "/eval_count",
            ] {
                for json in [&mut whole, &mut restored] {
                    if let Some(count) = json.pointer_mut(counts) {
                        *count = Value::Null;
                    }
                }
            }
            assert_eq!(restored, whole, "{} {ending}", case.name);
        }
    }
}

#[test]
fn a_whole_answer_breaks_off_in_its_bytes() {
    for case in WHOLE {
        let got = case.through("truncate", "{ after: 40%, ending: reset }");
        let length = case.answer.len() * 4 / 10;
        assert_eq!(got.bytes, case.answer[..length], "{}", case.name);
        assert_eq!(got.ending, Some(Ending::Reset));
    }
}

#[test]
fn what_acts_on_streams_leaves_whole_answers_alone() {
    for case in WHOLE.iter().chain(VECTORS) {
        for (effect, yaml) in
            [("error", "{ as: overloaded, after: 2 tokens }"), ("drop", "{}"), ("corrupt", "{}")]
        {
            let got = case.through(effect, yaml);
            assert_eq!(got.bytes, case.answer, "{} {effect}", case.name);
            assert_eq!(got.impossible, Some("the answer is no stream"), "{} {effect}", case.name);
        }
        let paused = case.through("stall", "{ pause: 3s }");
        assert_eq!((paused.waited.as_secs(), &paused.bytes[..]), (3, case.answer));
    }
    for case in WHOLE {
        let slow = case.through("slow_stream", "{ tokens_per_second: 8 }");
        assert_eq!(
            (slow.waited.as_millis(), &slow.bytes[..]),
            (1125, case.answer),
            "{}",
            case.name
        );
    }
}

#[test]
fn a_batch_of_vectors_can_be_arranged() {
    for case in VECTORS {
        let operation = case.exchange().facts.operation;
        let order = Arrangement { order: vec![1, 0], scores: None };
        let arranged = case.dialect().arranged(operation, case.answer, &[order]).unwrap();
        let text = String::from_utf8(arranged.to_vec()).unwrap();
        let (first, second) = (text.find("0.25,0.5").unwrap(), text.find("0.5,-0.25").unwrap());
        assert!(first < second, "{}: {text}", case.name);
        assert_eq!(text.len(), case.answer.len(), "{}", case.name);
        let short = case.through("truncate", "{ after: 50% tokens }");
        assert_eq!(short.impossible, Some("the answer has no tokens"), "{}", case.name);
    }
}
