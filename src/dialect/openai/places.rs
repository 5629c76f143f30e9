//! Where the parts of OpenAI's answers stand.

use std::sync::LazyLock;

use super::responses;
use crate::dialect::{Outline, Slot};
use crate::exchange::Operation;
use crate::wire::json::Paths;

/// Chat completions, streamed and whole, and the older completions.
static CHAT: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("id", Slot::Id),
        ("model", Slot::Model),
        ("choices[*]", Slot::Choice),
        ("choices[*].index", Slot::Index),
        ("choices[*].finish_reason", Slot::Finish),
        ("choices[*].text", Slot::Text),
        ("choices[*].delta.role", Slot::Role),
        ("choices[*].delta.content", Slot::Text),
        ("choices[*].delta.refusal", Slot::Refusal),
        ("choices[*].delta.reasoning", Slot::Reasoning),
        ("choices[*].delta.reasoning_content", Slot::Reasoning),
        ("choices[*].delta.tool_calls[*]", Slot::Call),
        ("choices[*].delta.tool_calls[*].index", Slot::CallIndex),
        ("choices[*].delta.tool_calls[*].id", Slot::CallId),
        ("choices[*].delta.tool_calls[*].function.name", Slot::CallName),
        ("choices[*].delta.tool_calls[*].function.arguments", Slot::Arguments),
        ("choices[*].message.role", Slot::Role),
        ("choices[*].message.content", Slot::Text),
        ("choices[*].message.refusal", Slot::Refusal),
        ("choices[*].message.reasoning", Slot::Reasoning),
        ("choices[*].message.reasoning_content", Slot::Reasoning),
        ("choices[*].message.tool_calls[*]", Slot::Call),
        ("choices[*].message.tool_calls[*].id", Slot::CallId),
        ("choices[*].message.tool_calls[*].function.name", Slot::CallName),
        ("choices[*].message.tool_calls[*].function.arguments", Slot::Arguments),
        ("usage", Slot::Usage),
        ("usage.prompt_tokens", Slot::PromptTokens),
        ("usage.completion_tokens", Slot::CompletionTokens),
        ("usage.total_tokens", Slot::TotalTokens),
    ])
});

static EMBEDDINGS: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("model", Slot::Model),
        ("data", Slot::Rows),
        ("data[*].index", Slot::Index),
        ("data[*].embedding", Slot::Vector),
        ("usage", Slot::Usage),
        ("usage.prompt_tokens", Slot::PromptTokens),
        ("usage.total_tokens", Slot::TotalTokens),
    ])
});

/// Where the parts of an answer stand.
pub(super) fn outline(operation: Operation, payload: &[u8]) -> Outline {
    match operation {
        Operation::Chat => {
            let chat = Outline::of(&CHAT, payload);
            let other = if chat.has(Slot::Choice) { None } else { responses::outline(payload) };
            other.unwrap_or(chat)
        }
        Operation::Embed => Outline::of(&EMBEDDINGS, payload),
        _ => Outline::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::listing::listings;

    #[test]
    fn a_chunk_has_its_parts() {
        let chunk = br#"{"id":"c1","choices":[{"index":0,"delta":{"role":"assistant","tool_calls":[{"index":1,"function":{"arguments":"{\"a"}}]},"finish_reason":null}]}"#;
        let outline = outline(Operation::Chat, chunk);
        assert_eq!(outline.text(chunk, Slot::Arguments), "{\"a");
        assert_eq!(outline.first(Slot::Arguments).unwrap().at, [0, 0]);
        assert_eq!(outline.first(Slot::Finish).unwrap().of(chunk), b"null");
        assert!(!outline.has(Slot::Text));
    }

    #[test]
    fn a_batch_of_vectors_is_a_list() {
        let body = br#"{"object":"list","data":[{"index":0,"embedding":[0.5]},{"index":1,"embedding":"AAAA"}]}"#;
        let outline = outline(Operation::Embed, body);
        assert_eq!(outline.each(Slot::Vector).count(), 2);
        assert_eq!(listings(body, &outline)[0].rows, 2);
    }
}
