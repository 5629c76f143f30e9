//! Tests of reading answers.

use http::header::RETRY_AFTER;

use serde_json_path::JsonPath;

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn reader(answer: Answer, status: u16, kind: &str) -> Reader {
    let mut head = HeaderMap::new();
    head.insert(CONTENT_TYPE, kind.parse().unwrap());
    Reader::new(Arc::new(answer), StatusCode::from_u16(status).unwrap(), &head, true)
}

/// Reads pieces, one every 10 ms, up to the end the reader finds.
fn read(answer: Answer, kind: &str, pieces: &[&str]) -> Read {
    read_until(reader(answer, 200, kind), pieces, &End::Clean)
}

fn read_until(mut reader: Reader, pieces: &[&str], end: &End) -> Read {
    let mut at = Duration::ZERO;
    for piece in pieces {
        at += ms(10);
        if reader.push(at, Bytes::copy_from_slice(piece.as_bytes())) == Progress::Ended {
            return reader.finish(at, &End::Clean);
        }
    }
    reader.finish(at + ms(10), end)
}

const SSE: &str = "text/event-stream; charset=utf-8";

fn chunk(text: &str) -> String {
    format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
}

fn path(text: &str) -> Option<JsonPath> {
    Some(JsonPath::parse(text).unwrap())
}

#[test]
fn openai_streams_are_read() {
    let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let stop = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"completion_tokens\":2}}\n\n";
    let (a, b) = (chunk("a"), chunk("b"));
    let done = "data: [DONE]\n\n";
    let answer = read(Answer::default(), SSE, &[role, &a, &b, stop, usage, done]);
    assert_eq!(answer.outcome, Outcome::Ok);
    assert!(answer.complete && answer.text == "ab");
    assert_eq!((answer.content.first, answer.content.last), (Some(ms(20)), Some(ms(30))));
    assert_eq!((answer.content.count, answer.content.gaps), (2, vec![10_000]));
}

#[test]
fn streams_that_just_end_are_truncated() {
    let (a, b) = (chunk("a"), chunk("b"));
    let answer = read(Answer::default(), SSE, &[&a, &b]);
    assert_eq!(answer.outcome, Outcome::Truncated);
    assert_eq!((answer.complete, answer.content.count), (false, 2));
    // Cut within an event: the stump is no garbled event.
    let answer = read(Answer::default(), SSE, &[&a, "data: {\"choi"]);
    assert_eq!(answer.outcome, Outcome::Truncated);
    // Where no marker is asked for, the same is fine.
    let no_mark = Answer { end: Some(EndMark::None), ..Answer::default() };
    assert_eq!(read(no_mark, SSE, &[&a, &b]).outcome, Outcome::Ok);
}

#[test]
fn a_last_event_may_lack_its_blank_line() {
    let a = chunk("a");
    assert_eq!(read(Answer::default(), SSE, &[&a, "data: [DONE]"]).outcome, Outcome::Ok);
}

#[test]
fn errors_inside_a_stream_are_found() {
    let a = chunk("a");
    for event in [
        "data: {\"error\":{\"message\":\"overloaded\"}}\n\n",
        "event: error\ndata: overloaded\n\n",
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"x\",\"message\":\"overloaded\"}}\n\n",
        "data: {\"error\":\"overloaded\"}\n\ndata: [DONE]\n\n",
    ] {
        let answer = read(Answer::default(), SSE, &[&a, event]);
        assert_eq!(answer.outcome, Outcome::InbandError, "{event}");
        assert_eq!(answer.error.as_deref(), Some("overloaded"), "{event}");
    }
    let by_path = Answer { error: path("$.problem"), ..Answer::default() };
    let answer = read(by_path, SSE, &["data: {\"problem\":\"busy\"}\n\n"]);
    assert_eq!(answer.error.as_deref(), Some("busy"));
}

#[test]
fn framing_does_not_matter() {
    for stream in [
        "data: {\"text\":\"a\"}\r\n\r\ndata: {\"text\":\"b\"}\r\n\r\ndata: [DONE]\r\n\r\n",
        "data:{\"text\":\"a\"}\n\ndata:{\"text\":\"b\"}\n\ndata:[DONE]\n\n",
        ": hi\n\nid: 1\ndata: {\"text\":\ndata: \"a\"}\n\n: ping\n\ndata: {\"text\":\"b\"}\n\ndata: [DONE]\n\n",
    ] {
        for split in 0..stream.len() {
            let (one, two) = stream.split_at(split);
            let answer = read(Answer::default(), SSE, &[one, two]);
            assert_eq!((answer.outcome, answer.text.as_str()), (Outcome::Ok, "ab"), "{split}");
        }
    }
}

#[test]
fn plain_text_events_are_content() {
    let stream = ["data: Hel\n\n", "data: {\n\n", "data: 42\n\n", "event: done\ndata: x\n\n"];
    let answer = read(Answer::default(), SSE, &stream);
    assert_eq!(answer.outcome, Outcome::Ok);
    assert_eq!(answer.content.count, 4);
}

#[test]
fn unknown_shapes_count_when_nothing_known_comes() {
    let answer = read(Answer::default(), SSE, &["data: {\"chunk\":\"a\"}\n\n", "data: [DONE]\n\n"]);
    assert_eq!((answer.outcome, answer.content.count), (Outcome::Ok, 1));
    let sources = "data: {\"sources\":[1]}\n\n";
    let answer = read(Answer::default(), SSE, &[sources, &chunk("a"), "data: [DONE]\n\n"]);
    assert_eq!(answer.content.first, Some(ms(20)));
}

#[test]
fn garbled_and_empty_answers_are_invalid() {
    let (a, done) = (chunk("a"), "data: [DONE]\n\n");
    let answer = read(Answer::default(), SSE, &[&a, "data: {\"choices\":[{\"de\n\n", done]);
    assert_eq!(answer.outcome, Outcome::Invalid);
    assert_eq!(read(Answer::default(), SSE, &[done]).outcome, Outcome::Invalid);
    for kind in ["text/plain", ""] {
        let answer = read(Answer::default(), kind, &[]);
        assert_eq!(answer.error.as_deref(), Some("the answer holds no text"), "{kind}");
        let accepted = read_until(reader(Answer::default(), 204, kind), &[], &End::Clean);
        assert_eq!(accepted.outcome, Outcome::Ok, "{kind}");
    }
    let pathed = Answer { text: path("$.tokn"), ..Answer::default() };
    let answer = read(pathed, SSE, &["data: {\"token\":\"a\"}\n\n", done]);
    assert_eq!(answer.error.as_deref(), Some("the answer holds no text"));
}

#[test]
fn configured_paths_and_marks_are_used() {
    let answer = Answer {
        format: Format::Sse,
        text: path("$.tok"),
        end: Some(EndMark::Event("fin".into())),
        error: None,
        fallback: None,
    };
    let stream =
        ["data: {\"tok\":\"a\"}\n\n", "data: {\"meta\":1}\n\n", "event: fin\ndata: {}\n\n"];
    let done = read(answer.clone(), SSE, &stream);
    assert_eq!((done.outcome, done.text.as_str(), done.content.count), (Outcome::Ok, "a", 1));
    assert_eq!(read(answer.clone(), SSE, &stream[..2]).outcome, Outcome::Truncated);
    let by_text = Answer { end: Some(EndMark::Text("<end>".into())), ..answer.clone() };
    let stream = ["data: {\"tok\":\"a\"}\n\n", "data: <end>\n\n"];
    assert_eq!(read(by_text, SSE, &stream).outcome, Outcome::Ok);
    let by_path = Answer { end: Some(EndMark::Json(path("$.last").unwrap())), ..answer };
    let stream = ["data: {\"tok\":\"a\"}\n\n", "data: {\"tok\":\"b\",\"last\":true}\n\n"];
    let done = read(by_path.clone(), SSE, &stream);
    assert_eq!((done.outcome, done.text.as_str()), (Outcome::Ok, "ab"));
    assert_eq!(read(by_path, SSE, &stream[..1]).outcome, Outcome::Truncated);
}

#[test]
fn stand_ins_say_so_themselves() {
    let marked = Answer { fallback: path("$.fallback"), ..Answer::default() };
    let stream = ["data: {\"delta\":\"Sorry\"}\n\n", "data: {\"done\":true,\"fallback\":true}\n\n"];
    assert!(read(marked.clone(), SSE, &stream).fallback);
    assert!(!read(Answer::default(), SSE, &stream).fallback);
    let plain = ["data: {\"delta\":\"Yes\"}\n\n", "data: {\"done\":true,\"fallback\":false}\n\n"];
    assert!(!read(marked.clone(), SSE, &plain).fallback);
    let body = ["{\"answer\":\"Sorry\",\"fallback\":true}"];
    assert!(read(marked, "application/json", &body).fallback);
}

#[test]
fn ndjson_streams_are_read() {
    let lines = ["{\"response\":\"a\"}\n{\"resp", "onse\":\"b\"}\n", "{\"done\":true}"];
    let answer = read(Answer::default(), "application/x-ndjson", &lines);
    assert_eq!((answer.outcome, answer.text.as_str()), (Outcome::Ok, "ab"));
    let answer = read(Answer::default(), "application/x-ndjson", &lines[..2]);
    assert_eq!(answer.outcome, Outcome::Truncated);
}

#[test]
fn whole_json_is_read() {
    let read_json = |answer: Answer, body: &str| read(answer, "application/json", &[body]);
    let answer = read_json(Answer::default(), "{\"answer\":\"hi\"}");
    assert_eq!((answer.outcome, answer.text.as_str(), answer.complete), (Outcome::Ok, "hi", true));
    assert_eq!((answer.content.first, answer.content.count), (Some(ms(20)), 1));
    let with_path = Answer { text: path("$.reply.text"), ..Answer::default() };
    let answer = read_json(with_path.clone(), "{\"reply\":{\"text\":\"hi\"}}");
    assert_eq!((answer.outcome, answer.text.as_str()), (Outcome::Ok, "hi"));
    let answer = read_json(with_path, "{\"reply\":{}}");
    assert_eq!(answer.outcome, Outcome::Invalid);
    assert_eq!(answer.error.as_deref(), Some("the answer has no text at `$.reply.text`"));
    let answer = read_json(Answer::default(), "{\"error\":{\"message\":\"no\"}}");
    assert_eq!((answer.outcome, answer.error.as_deref()), (Outcome::InbandError, Some("no")));
    assert_eq!(read_json(Answer::default(), "{\"answer\":\"h").outcome, Outcome::Invalid);
}

#[test]
fn plain_text_ends_where_it_ends() {
    let answer = read(Answer::default(), "text/plain", &["Hel", "lo"]);
    assert_eq!((answer.outcome, answer.content.count), (Outcome::Ok, 2));
    // An event stream under a wrong name is one all the same.
    let answer = read(Answer::default(), "text/plain", &[&chunk("a")]);
    assert_eq!(answer.outcome, Outcome::Truncated);
    let marked = Answer { end: Some(EndMark::Text("END".into())), ..Answer::default() };
    assert_eq!(read(marked.clone(), "text/plain", &["a", "b E", "ND\n"]).outcome, Outcome::Ok);
    assert_eq!(read(marked, "text/plain", &["a", "b E"]).outcome, Outcome::Truncated);
}

#[test]
fn statuses_have_their_classes() {
    let classes = [
        (429, Outcome::RateLimited),
        (404, Outcome::Http4xx),
        (503, Outcome::Http5xx),
        (500, Outcome::Http5xx),
        (302, Outcome::Invalid),
    ];
    for (status, outcome) in classes {
        let body = ["{\"error\":{\"message\":\"why\"}}"];
        let reader = reader(Answer::default(), status, "application/json");
        let answer = read_until(reader, &body, &End::Clean);
        assert_eq!(answer.outcome, outcome);
        if status != 302 {
            assert_eq!(answer.error.as_deref(), Some("why"));
        }
    }
    let mut head = HeaderMap::new();
    head.insert(RETRY_AFTER, "5".parse().unwrap());
    let answer = Arc::new(Answer::default());
    let reader = Reader::new(answer, StatusCode::SERVICE_UNAVAILABLE, &head, false);
    assert_eq!(reader.finish(ms(1), &End::Clean).outcome, Outcome::RateLimited);
}

#[test]
fn a_wrong_content_type_is_told() {
    let sse = Answer { format: Format::Sse, ..Answer::default() };
    let answer = read(sse.clone(), "application/json", &["{\"answer\":\"x\"}"]);
    assert_eq!(answer.outcome, Outcome::Invalid);
    assert!(answer.error.unwrap().contains("not application/json"));
    let answer = read(sse, "application/json", &["{\"error\":\"x\"}"]);
    assert_eq!(answer.outcome, Outcome::InbandError);
}

#[test]
fn a_cut_after_an_error_stays_the_error() {
    let cut = End::Cut(Outcome::Aborted, "connection reset".into());
    let answer = read_until(reader(Answer::default(), 200, SSE), &[&chunk("a")], &cut);
    assert_eq!((answer.outcome, answer.complete), (Outcome::Aborted, false));
    let answer = read_until(reader(Answer::default(), 500, SSE), &["boom"], &cut);
    assert_eq!((answer.outcome, answer.error.as_deref()), (Outcome::Http5xx, Some("boom")));
}

proptest::proptest! {
    #[test]
    fn no_answer_panics(
        pieces in proptest::collection::vec("(data: |event: error|\\n|\\{|\\}|\"|error|:|[a-z\\[\\]]){0,20}", 0..6),
        kind in proptest::sample::select(vec![SSE, "application/x-ndjson", "application/json", "text/plain"]),
    ) {
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let _ = read(Answer::default(), kind, &pieces);
    }
}
