//! Changes to a document that leave every other byte as it came.

use std::ops::Range;

use bytes::Bytes;

/// Changes to a document: all other bytes stay.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    replaced: Vec<(Range<usize>, Vec<u8>)>,
    removed: Vec<Range<usize>>,
}

impl Edits {
    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.replaced.is_empty() && self.removed.is_empty()
    }

    /// Puts other JSON in a value's place.
    pub fn replace(&mut self, span: Range<usize>, json: impl Into<Vec<u8>>) {
        self.replaced.push((span, json.into()));
    }

    /// Puts a text in a value's place.
    pub fn set_text(&mut self, span: Range<usize>, text: &str) {
        self.replace(span, serde_json::Value::from(text).to_string());
    }

    /// Takes a member of an object, or an item of an array, away together with a comma. `start` is
    /// where its key begins.
    pub fn remove(&mut self, start: usize, span: Range<usize>) {
        self.removed.push(start..span.end);
    }

    /// The document as changed. Where changes lie in one another, the outer one counts.
    pub fn apply(self, document: &[u8]) -> Bytes {
        let gone = with_commas(document, self.removed).into_iter().map(|span| (span, Vec::new()));
        let mut changes: Vec<_> = self.replaced.into_iter().chain(gone).collect();
        changes.sort_by_key(|(span, _)| (span.start, usize::MAX - span.end));
        let mut changed = Vec::with_capacity(document.len());
        let mut at = 0;
        for (span, with) in changes {
            if span.start >= at {
                changed.extend_from_slice(&document[at..span.start]);
                changed.extend_from_slice(&with);
                at = span.end;
            }
        }
        changed.extend_from_slice(&document[at..]);
        changed.into()
    }
}

/// What goes when these parts go: each takes the comma behind it with it; the last of an object or
/// array the one before it.
fn with_commas(document: &[u8], mut parts: Vec<Range<usize>>) -> Vec<Range<usize>> {
    parts.sort_by_key(|part| part.start);
    let mut gone: Vec<Range<usize>> = Vec::with_capacity(parts.len());
    for part in parts {
        let followed = behind_comma(document, part.end);
        let start = match gone.last() {
            Some(last) if last.end >= part.start => {
                gone.pop().map_or(part.start, |last| last.start)
            }
            _ => part.start,
        };
        gone.push(match followed {
            Some(end) => start..end,
            None => before_comma(document, start)..part.end,
        });
    }
    gone
}

/// Where the next part begins, if a comma follows here.
fn behind_comma(document: &[u8], at: usize) -> Option<usize> {
    let skip = |at: usize| {
        let rest = document.get(at..).unwrap_or_default();
        at + rest.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(rest.len())
    };
    let comma = skip(at);
    (document.get(comma) == Some(&b',')).then(|| skip(comma + 1))
}

/// Where the comma stands that leads here; here, if none does.
fn before_comma(document: &[u8], at: usize) -> usize {
    let before = document[..at].trim_ascii_end();
    if before.ends_with(b",") { before.len() - 1 } else { at }
}
