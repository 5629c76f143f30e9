//! What an event or a whole answer says, read from the table of its dialect.

use super::{Outline, Reading, Slot};

/// What one event of a stream says.
pub(super) fn of_event(payload: &[u8], outline: &Outline) -> Reading {
    let mut reading = read(payload, outline);
    reading.tokens = u32::from(!reading.text.is_empty());
    reading
}

/// What a whole answer says.
pub(super) fn of_message(payload: &[u8], outline: &Outline) -> Reading {
    let mut reading = read(payload, outline);
    let estimate = (reading.text.len() / 4).max(usize::from(!reading.text.is_empty()));
    let estimate = u32::try_from(estimate).unwrap_or(u32::MAX);
    reading.tokens = reading.usage.map_or(estimate, |(_, completion)| completion);
    reading
}

fn read(payload: &[u8], outline: &Outline) -> Reading {
    let mut reading = Reading::default();
    let mut counts = (None, None);
    for spot in &outline.spots {
        match spot.what {
            Slot::Arguments if spot.of(payload).starts_with(b"{") => {
                reading.text.push_str(&String::from_utf8_lossy(spot.of(payload)));
            }
            Slot::Arguments | Slot::Reasoning | Slot::Refusal | Slot::Text => {
                reading.text.push_str(&spot.text(payload).unwrap_or_default());
            }
            Slot::CompletionTokens => counts.1 = add(counts.1, spot.of(payload)),
            Slot::Finish if reading.finish.is_none() => {
                reading.finish = spot.text(payload).filter(|reason| !reason.is_empty());
            }
            Slot::PromptTokens => counts.0 = add(counts.0, spot.of(payload)),
            _ => {}
        }
    }
    if counts != (None, None) {
        reading.usage = Some((counts.0.unwrap_or(0), counts.1.unwrap_or(0)));
    }
    reading
}

/// Some providers count cached parts of the prompt apart.
fn add(sum: Option<u32>, count: &[u8]) -> Option<u32> {
    match serde_json::from_slice::<u32>(count) {
        Ok(count) => Some(sum.unwrap_or(0).saturating_add(count)),
        Err(_) => sum,
    }
}
