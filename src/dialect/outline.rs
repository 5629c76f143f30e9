//! Where the parts of an answer stand in its payload: texts, tool calls, ends, vectors, hits. Each
//! dialect has a table of paths; faults change what the slots hold, and no other byte.

use bytes::Bytes;

use crate::wire::json::{Edits, Paths, Spot as At};

/// What stands at a place of an answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Slot {
    /// The arguments of a tool call: text that holds JSON (or a part of it), or the object itself.
    Arguments,
    /// A tool call as a whole.
    Call,
    CallId,
    /// Which call of the answer a delta belongs to.
    CallIndex,
    CallName,
    /// One of several answers to a request, as a whole.
    Choice,
    /// How many tokens the answer has, by the provider's count.
    CompletionTokens,
    /// Why the answer ended.
    Finish,
    /// The id of a hit, where hits are objects.
    HitId,
    /// The id of the answer as a whole.
    Id,
    /// The number of a choice, of a block, or of a vector.
    Index,
    Model,
    PromptTokens,
    /// What the model thought before it answered.
    Reasoning,
    Refusal,
    Role,
    /// An array with one item for each row: the hits of a search, the vectors of a batch. Several
    /// with the same `at` are the columns of one list (Chroma).
    Rows,
    /// How near a hit is: a score, or a distance.
    Score,
    /// How many shards failed.
    ShardsFailed,
    /// How many shards answered.
    ShardsSuccessful,
    /// How many shards were asked.
    ShardsTotal,
    /// Whether the search gave up on time.
    TimedOut,
    /// Text of the answer.
    Text,
    /// The score of the best hit, said of a list as a whole.
    TopScore,
    /// How many hits there are in all.
    Total,
    TotalTokens,
    Usage,
    /// A vector: an array of numbers, or base64 of 32-bit floats in little-endian order.
    Vector,
}

/// A value and its slot.
pub type Spot = At<Slot>;

/// The values of one payload that have a slot, in the payload's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    pub spots: Vec<Spot>,
}

impl Outline {
    /// What a table of paths finds in a payload; nothing where it is no JSON.
    pub fn of(paths: &Paths<Slot>, payload: &[u8]) -> Self {
        Self { spots: paths.find(payload).unwrap_or_default() }
    }

    /// The values with this slot.
    pub fn each(&self, slot: Slot) -> impl Iterator<Item = &Spot> {
        self.spots.iter().filter(move |spot| spot.what == slot)
    }

    /// The first value with this slot.
    pub fn first(&self, slot: Slot) -> Option<&Spot> {
        self.each(slot).next()
    }

    /// Whether any value has this slot.
    pub fn has(&self, slot: Slot) -> bool {
        self.first(slot).is_some()
    }

    /// The texts with this slot, joined.
    pub fn text(&self, payload: &[u8], slot: Slot) -> String {
        self.each(slot).filter_map(|spot| spot.text(payload)).collect()
    }
}

/// A payload without the members and items that have these slots; None where none has.
pub fn without(payload: &[u8], outline: &Outline, slots: &[Slot]) -> Option<Bytes> {
    let mut edits = Edits::default();
    for spot in outline.spots.iter().filter(|spot| slots.contains(&spot.what)) {
        edits.remove(spot.start, spot.span.clone());
    }
    (!edits.is_empty()).then(|| edits.apply(payload))
}

/// Why an answer ended, whatever a provider calls it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A filter took it.
    ContentFilter,
    /// It reached the most tokens it may have.
    Length,
    /// It was complete.
    Stop,
    /// It calls tools.
    ToolCalls,
}

impl Reason {
    /// The reason of this name, as users write it.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "content_filter" => Self::ContentFilter,
            "length" => Self::Length,
            "stop" => Self::Stop,
            "tool_calls" => Self::ToolCalls,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_and_taken_away() {
        let paths = Paths::new(&[("c[*].text", Slot::Text), ("c[*].why", Slot::Finish)]);
        let payload = br#"{"c":[{"text":"a\n","why":"stop"},{"text":"b"}],"x":1}"#;
        let outline = Outline::of(&paths, payload);
        assert_eq!(outline.text(payload, Slot::Text), "a\nb");
        assert_eq!(outline.first(Slot::Finish).unwrap().at, [0]);
        let left = without(payload, &outline, &[Slot::Finish]).unwrap();
        assert_eq!(left, r#"{"c":[{"text":"a\n"},{"text":"b"}],"x":1}"#);
        assert_eq!(without(payload, &outline, &[Slot::Usage]), None);
        assert_eq!(Outline::of(&paths, b"nope"), Outline::default());
    }
}
