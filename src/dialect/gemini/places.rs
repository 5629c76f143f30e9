//! Where the parts of Gemini's answers stand.

use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::dialect::{Outline, Slot};
use crate::exchange::Operation;
use crate::wire::json::Paths;

/// Generated content: whole, a chunk of a stream, or the array that a stream without events is.
static CHAT: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("candidates[*]", Slot::Choice),
        ("candidates[*].index", Slot::Index),
        ("candidates[*].finishReason", Slot::Finish),
        ("candidates[*].content.role", Slot::Role),
        ("candidates[*].content.parts[*]", Slot::Call),
        ("candidates[*].content.parts[*].text", Slot::Text),
        ("candidates[*].content.parts[*].functionCall.id", Slot::CallId),
        ("candidates[*].content.parts[*].functionCall.name", Slot::CallName),
        ("candidates[*].content.parts[*].functionCall.args", Slot::Arguments),
        ("modelVersion", Slot::Model),
        ("responseId", Slot::Id),
        ("usageMetadata", Slot::Usage),
        ("usageMetadata.promptTokenCount", Slot::PromptTokens),
        ("usageMetadata.candidatesTokenCount", Slot::CompletionTokens),
        ("usageMetadata.thoughtsTokenCount", Slot::CompletionTokens),
        ("usageMetadata.totalTokenCount", Slot::TotalTokens),
    ])
});

/// Gemini's own embeddings, and predictions of Vertex AI.
static EMBEDDINGS: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("embedding.values", Slot::Vector),
        ("embeddings", Slot::Rows),
        ("embeddings[*].values", Slot::Vector),
        ("predictions", Slot::Rows),
        ("predictions[*].embeddings.values", Slot::Vector),
        ("predictions[*].embeddings.statistics.token_count", Slot::PromptTokens),
    ])
});

/// What a part is.
#[derive(Deserialize)]
struct Part {
    #[serde(default, rename = "functionCall")]
    call: Option<IgnoredAny>,
    #[serde(default)]
    thought: Option<bool>,
}

/// Where the parts of an answer stand.
pub(super) fn outline(operation: Operation, payload: &[u8]) -> Outline {
    match operation {
        Operation::Chat => chat(payload),
        Operation::Embed => Outline::of(&EMBEDDINGS, payload),
        _ => Outline::default(),
    }
}

fn chat(payload: &[u8]) -> Outline {
    let mut outline = Outline::of(&CHAT, payload);
    let mut thought = 0..0;
    outline.spots.retain_mut(|spot| match spot.what {
        // Each part was taken for a call; those that are none go, thoughts are remembered.
        Slot::Call => {
            let part = serde_json::from_slice::<Part>(spot.of(payload)).ok();
            if part.as_ref().is_some_and(|part| part.thought == Some(true)) {
                thought = spot.span.clone();
            }
            part.is_some_and(|part| part.call.is_some())
        }
        Slot::Text => {
            if thought.contains(&spot.span.start) {
                spot.what = Slot::Reasoning;
            }
            true
        }
        _ => true,
    });
    outline
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::listing::listings;

    #[test]
    fn parts_are_told_apart() {
        let chunk = br#"{"candidates":[{"content":{"role":"model","parts":[{"text":"hm","thought":true},{"text":"hi"},{"functionCall":{"name":"f","args":{"a":1}},"thoughtSignature":"x"}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":3}}"#;
        let found = outline(Operation::Chat, chunk);
        assert_eq!(found.text(chunk, Slot::Reasoning), "hm");
        assert_eq!(found.text(chunk, Slot::Text), "hi");
        assert_eq!(found.each(Slot::Call).count(), 1);
        assert_eq!(found.first(Slot::Call).unwrap().at, [0, 2]);
        assert_eq!(found.first(Slot::Arguments).unwrap().of(chunk), br#"{"a":1}"#);
    }

    #[test]
    fn batches_of_vectors_are_lists() {
        for body in [
            &br#"{"embeddings":[{"values":[0.5]},{"values":[0.25]}]}"#[..],
            br#"{"predictions":[{"embeddings":{"values":[1]}},{"embeddings":{"values":[2]}}]}"#,
        ] {
            let found = outline(Operation::Embed, body);
            assert_eq!(found.each(Slot::Vector).count(), 2);
            assert_eq!(listings(body, &found)[0].rows, 2);
        }
    }
}
