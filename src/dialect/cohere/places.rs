//! Where the parts of Cohere's answers stand.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::dialect::words::Words;
use crate::dialect::{Outline, Slot};
use crate::exchange::Operation;
use crate::wire::json::Paths;

/// Whole answers of chat, and every event of a stream.
static CHAT: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        // A whole answer, or what opens a stream.
        ("id", Slot::Id),
        ("finish_reason", Slot::Finish),
        ("message.role", Slot::Role),
        ("message.tool_plan", Slot::Reasoning),
        ("message.content[*].thinking", Slot::Reasoning),
        ("message.content[*].text", Slot::Text),
        ("message.tool_calls[*]", Slot::Call),
        ("message.tool_calls[*].id", Slot::CallId),
        ("message.tool_calls[*].function.name", Slot::CallName),
        ("message.tool_calls[*].function.arguments", Slot::Arguments),
        ("usage", Slot::Usage),
        ("usage.tokens.input_tokens", Slot::PromptTokens),
        ("usage.tokens.output_tokens", Slot::CompletionTokens),
        // Events.
        ("index", Slot::Index),
        ("delta.message.role", Slot::Role),
        ("delta.message.tool_plan", Slot::Reasoning),
        ("delta.message.content.thinking", Slot::Reasoning),
        ("delta.message.content.text", Slot::Text),
        ("delta.message.tool_calls.id", Slot::CallId),
        ("delta.message.tool_calls.function.name", Slot::CallName),
        ("delta.message.tool_calls.function.arguments", Slot::Arguments),
        ("delta.finish_reason", Slot::Finish),
        ("delta.usage", Slot::Usage),
        ("delta.usage.tokens.input_tokens", Slot::PromptTokens),
        ("delta.usage.tokens.output_tokens", Slot::CompletionTokens),
    ])
});

/// Vectors by their type; all that a request asked for lie side by side.
static EMBEDDINGS: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("id", Slot::Id),
        ("embeddings", Slot::Rows),
        ("embeddings[*]", Slot::Vector),
        ("embeddings.float", Slot::Rows),
        ("embeddings.float[*]", Slot::Vector),
        ("embeddings.base64", Slot::Rows),
        ("embeddings.base64[*]", Slot::Vector),
        ("embeddings.int8", Slot::Rows),
        ("embeddings.uint8", Slot::Rows),
        ("embeddings.binary", Slot::Rows),
        ("embeddings.ubinary", Slot::Rows),
        ("meta.billed_units.input_tokens", Slot::PromptTokens),
    ])
});

static RERANK: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("id", Slot::Id),
        ("results", Slot::Rows),
        ("results[*].index", Slot::HitId),
        ("results[*].relevance_score", Slot::Score),
    ])
});

/// Where the parts of an answer stand.
pub(super) fn outline(operation: Operation, payload: &[u8]) -> Outline {
    match operation {
        Operation::Chat => chat(payload),
        Operation::Embed => {
            let mut outline = Outline::of(&EMBEDDINGS, payload);
            // By type it is an object that holds the lists, and none itself.
            let is_list = |at: usize| payload.get(at) == Some(&b'[');
            outline.spots.retain(|spot| spot.what != Slot::Rows || is_list(spot.span.start));
            outline
        }
        Operation::Search => Outline::of(&RERANK, payload),
        _ => Outline::default(),
    }
}

/// What an event is.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Words<'a>,
}

/// Whether an event ends a block.
pub(super) fn closes(payload: &[u8]) -> bool {
    let event = serde_json::from_slice::<Kind<'_>>(payload);
    event.is_ok_and(|event| matches!(event.kind.0.as_ref(), "content-end" | "tool-call-end"))
}

fn chat(payload: &[u8]) -> Outline {
    let mut outline = Outline::of(&CHAT, payload);
    if outline.has(Slot::Arguments) || outline.has(Slot::CallName) {
        for spot in outline.spots.iter_mut().filter(|spot| spot.what == Slot::Index) {
            spot.what = Slot::CallIndex;
        }
    }
    outline
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::listing::listings;

    #[test]
    fn vectors_of_all_types_are_columns_of_one_list() {
        let body = br#"{"id":"e","embeddings":{"float":[[0.5],[0.25]],"int8":[[1],[2]]},"texts":["a","b"]}"#;
        let found = outline(Operation::Embed, body);
        assert_eq!(found.each(Slot::Rows).count(), 2);
        assert_eq!(found.each(Slot::Vector).count(), 2);
        let lists = listings(body, &found);
        assert_eq!((lists.len(), lists[0].rows), (1, 2));
        let old = br#"{"embeddings":[[0.5],[0.25],[1]]}"#;
        assert_eq!(listings(old, &outline(Operation::Embed, old))[0].rows, 3);
    }

    #[test]
    fn a_rerank_is_a_list_with_scores() {
        let body = br#"{"results":[{"index":3,"relevance_score":0.99},{"index":0,"relevance_score":0.5}]}"#;
        let lists = listings(body, &outline(Operation::Search, body));
        assert_eq!(lists[0].scores, [Some(0.99), Some(0.5)]);
    }
}
