//! The Model Context Protocol over HTTP: JSON-RPC requests, answered by JSON or by a stream of
//! server-sent events, in all three of its generations.

mod failure;

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use super::class::short;
use super::{
    Answer, Dialect, Failure, Moment, Outline, Quota, Reading, STORE_CLASSES, Slot, SoFar,
};
use super::{reading, shorten};
use crate::exchange::{Event, Facts, Operation};
use crate::wire::json::Paths;

/// The wire format of `kind: mcp`.
#[derive(Debug)]
pub(crate) struct Mcp;

static PATHS: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("id", Slot::Id),
        // What a tool, a resource or a prompt says.
        ("result.content[*].text", Slot::Text),
        ("result.contents[*].text", Slot::Text),
        ("result.messages[*].role", Slot::Role),
        ("result.messages[*].content.text", Slot::Text),
        // What there is.
        ("result.tools", Slot::Rows),
        ("result.tools[*].name", Slot::HitId),
        ("result.resources", Slot::Rows),
        ("result.resources[*].uri", Slot::HitId),
        ("result.prompts", Slot::Rows),
        ("result.prompts[*].name", Slot::HitId),
    ])
});

impl Dialect for Mcp {
    fn name(&self) -> &'static str {
        "mcp"
    }

    fn moment(&self, failure: &Failure<'_>) -> Moment {
        match failure.class {
            Some(class) if STORE_CLASSES.contains(&class) => Moment::Never,
            _ => Moment::Asking,
        }
    }

    fn facts(&self, method: &Method, _: &Uri, headers: &HeaderMap, body: &[u8]) -> Facts {
        if method != Method::POST {
            return Facts { stream: method == Method::GET, ..Facts::default() };
        }
        let call = Call::read(body);
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let asked = header("mcp-method").or(call.method.as_deref()).unwrap_or_default();
        let operation = match asked {
            "tools/call" => Operation::Tool,
            "resources/read" | "prompts/get" => Operation::Read,
            _ => Operation::Other,
        };
        let name = header("mcp-name").or(call.params.name.as_deref());
        let tools = match (operation, name) {
            (Operation::Tool, Some(name)) => vec![short(name).to_owned()],
            _ => Vec::new(),
        };
        Facts { operation, tools, ..Facts::default() }
    }

    fn read_event(&self, operation: Operation, event: &Event) -> Reading {
        let reading = reading::of_event(&event.data, &self.outline(operation, &event.data));
        ended(reading, &event.data)
    }

    fn read_message(&self, operation: Operation, body: &[u8]) -> Reading {
        ended(reading::of_message(body, &self.outline(operation, body)), body)
    }

    fn outline(&self, _: Operation, payload: &[u8]) -> Outline {
        Outline::of(&PATHS, payload)
    }

    fn failure(&self, failure: &Failure<'_>) -> Answer {
        failure::failure(failure)
    }

    fn quota_headers(&self, _: &Quota) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn shorten(
        &self,
        operation: Operation,
        body: &[u8],
        share: f64,
        reason: &str,
    ) -> Option<Bytes> {
        shorten::shorten(body, &self.outline(operation, body), share, reason)
    }

    fn inband_error(&self, message: &str) -> Option<Event> {
        let error = json!({ "code": failure::INTERNAL, "message": message });
        let body = json!({ "jsonrpc": "2.0", "id": null, "error": error });
        Some(Event::named("message", body.to_string()))
    }

    fn failing(&self, failure: &Failure<'_>, _: &SoFar) -> Vec<Event> {
        vec![Event::named("message", failure::message(failure).to_string())]
    }
}

/// What an answer says of its end: a result or an error of the request, not a note on its way.
fn ended(mut reading: Reading, payload: &[u8]) -> Reading {
    let Ok(answer) = serde_json::from_slice::<Value>(payload) else { return reading };
    let failed = answer["result"]["isError"] == true;
    reading.done = answer.get("result").or(answer.get("error")).is_some();
    reading.error = match answer["error"]["message"].as_str() {
        Some(message) => Some(message.to_owned()),
        None => failed.then(|| reading.text.clone()),
    };
    reading
}

/// A JSON-RPC request, as far as it says what is asked for.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Call {
    id: Value,
    method: Option<String>,
    params: Params,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Params {
    name: Option<String>,
}

impl Call {
    /// The request; the first one of a batch.
    fn read(body: &[u8]) -> Self {
        let call = match body.trim_ascii_start().first() {
            Some(b'[') => serde_json::from_slice::<Vec<Self>>(body)
                .ok()
                .and_then(|all| all.into_iter().next()),
            _ => serde_json::from_slice(body).ok(),
        };
        call.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{FAILURE_CLASSES, TOOL_CLASSES};

    const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"weather","arguments":{"name":"x"}}}"#;

    fn facts(headers: &[(&'static str, &'static str)], body: &[u8]) -> Facts {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Mcp.facts(&Method::POST, &Uri::from_static("/mcp"), &map, body)
    }

    #[test]
    fn calls_are_known_by_their_tool() {
        let read = facts(&[], CALL);
        assert_eq!((read.operation, read.tools), (Operation::Tool, vec!["weather".to_owned()]));
        let read = facts(&[("mcp-method", "tools/call"), ("mcp-name", "search")], b"");
        assert_eq!((read.operation, read.tools), (Operation::Tool, vec!["search".to_owned()]));
        let list = facts(&[], br#"{"jsonrpc":"2.0","id":"a","method":"tools/list"}"#);
        assert_eq!((list.operation, list.tools.len()), (Operation::Other, 0));
        assert_eq!(facts(&[], b"[{\"method\":\"resources/read\"}]").operation, Operation::Read);
        assert_eq!(facts(&[], b"nope").operation, Operation::Other);
    }

    #[test]
    fn answers_say_text_ends_and_errors() {
        let read = |data: &str| Mcp.read_event(Operation::Tool, &Event::named("message", data));
        let note = read(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#);
        assert_eq!((note.tokens, note.done, note.error), (0, false, None));
        let answer = read(
            r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"sunny"}],"isError":false}}"#,
        );
        assert_eq!((answer.text.as_str(), answer.done, answer.error), ("sunny", true, None));
        let failed =
            read(r#"{"id":7,"result":{"content":[{"type":"text","text":"no"}],"isError":true}}"#);
        assert_eq!(failed.error.as_deref(), Some("no"));
        assert_eq!(
            read(r#"{"id":7,"error":{"code":-32603,"message":"x"}}"#).error.as_deref(),
            Some("x")
        );
        let tools = br#"{"id":1,"result":{"tools":[{"name":"a"},{"name":"b"}]}}"#;
        assert_eq!(Mcp.listings(Operation::Other, tools)[0].rows, 2);
    }

    #[test]
    fn failures_answer_the_request_that_was_made() {
        let of = |class| {
            Mcp.failure(&Failure { class: Some(class), request: CALL, ..Failure::default() })
        };
        let json = |answer: &Answer| serde_json::from_slice::<Value>(&answer.body).unwrap();
        let internal = of("server_error");
        assert_eq!((internal.status.as_u16(), &json(&internal)["id"]), (200, &json!(7)));
        assert_eq!(json(&internal)["error"]["code"], -32603);
        let tool = json(&of("tool_error"));
        assert_eq!((&tool["id"], &tool["result"]["isError"]), (&json!(7), &json!(true)));
        assert_eq!(of("session_lost").status.as_u16(), 404);
        let auth = of("auth");
        assert!(auth.headers.iter().any(|(name, _)| name == "www-authenticate"));
        for class in FAILURE_CLASSES.iter().chain(TOOL_CLASSES) {
            assert!(!of(class).body.is_empty(), "{class}");
            let failure = Failure { class: Some(class), request: CALL, ..Failure::default() };
            let event = Mcp.failing(&failure, &SoFar::default()).remove(0);
            assert!(Mcp.read_event(Operation::Tool, &event).error.is_some(), "{class}");
        }
        for class in TOOL_CLASSES {
            let failure = Failure { class: Some(class), ..Failure::default() };
            let openai = crate::dialect::by_kind("openai").unwrap();
            assert_eq!(openai.moment(&failure), Moment::Never);
        }
    }
}
