//! The simulated dependencies over real sockets: shapes, pace, queueing, cancellation.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use brownout::net::RealClock;
use brownout::sim::{Kind, Load, Running, Settings, Sim};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::raw::{Raw, connect, connect_with, finish, local, until};

pub(crate) async fn start(settings: Settings) -> Running {
    Sim::start(local(), settings, Arc::new(RealClock::new())).await.unwrap()
}

pub(crate) fn instant(kind: Kind) -> Settings {
    Settings { embedding_dimensions: 128, ..Settings::preset(kind, "instant").unwrap() }
}

async fn send(to: SocketAddr, method: &str, path: &str, body: &Value) -> Raw {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    finish(connect(to, method, path, &body).await).await
}

#[expect(clippy::needless_pass_by_value, reason = "so that calls read as `chat(…, json!({ … }))`")]
fn chat(question: &str, more: Value) -> Value {
    let mut body = json!({
        "model": "gpt-4o-mini",
        "messages": [{ "role": "user", "content": question }],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_whole_answer_has_the_shape_of_the_real_one() {
    let sim = start(instant(Kind::OpenAi)).await;
    let raw = send(sim.address(), "POST", CHAT, &chat("How do refunds work?", json!({}))).await;
    assert_eq!(raw.status, 200, "{}", raw.text());
    assert!(raw.header("x-request-id").unwrap().starts_with("req_"));
    assert!(raw.header("openai-processing-ms").unwrap().parse::<u64>().is_ok());
    let body = raw.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["completion_tokens"], 60);
    let text = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains("refunds"), "{text}");
}

#[tokio::test]
async fn a_stream_says_what_the_whole_answer_says_one_token_an_event() {
    let sim = start(instant(Kind::OpenAi)).await;
    let whole =
        send(sim.address(), "POST", CHAT, &chat("Tell me about SSO", json!({}))).await.json();
    let wanted = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let raw = send(sim.address(), "POST", CHAT, &chat("Tell me about SSO", wanted)).await;
    assert_eq!(raw.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let mut events = raw.events();
    assert_eq!(events.pop().unwrap(), "[DONE]");
    let events: Vec<Value> =
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let (first, rest) = events.split_first().unwrap();
    assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
    let (usage, rest) = rest.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"], whole["usage"]);
    let (last, tokens) = rest.split_last().unwrap();
    assert_eq!(last["choices"][0]["delta"], json!({}));
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(tokens.len(), 60);
    let text: String = tokens
        .iter()
        .map(|event| event["choices"][0]["delta"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    assert!(tokens.iter().all(|event| event["usage"].is_null() && event["id"] == whole["id"]));
}

#[tokio::test]
async fn the_same_request_gives_the_same_bytes_and_another_seed_others() {
    let body = chat("What is a webhook?", json!({ "stream": true }));
    let mut bodies = Vec::new();
    for seed in [1, 1, 2] {
        let sim = start(Settings { seed, ..instant(Kind::OpenAi) }).await;
        bodies.push(send(sim.address(), "POST", CHAT, &body).await.body);
    }
    assert_eq!(bodies[0], bodies[1]);
    assert_ne!(bodies[0], bodies[2]);
}

#[tokio::test]
async fn lengths_and_stop_words_are_kept() {
    let sim = start(instant(Kind::OpenAi)).await;
    let at = sim.address();
    let short = send(at, "POST", CHAT, &chat("Why?", json!({ "max_tokens": 7 }))).await.json();
    assert_eq!(short["usage"]["completion_tokens"], 7);
    assert_eq!(short["choices"][0]["finish_reason"], "length");
    let exact = json!({ "max_completion_tokens": 500, "ignore_eos": true });
    let long = send(at, "POST", CHAT, &chat("Why?", exact)).await.json();
    assert_eq!(long["usage"]["completion_tokens"], 500);
    let stopped = send(at, "POST", CHAT, &chat("Why?", json!({ "stop": ["."] }))).await.json();
    assert!(!stopped["choices"][0]["message"]["content"].as_str().unwrap().contains('.'));
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn tools_are_called_when_the_question_speaks_of_them() {
    let sim = start(instant(Kind::OpenAi)).await;
    let tools = json!([{ "type": "function", "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": { "city": { "type": "string" }, "days": { "type": "integer" } },
            "required": ["city"],
        },
    } }]);
    let wanted = json!({ "tools": tools, "stream": true });
    let raw =
        send(sim.address(), "POST", CHAT, &chat("How is the weather in Paris?", wanted)).await;
    let events = raw.events();
    let events: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| serde_json::from_str::<Value>(event).unwrap()["choices"][0].clone())
        .collect();
    let opening = &events[0]["delta"]["tool_calls"][0];
    assert_eq!(opening["function"]["name"], "get_weather");
    assert!(opening["id"].as_str().unwrap().starts_with("call_"));
    let deltas = &events[1..events.len() - 1];
    assert!(deltas.len() > 3, "arguments come in pieces");
    let arguments: String = deltas
        .iter()
        .map(|event| event["delta"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap())
        .collect();
    let arguments: Value = serde_json::from_str(&arguments).unwrap();
    assert_eq!(arguments["city"], "Paris");
    assert_eq!(events.last().unwrap()["finish_reason"], "tool_calls");

    let other =
        send(sim.address(), "POST", CHAT, &chat("Tell a joke", json!({ "tools": tools }))).await;
    assert_eq!(other.json()["choices"][0]["finish_reason"], "stop");
    let demanded = json!({ "tools": tools, "tool_choice": "required" });
    let forced = send(sim.address(), "POST", CHAT, &chat("Tell a joke", demanded)).await.json();
    assert_eq!(forced["choices"][0]["finish_reason"], "tool_calls");
    assert!(forced["choices"][0]["message"]["content"].is_null());
}

#[tokio::test]
async fn json_mode_gives_json() {
    let sim = start(instant(Kind::OpenAi)).await;
    let wanted = json!({ "response_format": { "type": "json_object" } });
    let body = send(sim.address(), "POST", CHAT, &chat("Refunds, as JSON", wanted)).await.json();
    let text = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap().is_object());
}

#[tokio::test]
async fn mistakes_are_answered_in_the_words_of_the_provider() {
    let sim = start(Settings { strict: true, ..instant(Kind::OpenAi) }).await;
    let at = sim.address();
    let no_key = send(at, "POST", CHAT, &chat("Hi", json!({}))).await;
    assert_eq!(
        (no_key.status, &no_key.json()["error"]["type"]),
        (401, &json!("invalid_request_error"))
    );
    let key = "authorization: Bearer sk-test\r\n";
    let with_key = |path: &'static str, body: String| async move {
        finish(connect_with(at, "POST", path, key, &body).await).await
    };
    let model = with_key(CHAT, chat("Hi", json!({ "model": "gpt-9" })).to_string()).await;
    assert_eq!((model.status, &model.json()["error"]["code"]), (404, &json!("model_not_found")));
    assert_eq!(with_key(CHAT, "{".to_owned()).await.status, 400);
    let path = with_key("/v1/nothing", "{}".to_owned()).await;
    assert_eq!(path.json()["error"]["message"], "Invalid URL (POST /v1/nothing)");
    let empty = with_key(
        "/v1/embeddings",
        json!({ "model": "text-embedding-3-small", "input": "" }).to_string(),
    );
    assert!(
        empty.await.json()["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("'$.input' is invalid")
    );
    assert_eq!(with_key(CHAT, chat("Hi", json!({})).to_string()).await.status, 200);
}

#[tokio::test]
async fn embeddings_come_as_numbers_or_base64_of_the_same() {
    use base64::Engine as _;
    let sim = start(instant(Kind::OpenAi)).await;
    let at = sim.address();
    let ask = |more: Value| {
        let mut body =
            json!({ "model": "text-embedding-3-small", "input": ["reset a password", "refunds"] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        async move { send(at, "POST", "/v1/embeddings", &body).await.json() }
    };
    let numbers = ask(json!({})).await;
    assert_eq!(numbers["data"].as_array().unwrap().len(), 2);
    assert_eq!(numbers["data"][1]["index"], 1);
    let floats: Vec<f32> = serde_json::from_value(numbers["data"][0]["embedding"].clone()).unwrap();
    assert_eq!(floats.len(), 128);
    let encoded = ask(json!({ "encoding_format": "base64" })).await;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(encoded["data"][0]["embedding"].as_str().unwrap())
        .unwrap();
    let decoded: Vec<f32> =
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(decoded, floats);
    let short = ask(json!({ "dimensions": 32, "input": [[1, 2, 3]] })).await;
    assert_eq!(short["data"][0]["embedding"].as_array().unwrap().len(), 32);
    assert_eq!(short["usage"]["prompt_tokens"], 3);
}

#[tokio::test]
async fn tokens_keep_their_pace_and_no_more() {
    let settings = Settings {
        time_to_first_token: Duration::from_millis(200),
        tokens_per_second: 50.0,
        ..instant(Kind::OpenAi)
    };
    let sim = start(settings).await;
    let body = chat("Why?", json!({ "stream": true, "max_tokens": 26 })).to_string();
    let began = Instant::now();
    let mut stream = connect(sim.address(), "POST", CHAT, &body).await;
    let mut first = [0; 1];
    stream.read_exact(&mut first).await.unwrap();
    let head = began.elapsed();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    let whole = began.elapsed();
    assert!(head >= Duration::from_millis(200), "the first token came early: {head:?}");
    assert!(whole >= Duration::from_millis(700), "the last token came early: {whole:?}");
    assert!(whole < Duration::from_millis(2700), "the pace drifts: {whole:?}");
}

#[tokio::test]
async fn a_full_machine_lets_wait_and_then_turns_away() {
    let settings = Settings {
        slots: 2,
        queue_limit: 1,
        time_to_first_token: Duration::from_millis(300),
        ..instant(Kind::OpenAi)
    };
    let sim = start(settings).await;
    let body = chat("Why?", json!({})).to_string();
    let began = Instant::now();
    let mut running = Vec::new();
    for _ in 0..2 {
        running.push(connect(sim.address(), "POST", CHAT, &body).await);
    }
    until("two at work", || sim.load().busy == 2).await;
    let waiting = connect(sim.address(), "POST", CHAT, &body).await;
    until("one waits", || sim.load().waiting == 1).await;
    let refused = finish(connect(sim.address(), "POST", CHAT, &body).await).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error"]["code"], "slow_down");
    assert_eq!(refused.header("retry-after"), Some("1"));
    for stream in running {
        assert_eq!(finish(stream).await.status, 200);
    }
    assert_eq!(finish(waiting).await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(600), "the third had to wait for a slot");
    assert_eq!(sim.load(), Load { busy: 0, waiting: 0, admitted: 3, refused: 1 });
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_place_at_once() {
    let settings = Settings {
        slots: 1,
        time_to_first_token: Duration::ZERO,
        tokens_per_second: 0.1,
        ..instant(Kind::OpenAi)
    };
    let sim = start(settings).await;
    let streamed = chat("Why?", json!({ "stream": true })).to_string();
    let mut talking = connect(sim.address(), "POST", CHAT, &streamed).await;
    talking.read_exact(&mut [0; 1]).await.unwrap();
    let waiting = connect(sim.address(), "POST", CHAT, &chat("Why?", json!({})).to_string()).await;
    until("one waits", || sim.load().waiting == 1).await;
    drop(waiting);
    until("the waiting one is forgotten", || sim.load().waiting == 0).await;
    assert_eq!(sim.load().busy, 1);
    drop(talking);
    until("the slot is free", || sim.load().busy == 0).await;
}

#[tokio::test]
async fn a_rate_limit_tells_what_is_left() {
    let sim = start(Settings { requests_per_minute: Some(2), ..instant(Kind::OpenAi) }).await;
    let ask = || send(sim.address(), "POST", CHAT, &Value::Null);
    let left = [ask().await, ask().await]
        .map(|raw| raw.header("x-ratelimit-remaining-requests").unwrap().to_owned());
    assert_eq!(left, ["1", "0"]);
    let refused = ask().await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((20..=30).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-ratelimit-limit-requests"), Some("2"));
}

#[tokio::test]
async fn a_store_finds_what_was_put_in() {
    let sim = start(Settings { documents: 0, ..instant(Kind::Qdrant) }).await;
    let at = sim.address();
    let call = |method: &'static str, path: &'static str, body: Value| async move {
        send(at, method, path, &body).await
    };
    let missing = call("GET", "/collections/c", Value::Null).await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.json()["status"]["error"], "Not found: Collection `c` doesn't exist!");

    let make = json!({ "vectors": { "size": 2, "distance": "Cosine" } });
    assert_eq!(call("PUT", "/collections/c", make.clone()).await.json()["result"], true);
    assert_eq!(call("PUT", "/collections/c", make).await.status, 409);
    let points = json!({ "points": [
        { "id": 1, "vector": [1.0, 0.0], "payload": { "kind": "x" } },
        { "id": 2, "vector": [3.0, 3.0], "payload": { "kind": "y" } },
        { "id": "123e4567-e89b-42d3-a456-426614174000", "vector": [0.0, 1.0], "payload": { "kind": "x" } },
    ] });
    let put = call("PUT", "/collections/c/points?wait=true", points).await.json();
    assert_eq!((&put["result"]["status"], &put["status"]), (&json!("completed"), &json!("ok")));

    let query = json!({ "query": { "nearest": [1.0, 0.1] }, "limit": 2, "with_payload": true });
    let found = call("POST", "/collections/c/points/query", query).await.json();
    let ids: Vec<&Value> =
        found["result"]["points"].as_array().unwrap().iter().map(|point| &point["id"]).collect();
    assert_eq!(ids, [&json!(1), &json!(2)]);
    assert_eq!(found["result"]["points"][0]["payload"]["kind"], "x");
    let filtered = json!({
        "vector": [1.0, 0.1], "limit": 9, "score_threshold": 0.0, "with_vector": true,
        "filter": { "must_not": [{ "key": "kind", "match": { "value": "x" } }] },
    });
    let old = call("POST", "/collections/c/points/search", filtered).await.json();
    assert_eq!(old["result"].as_array().unwrap().len(), 1);
    let kept: Vec<f32> = serde_json::from_value(old["result"][0]["vector"].clone()).unwrap();
    assert!((kept[0] - 0.5f32.sqrt()).abs() < 1e-6, "cosine keeps vectors of length 1: {kept:?}");

    let wrong =
        call("POST", "/collections/c/points/query", json!({ "query": [1.0, 2.0, 3.0] })).await;
    assert_eq!(wrong.status, 400);
    let error = wrong.json()["status"]["error"].to_string();
    assert!(error.contains("expected dim: 2, got 3"), "{error}");

    let page = call("POST", "/collections/c/points/scroll", json!({ "limit": 2 })).await.json();
    assert_eq!(page["result"]["points"].as_array().unwrap().len(), 2);
    assert_eq!(page["result"]["next_page_offset"], "123e4567-e89b-42d3-a456-426614174000");
    let gone = json!({ "filter": { "must": [{ "key": "kind", "match": { "any": ["x"] } }] } });
    call("POST", "/collections/c/points/delete", gone).await;
    let count = call("POST", "/collections/c/points/count", json!({ "exact": true })).await.json();
    assert_eq!(count["result"]["count"], 1);
    assert_eq!(call("DELETE", "/collections/c", Value::Null).await.json()["result"], true);
}

#[tokio::test]
async fn a_store_is_born_with_documents_that_answer_questions() {
    let store = start(Settings { documents: 180, ..instant(Kind::Qdrant) }).await;
    let model = start(instant(Kind::OpenAi)).await;
    let mut right = 0;
    let asked = [
        ("How do I reset my password?", "password"),
        ("How long does a refund take to arrive?", "refund"),
        ("Where can I download an invoice?", "invoice"),
        ("How do I set up a webhook?", "webhook"),
        ("Can I export my data?", "export"),
        ("How do I cancel my subscription?", "subscription"),
        ("How can I invite a team member?", "team member"),
        ("What does the warranty cover?", "warranty"),
    ];
    for (question, topic) in asked {
        let embed = json!({ "model": "text-embedding-3-small", "input": question });
        let embedded = send(model.address(), "POST", "/v1/embeddings", &embed).await.json();
        let query = json!({
            "query": embedded["data"][0]["embedding"], "limit": 3, "with_payload": ["topic"],
        });
        let path = "/collections/documents/points/query";
        let found = send(store.address(), "POST", path, &query).await.json();
        let points = found["result"]["points"].as_array().unwrap();
        right += usize::from(points.iter().all(|point| point["payload"]["topic"] == topic));
    }
    assert!(right >= asked.len() - 1, "{right} of {} searches found the topic alone", asked.len());
}

#[tokio::test]
async fn a_busy_store_says_so_and_dropping_a_server_ends_it() {
    let settings = Settings {
        slots: 1,
        queue_limit: 0,
        latency: Duration::from_secs(30),
        documents: 1,
        ..instant(Kind::Qdrant)
    };
    let sim = start(settings).await;
    let at = sim.address();
    let path = "/collections/documents/points/count";
    let mut working = connect(at, "POST", path, "{}").await;
    until("one at work", || sim.load().busy == 1).await;
    let refused = finish(connect(at, "POST", path, "{}").await).await;
    assert_eq!(refused.status, 503);
    let health = finish(connect(at, "GET", "/readyz", "").await).await;
    assert_eq!((health.status, health.text().as_str()), (200, "all shards are ready"));
    drop(sim);
    let mut end = Vec::new();
    let _ = working.read_to_end(&mut end).await;
    assert!(end.is_empty(), "no answer after the end");
    until("the port is free", || std::net::TcpListener::bind(at).is_ok()).await;
}
