//! What has passed of a stream: what a dialect needs to end it in its own way.

use super::{Dialect, Slot};
use crate::exchange::{Event, Operation};

/// The most text that is kept (1 MiB); who ends a longer stream repeats that much of it.
const TEXT: usize = 1 << 20;

/// What has passed of a stream.
#[derive(Clone, Debug, Default)]
pub struct SoFar {
    /// The event that opened it.
    pub first: Option<Event>,
    /// The last one that is content, or opens or closes a part of it.
    pub last: Option<Event>,
    /// The text of the part that the last one belongs to: of one message, or one call.
    pub text: String,
    /// How many tokens have passed.
    pub tokens: u64,
    part: Option<Vec<u8>>,
}

impl SoFar {
    /// A stream of which only the last event with content and the count of tokens are known.
    pub(super) fn until(last: &Event, tokens: u64) -> Self {
        Self { last: Some(last.clone()), tokens, ..Self::default() }
    }

    /// Takes note of an event.
    pub fn add(&mut self, dialect: &dyn Dialect, operation: Operation, event: &Event) {
        if event.data.is_empty() || event.is_control() {
            return;
        }
        if self.first.is_none() {
            self.first = Some(event.clone());
        }
        let reading = dialect.read_event(operation, event);
        if !dialect.is_content(operation, event, &reading) {
            return;
        }
        // What opens or closes a part is the last word on which one is open.
        self.last = Some(event.clone());
        if reading.tokens == 0 {
            return;
        }
        self.tokens += u64::from(reading.tokens);
        let payload = dialect.payload(event);
        let outline = dialect.outline(operation, &payload);
        let part = outline.first(Slot::Index).map(|spot| spot.of(&payload).to_vec());
        if part != self.part {
            self.part = part;
            self.text.clear();
        }
        if self.text.len() + reading.text.len() <= TEXT {
            self.text.push_str(&reading.text);
        }
    }
}
