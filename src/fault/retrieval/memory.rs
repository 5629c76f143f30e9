//! What a fault remembers of earlier exchanges: the answers of searches, and which points were written
//! so lately that they are not to be seen yet. Both are bounded.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::Recalled;
use crate::dialect::Listing;
use crate::dice::hash_bytes;
use crate::exchange::{Exchange, ExchangeKey, Operation, Transport};

/// Answers that are kept, and their bytes; a longer one is not kept.
const ANSWERS: usize = 256;
const BYTES: usize = 8 << 20;
const LONGEST: usize = 512 << 10;
/// Points that may be hidden at a time.
const HIDDEN: usize = 100_000;

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Memory {
    answers: Mutex<Answers>,
    hidden: Mutex<HashMap<u64, Duration>>,
}

#[derive(Debug, Default)]
struct Answers {
    kept: VecDeque<Kept>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    asked: Asked,
    /// Tells answers with other hits apart.
    hits: u64,
    body: Bytes,
}

/// What an answer belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    key: ExchangeKey,
    operation: Operation,
    transport: Transport,
    /// The dependency, and the path without the name of the collection.
    place: u64,
    collection: Option<String>,
}

impl Asked {
    pub(super) fn of(exchange: &Exchange) -> Self {
        let collection = exchange.facts.collection.clone();
        let named = |part: &&str| {
            collection.as_ref().is_none_or(|name| !name.split('/').any(|own| own == *part))
        };
        let path: Vec<&str> = exchange.uri.path().split('/').filter(named).collect();
        let place = format!("{}\n{}", exchange.dependency, path.join("/"));
        Self {
            key: exchange.key,
            operation: exchange.facts.operation,
            transport: exchange.transport,
            place: hash_bytes(place.as_bytes()),
            collection,
        }
    }

    /// A hash of where a point is.
    fn point(&self, id: &str) -> u64 {
        let collection = self.collection.as_deref().unwrap_or_default();
        hash_bytes(format!("{collection}\n{id}").as_bytes())
    }

    fn is_alike(&self, other: &Self) -> bool {
        (self.operation, self.transport, self.place)
            == (other.operation, other.transport, other.place)
    }
}

impl Memory {
    /// Keeps an answer, unless its request has one already.
    pub(super) fn keep(&self, asked: &Asked, lists: &[Listing], body: &Bytes) {
        if body.len() > LONGEST {
            return;
        }
        let hits = hits_of(lists, body);
        let mut answers = self.answers.lock();
        let known = |kept: &Kept| kept.asked == *asked;
        if answers.kept.iter().any(known) {
            return;
        }
        answers.bytes += body.len();
        // A copy, lest it keeps the whole buffer that it was read into.
        let body = Bytes::copy_from_slice(body);
        answers.kept.push_back(Kept { asked: asked.clone(), hits, body });
        while answers.kept.len() > ANSWERS || answers.bytes > BYTES {
            let gone = answers.kept.pop_front().map_or(0, |kept| kept.body.len());
            answers.bytes -= gone;
        }
    }

    /// An answer to stand in place of this one, with other hits.
    pub(super) fn recall(
        &self,
        which: Recalled,
        asked: &Asked,
        lists: &[Listing],
        body: &Bytes,
    ) -> Option<Bytes> {
        let hits = hits_of(lists, body);
        let answers = self.answers.lock();
        let mut others = answers
            .kept
            .iter()
            .filter(|kept| kept.asked.is_alike(asked) && kept.hits != hits);
        let found = match which {
            Recalled::Earlier => {
                let here: Vec<&Kept> =
                    others.filter(|kept| kept.asked.collection == asked.collection).collect();
                let same = here.iter().find(|kept| kept.asked.key == asked.key);
                same.or_else(|| here.last()).copied()
            }
            Recalled::Elsewhere => others.rfind(|kept| {
                kept.asked.collection.is_some() && kept.asked.collection != asked.collection
            }),
        };
        found.map(|kept| kept.body.clone())
    }

    /// Keeps points out of answers until a time; false where there are too many.
    pub(super) fn hide(&self, asked: &Asked, ids: &[String], at: Duration, until: Duration) -> bool {
        let mut hidden = self.hidden.lock();
        if hidden.len() + ids.len() > HIDDEN {
            hidden.retain(|_, until| *until > at);
        }
        if hidden.len() + ids.len() > HIDDEN {
            return false;
        }
        hidden.extend(ids.iter().map(|id| (asked.point(id), until)));
        true
    }

    /// Whether a point is kept out of answers.
    pub(super) fn hides(&self, asked: &Asked, id: &str, at: Duration) -> bool {
        let hidden = self.hidden.lock();
        !hidden.is_empty() && hidden.get(&asked.point(id)).is_some_and(|until| *until > at)
    }

    /// Whether any point may be kept out of answers.
    pub(super) fn hides_any(&self) -> bool {
        !self.hidden.lock().is_empty()
    }

    pub(super) fn forget(&self) {
        *self.answers.lock() = Answers::default();
        self.hidden.lock().clear();
    }
}

/// A hash of the hits: of their ids, or of the body where it has none.
fn hits_of(lists: &[Listing], body: &[u8]) -> u64 {
    let known = lists.iter().flat_map(|list| &list.ids).all(Option::is_some);
    if lists.is_empty() || !known {
        return hash_bytes(body);
    }
    let mut text = String::new();
    for list in lists {
        text.push_str("[\n");
        for id in list.ids.iter().flatten() {
            text.push_str(id);
            text.push('\n');
        }
    }
    hash_bytes(text.as_bytes())
}
