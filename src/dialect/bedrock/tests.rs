use super::*;
use crate::dialect::FAILURE_CLASSES;

fn event(kind: &str, data: &str) -> Event {
    let headers =
        [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    Event::eventstream(&headers, data)
}

fn chunk(inner: &str) -> Event {
    event("chunk", &json!({ "bytes": STANDARD.encode(inner), "p": "abcd" }).to_string())
}

fn read(event: &Event) -> Reading {
    Bedrock.read_event(Operation::Chat, event)
}

fn finish(like: &Event) -> Vec<Event> {
    Bedrock.finish_events(Operation::Chat, like, &Finish { reason: "length", tokens: 2 })
}

fn facts(path: &str, body: &str) -> Facts {
    let uri = Uri::try_from(path).unwrap();
    Bedrock.facts(&Method::POST, &uri, &HeaderMap::new(), body.as_bytes())
}

#[test]
fn requests_are_known_by_path_and_body() {
    let body = r#"{"messages":[{"role":"user","content":[{"text":"12345678"}]},{"role":"user","content":[{"toolResult":{"content":[]}}]}],"inferenceConfig":{"maxTokens":9},"toolConfig":{"tools":[{"toolSpec":{"name":"weather"}}]}}"#;
    let read = facts("/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse-stream", body);
    assert_eq!((read.operation, read.stream, read.max_tokens), (Operation::Chat, true, Some(9)));
    assert_eq!(read.model.as_deref(), Some("anthropic.claude-3-haiku-20240307-v1:0"));
    assert_eq!((read.tools, read.turn, read.prompt_tokens), (vec!["weather".to_owned()], 1, 3));
    let claude =
        r#"{"max_tokens":5,"messages":[{"role":"user","content":"hello"}],"tools":[{"name":"t"}]}"#;
    let read = facts("/model/arn:aws:bedrock:us-east-1:1:inference-profile/us.x/invoke", claude);
    assert_eq!((read.stream, read.max_tokens, read.turn), (false, Some(5), 1));
    assert_eq!((read.tools.len(), read.model.unwrap().ends_with("/us.x")), (1, true));
    let embed = facts("/model/amazon.titan-embed-text-v2%3A0/invoke", r#"{"inputText":"abcd"}"#);
    assert_eq!((embed.operation, embed.prompt_tokens), (Operation::Embed, 1));
    assert_eq!(facts("/model/x/count-tokens", "{}").operation, Operation::Other);
    assert_eq!(facts("/v1/converse", "{}").operation, Operation::Other);
    assert_eq!(facts("/model/x/converse", "{\"messages\":[").operation, Operation::Chat);
}

#[test]
fn a_converse_stream_is_read() {
    let text =
        event("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"hé"},"p":"ab"}"#);
    assert_eq!((read(&text).text.as_str(), read(&text).tokens), ("hé", 1));
    let tool = event("contentBlockDelta", r#"{"delta":{"toolUse":{"input":"{\"a"}}}"#);
    assert_eq!((read(&tool).text.as_str(), read(&tool).tokens), ("{\"a", 1));
    let stop = read(&event("messageStop", r#"{"stopReason":"end_turn"}"#));
    assert_eq!((stop.finish.as_deref(), stop.done), (Some("end_turn"), false));
    let last =
        read(&event("metadata", r#"{"usage":{"inputTokens":3,"outputTokens":4},"metrics":{}}"#));
    assert_eq!((last.usage, last.done, last.tokens), (Some((3, 4)), true, 0));
    let end = finish(&text);
    let finish = &end[0];
    assert_eq!(read(&end[1]).usage, Some((0, 2)));
    assert_eq!(&finish.data[..], br#"{"stopReason":"max_tokens"}"#);
    assert_eq!(finish.name.as_deref(), Some("messageStop"));
}

#[test]
fn the_models_own_json_is_read_and_changed() {
    let claude = chunk(
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}"#,
    );
    assert_eq!((read(&claude).text.as_str(), read(&claude).done), ("hi", false));
    assert!(read(&chunk(r#"{"type":"message_stop"}"#)).done);
    assert!(read(&finish(&claude)[1]).done);
    assert_eq!(read(&finish(&claude)[0]).finish.as_deref(), Some("max_tokens"));
    let other = Bedrock.with_payload(&claude, br#"{"type":"x"}"#);
    assert_eq!(&Bedrock.payload(&other)[..], br#"{"type":"x"}"#);
    assert!(other.data.ends_with(br#","p":"abcd"}"#) && other.name.as_deref() == Some("chunk"));

    let titan = chunk(
        r#"{"outputText":"hi","index":0,"totalOutputTextTokenCount":null,"completionReason":null,"inputTextTokenCount":3}"#,
    );
    assert_eq!((read(&titan).text.as_str(), read(&titan).done), ("hi", false));
    let finish = read(&finish(&titan)[0]);
    assert_eq!(
        (finish.finish.as_deref(), finish.text.as_str(), finish.done),
        (Some("LENGTH"), "", true)
    );
    let nova = chunk(r#"{"contentBlockDelta":{"delta":{"text":"hi"},"contentBlockIndex":0}}"#);
    assert_eq!(read(&nova).text, "hi");
    let llama = chunk(
        r#"{"generation":"hi","prompt_token_count":1,"generation_token_count":2,"stop_reason":null}"#,
    );
    assert_eq!((read(&llama).text.as_str(), read(&llama).usage), ("hi", Some((1, 2))));
}

#[test]
fn whole_answers_are_read_and_cut() {
    let body = br#"{"output":{"message":{"role":"assistant","content":[{"text":"12345678"},{"toolUse":{"toolUseId":"t","name":"f","input":{"a":1}}}]}},"stopReason":"end_turn","usage":{"inputTokens":1,"outputTokens":10,"totalTokens":11}}"#;
    let reading = Bedrock.read_message(Operation::Chat, body);
    assert_eq!((reading.text.as_str(), reading.tokens), ("12345678{\"a\":1}", 10));
    let short = Bedrock.shorten(Operation::Chat, body, 0.5, "length").unwrap();
    let text = std::str::from_utf8(&short).unwrap();
    assert_eq!(
        text,
        r#"{"output":{"message":{"role":"assistant","content":[{"text":"1234567"}]}},"stopReason":"max_tokens","usage":{"inputTokens":1,"outputTokens":5,"totalTokens":6}}"#
    );
    let titan = br#"{"inputTextTokenCount":5,"results":[{"tokenCount":4,"outputText":"abcd","completionReason":"FINISH"}]}"#;
    let short = Bedrock.shorten(Operation::Chat, titan, 0.5, "length").unwrap();
    assert!(
        std::str::from_utf8(&short)
            .unwrap()
            .contains(r#""tokenCount":2,"outputText":"ab","completionReason":"LENGTH""#)
    );
    assert_eq!(Bedrock.shorten(Operation::Chat, b"{}", 0.5, "length"), None);
    let vectors = br#"{"embeddings":{"float":[[1,2],[3,4]]},"id":"x"}"#;
    assert_eq!(Bedrock.listings(Operation::Embed, vectors)[0].rows, 2);
    assert_eq!(Bedrock.listings(Operation::Embed, br#"{"embeddings":[[1],[2],[3]]}"#)[0].rows, 3);
}

#[test]
fn failures_name_their_type() {
    for class in FAILURE_CLASSES {
        let failure = Failure { class: Some(class), id: 7, ..Failure::default() };
        let answer = Bedrock.failure(&failure);
        assert!(!answer.body.is_empty() && answer.status.as_u16() >= 400, "{class}");
        let kind = answer.headers.iter().find(|(name, _)| name == "x-amzn-ErrorType");
        assert_eq!(kind.is_some(), *class != "html", "{class}");
        let event = Bedrock.inband_failure(&failure).unwrap();
        assert!(read(&event).error.is_some(), "{class}");
    }
    let throttled = Failure { class: Some("rate_limit"), ..Failure::default() };
    let event = Bedrock.inband_failure(&throttled).unwrap();
    assert_eq!(event.name.as_deref(), Some("throttlingException"));
    assert_eq!(
        read(&event).error.as_deref(),
        Some("Too many requests, please wait before trying again.")
    );
    let of_model =
        Failure { status: Some(http::StatusCode::FAILED_DEPENDENCY), ..Failure::default() };
    let answer = Bedrock.failure(&of_model);
    assert!(answer.headers.iter().any(|(_, value)| value.starts_with("ModelErrorException")));
    let broken = Event::eventstream(
        &[(":message-type", "error"), (":error-code", "500"), (":error-message", "no")],
        "",
    );
    assert_eq!(read(&broken).error.as_deref(), Some("no"));
}
