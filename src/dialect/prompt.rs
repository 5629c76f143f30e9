//! What a person wrote, out of a request's body, whichever API it is for.

use serde_json::Value;

/// Keys under which APIs have text for a model or a search.
const KEYS: &[&str] = &[
    "content",
    "contents",
    "input",
    "inputText",
    "inputs",
    "instructions",
    "message",
    "messages",
    "parts",
    "prompt",
    "query",
    "system",
    "text",
    "texts",
];

/// What comes with a prompt and is none.
const OTHERS: &[&str] = &["functions", "metadata", "response_format", "tools"];

/// The most text that is gathered, in bytes.
const MOST: usize = 256 * 1024;

/// The text of the prompt, pieces on lines of their own, in the order of the body.
pub fn text(body: &Value) -> String {
    let mut text = String::new();
    gather(body, false, &mut text);
    text
}

fn gather(value: &Value, within: bool, text: &mut String) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| gather(item, within, text)),
        Value::Object(map) => {
            for (key, value) in map.iter().filter(|(key, _)| !OTHERS.contains(&key.as_str())) {
                gather(value, KEYS.contains(&key.as_str()), text);
            }
        }
        Value::String(piece) if within && text.len() + piece.len() < MOST => {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(piece);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prompts_are_found_in_every_shape() {
        let chat = json!({
            "model": "m",
            "messages": [
                { "role": "system", "content": "be kind" },
                { "role": "user", "content": [{ "type": "text", "text": "hello" }] },
            ],
            "tools": [{ "function": { "description": "no prompt", "parameters": { "text": "no" } } }],
            "metadata": { "text": "no" },
        });
        assert_eq!(text(&chat), "be kind\nhello");
        let gemini = json!({ "contents": [{ "role": "user", "parts": [{ "text": "hello" }] }] });
        assert_eq!(text(&gemini), "hello");
        assert_eq!(text(&json!({ "input": ["a", "b"], "model": "m" })), "a\nb");
        assert_eq!(text(&json!({ "prompt": "p", "system": "s", "stop": "x" })), "p\ns");
        assert_eq!(text(&json!([1, "x"])), "");
    }

    #[test]
    fn a_hostile_body_gathers_no_more_than_is_allowed() {
        let piece = "x".repeat(100_000);
        let body = json!({ "messages": [piece, piece, piece, piece] });
        assert!(text(&body).len() <= MOST);
    }
}
