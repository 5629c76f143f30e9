//! Which change each text of an answer gets, and where it is put.

use std::sync::Arc;

use super::text::{Change, Part, Text};
use super::words::{Language, REFUSAL, tokens};
use super::{LOOP, LOOP_AFTER, MOST, TextChange};
use crate::dialect::{Declines, Reason, Slot, Spot};
use crate::dice::Dice;
use crate::fault::Place;
use crate::fault::answer::{self, Opened, Put, Reader};

/// What becomes of texts, as the options say it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) text: Option<TextChange>,
    pub(super) to: Option<Place>,
    pub(super) times: u64,
    pub(super) after: Option<Place>,
    pub(super) repeat: Part,
    pub(super) language: Language,
    pub(super) rate: f64,
}

/// Makes the change of each text.
pub(super) struct Writer {
    pub(super) plan: Plan,
    pub(super) declines: Declines,
    /// The answer of another exchange.
    pub(super) script: Option<Arc<[String]>>,
    pub(super) dice: Dice,
    /// The most tokens that the request allows.
    pub(super) most: Option<u64>,
    /// The tokens that a live stream is taken to have.
    pub(super) assumed: Option<u64>,
}

impl Writer {
    /// The change of a text; `whole`, where all of it is there. None where it stays.
    pub(super) fn text(&self, opened: &Opened, spot: &Spot, whole: bool) -> Option<Text> {
        let lane = opened.lane(spot).into_iter().fold(self.dice.clone(), |d, n| d.fork_number(n));
        let length = || {
            let text = spot.text(&opened.payload).unwrap_or_default();
            if whole { tokens(&text).len() as u64 } else { self.assumed.unwrap_or(100) }
        };
        Some(Text::new(self.change(&length)?, lane))
    }

    fn change(&self, length: &dyn Fn() -> u64) -> Option<Change> {
        let Plan { to, times, repeat: by, language, rate, .. } = self.plan;
        let after = if let Some(Place::Tokens(after)) = self.plan.after { after } else { 0 };
        let most = if let Some(Place::Tokens(most)) = to { Some(most) } else { None };
        if let Some(script) = &self.script {
            return Some(Change::Script(Arc::clone(script)));
        }
        Some(match self.plan.text? {
            TextChange::DropTokens => Change::Drop { rate, after },
            TextChange::Empty => Change::Empty,
            TextChange::Extend => {
                Change::Extend { times, most: most.or(self.most).unwrap_or(MOST).min(MOST) }
            }
            TextChange::Garble => Change::Garble { rate, after },
            TextChange::Language => Change::Language { language, after },
            TextChange::Loop => Change::Loop {
                by,
                after: if self.plan.after.is_some() { after } else { LOOP_AFTER },
                most: most.or(self.most).unwrap_or(LOOP).min(MOST),
            },
            TextChange::Refusal if self.declines.silent => Change::Empty,
            TextChange::Refusal => {
                Change::Script(tokens(REFUSAL).into_iter().map(str::to_owned).collect())
            }
            TextChange::Shorten => Change::Shorten {
                keep: most.unwrap_or_else(|| {
                    let share = match to {
                        Some(Place::Share(share) | Place::TokenShare(share)) => share,
                        _ => 0.2,
                    };
                    (length() as f64 * share).round() as u64
                }),
            },
        })
    }

    /// How a text is put into its place.
    pub(super) fn put(&self, whole: bool) -> Box<Put> {
        match self.declines.member {
            Some(member) if self.plan.text == Some(TextChange::Refusal) => {
                Box::new(move |opened, spot, text| decline(opened, spot, text, member, whole))
            }
            _ => Box::new(answer::put),
        }
    }

    /// Whether the token counts follow the text.
    pub(super) fn recounts(&self) -> bool {
        use TextChange::{Empty, Extend, Loop, Refusal, Shorten};
        self.script.is_some()
            || matches!(self.plan.text, Some(Empty | Extend | Loop | Refusal | Shorten))
    }

    /// The word for the end that follows from what became of the text.
    pub(super) fn finish(&self, reader: Reader, full: bool) -> Option<&'static str> {
        let word = |reason| reader.dialect.reason(reader.operation, reason);
        match self.plan.text? {
            TextChange::Extend | TextChange::Loop if full => word(Reason::Length),
            TextChange::Refusal => self.declines.finish.or_else(|| word(Reason::Stop)),
            _ => None,
        }
    }
}

/// Puts the words of a refusal into a member of their own, where the text would stand.
fn decline(opened: &mut Opened, spot: &Spot, text: &str, member: (&str, &str), whole: bool) {
    let key = opened.payload[spot.start..spot.span.start].trim_ascii_end();
    let (usual, member) = member;
    if !key.starts_with(format!("\"{usual}\"").as_bytes()) {
        return answer::put(opened, spot, text);
    }
    if text.is_empty() {
        return opened.edits.set_text(spot.span.clone(), "");
    }
    let beside = opened.outline.each(Slot::Refusal).find(|other| other.at == spot.at).cloned();
    if let Some(beside) = beside {
        opened.edits.set_text(beside.span, text);
        return opened.edits.replace(spot.span.clone(), "null");
    }
    let mut new = Vec::new();
    if whole {
        new.extend_from_slice(&opened.payload[spot.start..spot.span.start]);
        new.extend_from_slice(b"null,");
    }
    let value = serde_json::Value::from(text);
    new.extend_from_slice(format!("\"{member}\":{value}").as_bytes());
    opened.edits.replace(spot.start..spot.span.end, new);
}
