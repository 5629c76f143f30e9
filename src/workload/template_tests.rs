//! Tests of request templates.

use super::*;
use crate::workload::Prompts;
use crate::workload::prompt::read_jsonl;
use crate::workload::tests::plan;

fn compile(template: Template, app: &str) -> Result<Renderer, Vec<BadTemplate>> {
    let line = br#"{"text": "say \"hi\"\n\u0001", "lang": "de", "tags": ["a", 1]}"#;
    Renderer::new(&Plan {
        app: app.parse().unwrap(),
        request: template,
        prompts: Prompts::List(read_jsonl(line).unwrap()),
        ..plan()
    })
}

fn fill(renderer: &Renderer, history: &[Said]) -> Request<Bytes> {
    let prompt = read_jsonl(br#"{"text": "say \"hi\"\n\u0001", "lang": "de", "tags": ["a", 1]}"#);
    let prompt = &prompt.unwrap()[0];
    let filling = Filling { prompt, user: 7, session: 12, turn: 2, request: 0xabc, history };
    renderer.request(&filling).unwrap()
}

fn with_body(body: Value) -> Template {
    Template { method: Method::POST, path: None, headers: Vec::new(), body: Some(body) }
}

fn filled_body(body: Value, history: &[Said]) -> Value {
    let renderer = compile(with_body(body), "http://app/chat").unwrap();
    serde_json::from_slice(fill(&renderer, history).body()).unwrap()
}

fn said() -> [Said; 1] {
    [Said { question: "q\"1".into(), answer: "a1".into() }]
}

#[test]
fn bodies_are_filled_and_escaped() {
    let body = json!({
        "message": "${prompt.text}", "in": "ask: ${prompt.text} (${prompt.lang})",
        "user": "${user.id}", "session": "${session.id}", "turn": "${turn}", "nth": "nr ${turn}",
        "tags": "${prompt.tags}", "plain": "a\"b$${turn}", "n": [1, null, true, {}], "id": "${request.id}"
    });
    assert_eq!(
        filled_body(body, &[]),
        json!({
            "message": "say \"hi\"\n\u{1}", "in": "ask: say \"hi\"\n\u{1} (de)", "user": "user-7",
            "session": "session-12", "turn": 3, "nth": "nr 3", "tags": ["a", 1],
            "plain": "a\"b${turn}", "n": [1, null, true, {}], "id": format!("{:032x}", 0xabc)
        })
    );
}

#[test]
fn history_joins_the_messages_around_it() {
    let user = json!({ "role": "user", "content": "now" });
    let q = json!({ "role": "user", "content": "q\"1" });
    let a = json!({ "role": "assistant", "content": "a1" });
    let system = json!({ "role": "system", "content": "be kind" });
    let bodies = [
        (json!(["${history}", user]), json!([q, a, user]), json!([user])),
        (json!([system, "${history}", user]), json!([system, q, a, user]), json!([system, user])),
        (json!([system, "${history}"]), json!([system, q, a]), json!([system])),
        (json!(["${history}"]), json!([q, a]), json!([])),
        (json!({ "h": "${history}" }), json!({ "h": [q, a] }), json!({ "h": [] })),
        (json!("<${history}>"), json!("<user: q\"1\nassistant: a1\n>"), json!("<>")),
    ];
    for (template, with, without) in bodies {
        assert_eq!(filled_body(template.clone(), &said()), with);
        assert_eq!(filled_body(template, &[]), without);
    }
    let renderer = compile(with_body(json!(["${history}"])), "http://app/").unwrap();
    assert!(renderer.needs_history());
    assert!(!compile(with_body(json!("${turn}")), "http://app/").unwrap().needs_history());
}

#[test]
fn paths_and_headers_are_filled() {
    let template = Template {
        method: Method::GET,
        path: Some("/ask/${user.id}?q=${prompt.text}&l=x y".into()),
        headers: vec![
            (HeaderName::from_static("x-user"), "${user.id}".into()),
            (HeaderName::from_static("x-prompt"), "p=${prompt.text}".into()),
            (HeaderName::from_static("accept"), "text/html".into()),
        ],
        body: None,
    };
    let request = fill(&compile(template, "http://app:81/api?key=1").unwrap(), &[]);
    assert_eq!(request.uri(), "/api/ask/user-7?q=say%20%22hi%22%0A%01&l=x%20y&key=1");
    assert_eq!(request.headers()["x-user"], "user-7");
    assert_eq!(request.headers()["x-prompt"], "p=say \"hi\"  ");
    assert_eq!(request.headers()["accept"], "text/html");
    assert_eq!(request.headers()["host"], "app:81");
    assert!(!request.headers().contains_key("content-type"));
    assert!(request.body().is_empty());
}

#[test]
fn paths_stand_below_the_app() {
    for (app, path, expected) in [
        ("http://app", None, "/"),
        ("http://app/chat", None, "/chat"),
        ("http://app", Some("/chat"), "/chat"),
        ("http://app/api/", Some("/chat"), "/api/chat"),
        ("http://app/chat", Some("?fast=1"), "/chat?fast=1"),
        ("http://app/chat?k=1", Some("?fast=1"), "/chat?fast=1&k=1"),
    ] {
        let path = path.map(str::to_owned);
        let template = Template { path, ..with_body(json!({})) };
        let request = fill(&compile(template, app).unwrap(), &[]);
        assert_eq!(request.uri().to_string(), expected);
    }
}

#[test]
fn a_bare_url_has_a_request_of_its_own() {
    for (app, key) in [
        ("http://app/chat", "message"),
        ("http://app/v1/chat/completions", "messages"),
        ("http://app/v1/responses", "input"),
        ("http://app", "message"),
    ] {
        let renderer = compile(Template::for_app(&app.parse().unwrap()), app).unwrap();
        let request = fill(&renderer, &[]);
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        assert!(body.get(key).is_some(), "{app}: {body}");
        assert_eq!(request.headers()["content-type"], "application/json");
        assert_eq!(renderer.asks_for_stream(), key != "message");
    }
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let template = Template {
        method: Method::POST,
        path: Some("/${usr.id}".into()),
        headers: vec![
            (HeaderName::from_static("x-a"), "${session.idd}".into()),
            (HeaderName::from_static("x-b"), "two\nlines".into()),
        ],
        body: Some(json!({ "messages": [{ "content": "${promt.text}" }], "${turn}": 1 })),
    };
    let bad = compile(template, "http://app").unwrap_err();
    let places: Vec<&str> = bad.iter().map(|bad| bad.place.as_str()).collect();
    let expected =
        ["path", "headers.x-a", "headers.x-b", "body.messages[0].content", "body.${turn}"];
    assert_eq!(places, expected);
    assert_eq!(
        bad[3].to_string(),
        "unknown placeholder `${promt.text}`; did you mean `${prompt.text}`? \
         (in `body.messages[0].content`)"
    );
}

proptest::proptest! {
    #[test]
    fn any_prompt_gives_valid_json(text in "\\PC*|[\\x00-\\x7f]*") {
        let prompt = crate::workload::Prompt { text: text.clone(), fields: Default::default() };
        let renderer =
            compile(with_body(json!({ "a": "${prompt.text}", "b": "<${prompt.text}>" })), "http://app").unwrap();
        let filling =
            Filling { prompt: &prompt, user: 0, session: 0, turn: 0, request: 0, history: &[] };
        let body: Value = serde_json::from_slice(renderer.request(&filling).unwrap().body()).unwrap();
        proptest::prop_assert_eq!(&body["a"], &text);
        proptest::prop_assert_eq!(body["b"].as_str().unwrap(), format!("<{text}>"));
    }
}
