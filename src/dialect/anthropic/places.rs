//! Where the parts of Anthropic's answers stand.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::dialect::words::Words;
use crate::dialect::{Outline, Slot, Spot};
use crate::wire::json::Paths;

/// Whole messages, and every event of a stream.
static CHAT: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        // A whole message.
        ("id", Slot::Id),
        ("model", Slot::Model),
        ("role", Slot::Role),
        ("content[*]", Slot::Call),
        ("content[*].id", Slot::CallId),
        ("content[*].name", Slot::CallName),
        ("content[*].input", Slot::Arguments),
        ("content[*].text", Slot::Text),
        ("content[*].thinking", Slot::Reasoning),
        ("stop_reason", Slot::Finish),
        // What opens a stream.
        ("message.id", Slot::Id),
        ("message.model", Slot::Model),
        ("message.role", Slot::Role),
        ("message.usage", Slot::Usage),
        ("message.usage.input_tokens", Slot::PromptTokens),
        ("message.usage.cache_creation_input_tokens", Slot::PromptTokens),
        ("message.usage.cache_read_input_tokens", Slot::PromptTokens),
        ("message.usage.output_tokens", Slot::CompletionTokens),
        // Blocks.
        ("index", Slot::Index),
        ("content_block.id", Slot::CallId),
        ("content_block.name", Slot::CallName),
        ("content_block.text", Slot::Text),
        ("content_block.thinking", Slot::Reasoning),
        ("delta.text", Slot::Text),
        ("delta.thinking", Slot::Reasoning),
        ("delta.partial_json", Slot::Arguments),
        // The end; also the usage of a whole message.
        ("delta.stop_reason", Slot::Finish),
        ("usage", Slot::Usage),
        ("usage.input_tokens", Slot::PromptTokens),
        ("usage.cache_creation_input_tokens", Slot::PromptTokens),
        ("usage.cache_read_input_tokens", Slot::PromptTokens),
        ("usage.output_tokens", Slot::CompletionTokens),
    ])
});

/// The type of a block.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Words<'a>,
}

/// Whether an event ends a block.
pub(super) fn closes(payload: &[u8]) -> bool {
    let event = serde_json::from_slice::<Block<'_>>(payload);
    event.is_ok_and(|event| event.kind.0 == "content_block_stop")
}

/// Where the parts of an answer stand.
pub(super) fn outline(payload: &[u8]) -> Outline {
    let mut outline = Outline::of(&CHAT, payload);
    let is_call = |spot: &Spot| {
        let block = serde_json::from_slice::<Block<'_>>(spot.of(payload));
        block.is_ok_and(|block| block.kind.0 == "tool_use" || block.kind.0 == "server_tool_use")
    };
    outline.spots.retain(|spot| spot.what != Slot::Call || is_call(spot));
    // The number of a block is that of a call where the block is one.
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

    #[test]
    fn blocks_are_told_apart() {
        let body = br#"{"id":"msg_1","content":[{"type":"thinking","thinking":"hm","signature":"xx"},{"type":"text","text":"hi"},{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":1}}],"stop_reason":"tool_use","usage":{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":5}}"#;
        let outline = outline(body);
        assert_eq!(outline.text(body, Slot::Text), "hi");
        assert_eq!(outline.text(body, Slot::Reasoning), "hm");
        assert_eq!(outline.each(Slot::Call).count(), 1);
        assert_eq!(outline.first(Slot::Call).unwrap().at, [2]);
        assert_eq!(outline.first(Slot::Arguments).unwrap().of(body), br#"{"a":1}"#);
    }

    #[test]
    fn a_block_is_closed_by_its_stop_alone() {
        assert!(closes(br#"{"type":"content_block_stop","index":0}"#));
        assert!(!closes(br#"{"type":"ping"}"#) && !closes(b"[1]"));
    }

    #[test]
    fn a_delta_of_a_call_has_the_calls_number() {
        let delta = br#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a"}}"#;
        let found = outline(delta);
        assert_eq!(found.text(delta, Slot::Arguments), "{\"a");
        assert_eq!(found.first(Slot::CallIndex).unwrap().of(delta), b"1");
        let text =
            br#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}"#;
        assert!(outline(text).has(Slot::Index) && !outline(text).has(Slot::CallIndex));
    }
}
