//! What is told of an answer beside its text: its model, why it ended, how many tokens it has.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::dialect::{Slot, Spot};
use crate::fault::answer::Opened;

/// How the token counts are changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// They are not there; an event that holds nothing else is not sent.
    Missing,
    /// They are all 0.
    Zero,
    /// They are multiplied by `factor`.
    Wrong,
}

/// The counts of an answer.
const COUNTS: [Slot; 3] = [Slot::PromptTokens, Slot::CompletionTokens, Slot::TotalTokens];

/// Changes what is told of an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Dress {
    pub(super) model: Option<String>,
    pub(super) usage: Option<Usage>,
    pub(super) factor: f64,
}

impl Dress {
    /// Whether another model was named.
    pub(super) fn model(&self, opened: &mut Opened) -> bool {
        let Some(model) = &self.model else { return false };
        let mut changed = false;
        for spot in opened.outline.clone().each(Slot::Model) {
            let other = spot.text(&opened.payload).is_some_and(|old| old != *model);
            if other {
                opened.edits.set_text(spot.span.clone(), model);
                changed = true;
            }
        }
        changed
    }

    /// Whether counts were changed, and whether nothing else is told here.
    pub(super) fn usage(&self, opened: &mut Opened) -> (bool, bool) {
        let Some(usage) = self.usage else { return (false, false) };
        let outline = opened.outline.clone();
        if usage == Usage::Missing {
            let whole: Vec<&Spot> =
                outline.each(Slot::Usage).filter(|spot| opened.holds(spot)).collect();
            let inside = |spot: &Spot| whole.iter().any(|outer| outer.span.end >= spot.span.end && outer.start <= spot.start);
            let alone = outline
                .spots
                .iter()
                .filter(|spot| COUNTS.contains(&spot.what) && !inside(spot));
            let gone: Vec<&Spot> = whole.iter().copied().chain(alone).collect();
            for spot in &gone {
                opened.edits.remove(spot.start, spot.span.clone());
            }
            let told = |what| {
                COUNTS.contains(&what) || matches!(what, Slot::Usage | Slot::Id | Slot::Model)
            };
            let nothing_else = outline.spots.iter().all(|spot| told(spot.what));
            return (!gone.is_empty(), !gone.is_empty() && nothing_else);
        }
        let mut changed = false;
        for spot in outline.spots.iter().filter(|spot| COUNTS.contains(&spot.what)) {
            let Some(old) = opened.number(spot) else { continue };
            let new = match usage {
                Usage::Wrong => (old as f64 * self.factor).round() as u64,
                _ => 0,
            };
            if new != old {
                opened.edits.replace(spot.span.clone(), new.to_string());
                changed = true;
            }
        }
        (changed, false)
    }

    /// Lets the counts agree with a text of which `said` tokens were sent for `seen` that came.
    pub(super) fn recount(&self, opened: &mut Opened, seen: u64, said: u64) {
        if self.usage.is_some() || seen == 0 || seen == said {
            return;
        }
        let outline = opened.outline.clone();
        for spot in outline.each(Slot::CompletionTokens) {
            let Some(old) = opened.number(spot) else { continue };
            let new = (old as f64 * said as f64 / seen as f64).round() as u64;
            opened.edits.replace(spot.span.clone(), new.to_string());
            let total = outline.each(Slot::TotalTokens).find(|total| total.at == spot.at);
            if let Some((total, sum)) = total.and_then(|spot| Some((spot, opened.number(spot)?))) {
                let sum = (sum + new).saturating_sub(old);
                opened.edits.replace(total.span.clone(), sum.to_string());
            }
        }
    }
}
