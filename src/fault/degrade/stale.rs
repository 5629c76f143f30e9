//! Answers that other exchanges got, kept for `stale`.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::words::tokens;
use crate::exchange::{Exchange, ExchangeKey};
use crate::fault::Draw;

/// Answers remembered; older ones are forgotten.
const ANSWERS: usize = 64;
/// Text remembered of one answer, in bytes.
pub(super) const TEXT: usize = 16 * 1024;

/// Whose answer may be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// That of any other request.
    Anyone,
    /// That of another user's request: users as `identify.user` tells them apart, by API key where
    /// nothing does.
    OtherUser,
}

/// The answers seen so far.
#[derive(Debug, Default)]
pub(super) struct Answers {
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    asked: Asked,
    text: Arc<[String]>,
}

/// What was asked, and by whom.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Asked {
    key: ExchangeKey,
    ordinal: u32,
    user: Option<String>,
    api_key: Option<u64>,
}

impl Asked {
    pub(super) fn of(exchange: &Exchange) -> Self {
        Self {
            key: exchange.key,
            ordinal: exchange.ordinal,
            user: exchange.user.clone(),
            api_key: exchange.api_key,
        }
    }

    fn is_other_user(&self, other: &Self) -> bool {
        match (&self.user, &other.user) {
            (Some(one), Some(other)) => one != other,
            _ => self.api_key != other.api_key,
        }
    }
}

impl Answers {
    /// The answer of another request, drawn among those that are there.
    pub(super) fn draw(
        &self,
        asked: &Asked,
        whose: Whose,
        draw: &mut Draw,
    ) -> Option<Arc<[String]>> {
        let kept = self.kept.lock();
        let fits = |one: &&Kept| {
            one.asked.key != asked.key
                && (whose == Whose::Anyone || one.asked.is_other_user(asked))
        };
        let mut fitting: Vec<&Kept> = kept.iter().filter(fits).collect();
        if fitting.is_empty() {
            return None;
        }
        // By what was asked, not by when: the same answers give the same draw.
        fitting.sort_by(|one, other| one.asked.cmp(&other.asked));
        let at = (draw.unit("stale") * fitting.len() as f64) as usize;
        fitting.get(at).map(|one| Arc::clone(&one.text))
    }

    /// Remembers an answer.
    pub(super) fn keep(&self, asked: &Asked, text: &str) {
        let text = tokens(text).into_iter().map(str::to_owned).collect();
        let mut kept = self.kept.lock();
        if kept.len() == ANSWERS {
            kept.pop_front();
        }
        kept.push_back(Kept { asked: asked.clone(), text });
    }

    pub(super) fn forget(&self) {
        self.kept.lock().clear();
    }
}
