//! Where the parts of Bedrock's answers stand: of Converse, and of the models that InvokeModel calls.

use std::sync::LazyLock;

use crate::dialect::{Outline, Slot, Spot};
use crate::exchange::{Event, Operation};
use crate::wire::json::{Paths, Spot as At};

/// What a model writes. No two formats use the same path for different things.
static CHAT: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        // Converse, whole; Nova's own answers are the same.
        ("output.message.role", Slot::Role),
        ("output.message.content[*].text", Slot::Text),
        ("output.message.content[*].reasoningContent.reasoningText.text", Slot::Reasoning),
        ("output.message.content[*].toolUse", Slot::Call),
        ("output.message.content[*].toolUse.toolUseId", Slot::CallId),
        ("output.message.content[*].toolUse.name", Slot::CallName),
        ("output.message.content[*].toolUse.input", Slot::Arguments),
        ("stopReason", Slot::Finish),
        ("usage", Slot::Usage),
        ("usage.inputTokens", Slot::PromptTokens),
        ("usage.outputTokens", Slot::CompletionTokens),
        ("usage.totalTokens", Slot::TotalTokens),
        // ConverseStream.
        ("role", Slot::Role),
        ("contentBlockIndex", Slot::Index),
        ("start.toolUse.toolUseId", Slot::CallId),
        ("start.toolUse.name", Slot::CallName),
        ("delta.text", Slot::Text),
        ("delta.reasoningContent.text", Slot::Reasoning),
        ("delta.toolUse.input", Slot::Arguments),
        // Nova's own stream.
        ("messageStart.role", Slot::Role),
        ("contentBlockStart.start.toolUse.toolUseId", Slot::CallId),
        ("contentBlockStart.start.toolUse.name", Slot::CallName),
        ("contentBlockDelta.contentBlockIndex", Slot::Index),
        ("contentBlockDelta.delta.text", Slot::Text),
        ("contentBlockDelta.delta.toolUse.input", Slot::Arguments),
        ("messageStop.stopReason", Slot::Finish),
        ("metadata.usage", Slot::Usage),
        ("metadata.usage.inputTokens", Slot::PromptTokens),
        ("metadata.usage.outputTokens", Slot::CompletionTokens),
        // Claude.
        ("id", Slot::Id),
        ("model", Slot::Model),
        ("index", Slot::Index),
        ("content[*].text", Slot::Text),
        ("content[*].thinking", Slot::Reasoning),
        ("content[*].id", Slot::CallId),
        ("content[*].name", Slot::CallName),
        ("content[*].input", Slot::Arguments),
        ("stop_reason", Slot::Finish),
        ("usage.input_tokens", Slot::PromptTokens),
        ("usage.output_tokens", Slot::CompletionTokens),
        ("message.id", Slot::Id),
        ("message.model", Slot::Model),
        ("message.role", Slot::Role),
        ("message.usage.input_tokens", Slot::PromptTokens),
        ("content_block.id", Slot::CallId),
        ("content_block.name", Slot::CallName),
        ("delta.thinking", Slot::Reasoning),
        ("delta.partial_json", Slot::Arguments),
        ("delta.stop_reason", Slot::Finish),
        // Titan.
        ("inputTextTokenCount", Slot::PromptTokens),
        ("outputText", Slot::Text),
        ("totalOutputTextTokenCount", Slot::CompletionTokens),
        ("completionReason", Slot::Finish),
        ("results[*].outputText", Slot::Text),
        ("results[*].tokenCount", Slot::CompletionTokens),
        ("results[*].completionReason", Slot::Finish),
        // Llama.
        ("generation", Slot::Text),
        ("prompt_token_count", Slot::PromptTokens),
        ("generation_token_count", Slot::CompletionTokens),
        // Mistral, and its chat form.
        ("outputs[*].text", Slot::Text),
        ("outputs[*].stop_reason", Slot::Finish),
        ("choices[*].message.content", Slot::Text),
        ("choices[*].stop_reason", Slot::Finish),
        // Cohere.
        ("generations[*].text", Slot::Text),
        ("generations[*].finish_reason", Slot::Finish),
        ("text", Slot::Text),
        ("finish_reason", Slot::Finish),
    ])
});

static EMBEDDINGS: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        // Titan: one text, one vector.
        ("embedding", Slot::Vector),
        ("embeddingsByType.float", Slot::Vector),
        ("inputTextTokenCount", Slot::PromptTokens),
        // Cohere: as many as texts, alone or by type.
        ("id", Slot::Id),
        ("embeddings", Slot::Rows),
        ("embeddings[*]", Slot::Vector),
        ("embeddings.float", Slot::Rows),
        ("embeddings.float[*]", Slot::Vector),
    ])
});

static WRAPPED: LazyLock<Paths<()>> = LazyLock::new(|| Paths::new(&[("bytes", ())]));

/// Where the parts of an answer stand.
pub(super) fn outline(operation: Operation, payload: &[u8]) -> Outline {
    let mut outline = match operation {
        Operation::Chat => Outline::of(&CHAT, payload),
        Operation::Embed => Outline::of(&EMBEDDINGS, payload),
        _ => Outline::default(),
    };
    // `embeddings` by type is no list of rows itself.
    let is_row = |spot: &Spot| spot.what != Slot::Rows || spot.of(payload).starts_with(b"[");
    outline.spots.retain(is_row);
    outline
}

/// Where the JSON of a model stands in an event of InvokeModel.
pub(super) fn wrapped(data: &[u8]) -> Option<At<()>> {
    WRAPPED.find(data)?.into_iter().next().filter(|spot| spot.of(data).starts_with(b"\""))
}

/// Whose format a payload is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    Claude,
    Converse,
    Nova,
    /// One object a piece: Titan, Llama, Mistral, Cohere.
    Other,
}

impl Shape {
    /// That of an event; `payload` is what it wraps.
    pub(super) fn of(event: &Event, payload: &[u8]) -> Self {
        if wrapped(&event.data).is_none() {
            return Self::Converse;
        }
        match first_key(payload) {
            "type" => Self::Claude,
            "contentBlockDelta" | "contentBlockStart" | "contentBlockStop" | "messageStart"
            | "messageStop" | "metadata" => Self::Nova,
            _ => Self::Other,
        }
    }

    /// That of a whole answer.
    pub(super) fn of_answer(body: &[u8]) -> Self {
        let outline = outline(Operation::Chat, body);
        let finish = outline.first(Slot::Finish).map(|spot| &body[spot.start..spot.span.start]);
        let key = finish.map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default();
        match key.split('"').nth(1) {
            Some("stop_reason") if outline.each(Slot::Finish).all(|spot| spot.at.is_empty()) => {
                Self::Claude
            }
            Some("stopReason") | None => Self::Converse,
            _ => Self::Other,
        }
    }

    /// Its word for why an answer ended: `length` and `stop` in its own, any other as it is.
    pub(super) fn word(self, reason: &str) -> String {
        let own = match (reason, self) {
            ("length", Self::Other) => "LENGTH",
            ("stop", Self::Other) => "FINISH",
            ("length", _) => "max_tokens",
            ("stop", _) => "end_turn",
            ("content_filter", _) => "content_filtered",
            ("tool_calls", _) => "tool_use",
            (other, _) => other,
        };
        own.to_owned()
    }
}

/// The first key of an object; none where it is none.
fn first_key(payload: &[u8]) -> &str {
    let text = std::str::from_utf8(payload).unwrap_or_default();
    let inside = text.trim_start().strip_prefix('{').unwrap_or_default();
    inside
        .trim_start()
        .strip_prefix('"')
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default()
}
