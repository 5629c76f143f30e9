//! Lists in whole answers: the hits of a search, the vectors of a batch. What they hold, and the
//! same answer with its rows arranged otherwise.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::{Outline, Slot, Spot};
use crate::wire::json::{Edits, items};

/// One list of an answer: a batch of searches has several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// How many rows it has.
    pub rows: usize,
    /// The score or distance of each row, where the answer gives them.
    pub scores: Vec<Option<f64>>,
    /// The id of each row, where the answer gives them: a text without its quotes.
    pub ids: Vec<Option<String>>,
}

/// How a list is arranged anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arrangement {
    /// The rows that there are to be, by their old numbers: fewer, others, or one several times.
    pub order: Vec<usize>,
    /// New scores, by the old numbers of rows; None: each keeps its own.
    pub scores: Option<Vec<f64>>,
}

impl Arrangement {
    /// The rows as they are.
    pub fn same(rows: usize) -> Self {
        Self { order: (0..rows).collect(), scores: None }
    }

    /// How many hits there are in all, after this, where there were so many.
    pub fn total(&self, rows: usize, before: u64) -> u64 {
        if self.order.is_empty() {
            return 0;
        }
        before.saturating_sub(rows.saturating_sub(self.order.len()) as u64)
    }
}

/// The lists that the slots `Rows`, `Score` and `HitId` tell of.
pub fn listings(payload: &[u8], outline: &Outline) -> Vec<Listing> {
    let columns = columns(payload, outline);
    let (all_scores, all_ids) = (of_rows(outline, Slot::Score), of_rows(outline, Slot::HitId));
    let listing = |(at, columns): (&Vec<usize>, &Vec<Column>)| {
        let rows = columns.iter().map(|column| column.rows.len()).max().unwrap_or(0);
        let mut scores = vec![None; rows];
        for (row, spot) in all_scores.get(&at[..]).into_iter().flatten() {
            if let Some(score) = scores.get_mut(*row) {
                *score = serde_json::from_slice(&payload[spot.clone()]).ok();
            }
        }
        let mut ids = vec![None; rows];
        for (row, spot) in all_ids.get(&at[..]).into_iter().flatten() {
            if let Some(id) = ids.get_mut(*row) {
                *id = Some(id_of(&payload[spot.clone()]));
            }
        }
        Listing { rows, scores, ids }
    };
    columns.iter().map(listing).collect()
}

/// An id as listings have it: the text of a string, a number as it is written.
pub(super) fn id_of(json: &[u8]) -> String {
    let text = serde_json::from_slice::<String>(json).ok();
    text.unwrap_or_else(|| String::from_utf8_lossy(json).into_owned())
}

/// The payload with its lists arranged as given, one arrangement for each; None where nothing has a
/// list. Totals and best scores of a list follow it.
pub fn arranged(payload: &[u8], outline: &Outline, lists: &[Arrangement]) -> Option<Bytes> {
    let columns = columns(payload, outline);
    if columns.is_empty() {
        return None;
    }
    let mut edits = Edits::default();
    let all_scores = of_rows(outline, Slot::Score);
    let (totals, bests) = (of_lists(outline, Slot::Total), of_lists(outline, Slot::TopScore));
    let none = Spotted::new();
    for ((at, columns), wanted) in columns.iter().zip(lists) {
        let scores = all_scores.get(&at[..]).unwrap_or(&none);
        for column in columns {
            edits.replace(column.span.clone(), column.arranged(payload, wanted, scores));
        }
        let rows = columns.iter().map(|column| column.rows.len()).max().unwrap_or(0);
        if let Some(spot) = totals.get(&at[..])
            && let Ok(before) = serde_json::from_slice::<u64>(spot.of(payload))
        {
            edits.replace(spot.span.clone(), wanted.total(rows, before).to_string());
        }
        if let Some(spot) = bests.get(&at[..])
            && let Some(best) = best(payload, wanted, scores)
        {
            edits.replace(spot.span.clone(), best);
        }
    }
    Some(edits.apply(payload))
}

/// The best of the scores as they will be; None where it stays.
fn best(payload: &[u8], wanted: &Arrangement, scores: &Spotted) -> Option<String> {
    if wanted.order.is_empty() {
        return Some("null".to_owned());
    }
    let old = |row: &usize| serde_json::from_slice::<f64>(&payload[scores.get(row)?.clone()]).ok();
    let new = |row: &usize| match &wanted.scores {
        Some(new) => new.get(*row).copied(),
        None => old(row),
    };
    wanted.order.iter().filter_map(new).max_by(f64::total_cmp).map(number)
}

/// A number as JSON has it.
pub(super) fn number(value: f64) -> String {
    serde_json::Number::from_f64(value)
        .map_or_else(|| "null".to_owned(), |number| number.to_string())
}

/// Where something of each row stands, by the row's number: the first where there are several.
type Spotted = BTreeMap<usize, Range<usize>>;

struct Column {
    span: Range<usize>,
    rows: Vec<Range<usize>>,
}

impl Column {
    /// The array with its rows arranged.
    fn arranged(&self, payload: &[u8], wanted: &Arrangement, scores: &Spotted) -> Vec<u8> {
        let rows = wanted.order.iter().filter_map(|row| {
            let span = self.rows.get(*row)?.clone();
            let new = wanted.scores.as_ref().and_then(|new| new.get(*row));
            let inside =
                scores.get(row).filter(|score| score.start >= span.start && score.end <= span.end);
            Some(match (new, inside) {
                (Some(new), Some(score)) => {
                    let mut text = payload[span.start..score.start].to_vec();
                    text.extend_from_slice(number(*new).as_bytes());
                    text.extend_from_slice(&payload[score.end..span.end]);
                    text
                }
                _ => payload[span].to_vec(),
            })
        });
        let rows: Vec<Vec<u8>> = rows.collect();
        let mut array = vec![b'['];
        array.extend_from_slice(&rows.join(&b","[..]));
        array.push(b']');
        array
    }
}

/// The columns of each list, by where the list stands.
fn columns(payload: &[u8], outline: &Outline) -> BTreeMap<Vec<usize>, Vec<Column>> {
    let mut found: BTreeMap<Vec<usize>, Vec<Column>> = BTreeMap::new();
    for spot in outline.each(Slot::Rows) {
        if let Some(rows) = items(payload, spot.span.clone()) {
            let column = Column { span: spot.span.clone(), rows };
            found.entry(spot.at.clone()).or_default().push(column);
        }
    }
    found
}

/// What has this slot in the rows of each list, by where the list stands.
fn of_rows(outline: &Outline, slot: Slot) -> BTreeMap<&[usize], Spotted> {
    let mut found: BTreeMap<&[usize], Spotted> = BTreeMap::new();
    for spot in outline.each(slot) {
        if let Some((row, at)) = spot.at.split_last() {
            let rows = found.entry(at).or_default();
            rows.entry(*row).or_insert_with(|| spot.span.clone());
        }
    }
    found
}

/// What has this slot beside each list, by where the list stands.
fn of_lists(outline: &Outline, slot: Slot) -> BTreeMap<&[usize], &Spot> {
    outline.each(slot).map(|spot| (&spot.at[..], spot)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::Paths;

    fn arrange(order: &[usize], scores: Option<&[f64]>) -> Arrangement {
        Arrangement { order: order.to_vec(), scores: scores.map(<[f64]>::to_vec) }
    }

    #[test]
    fn rows_of_objects_are_arranged() {
        let paths = Paths::new(&[
            ("hits", Slot::Rows),
            ("hits[*].score", Slot::Score),
            ("hits[*].id", Slot::HitId),
            ("t", Slot::Total),
            ("best", Slot::TopScore),
        ]);
        let payload =
            br#"{"hits": [{"id":1,"score":0.9}, {"id":"b","score":0.5}],"t":7,"best":0.9}"#;
        let outline = Outline::of(&paths, payload);
        let ids = vec![Some("1".to_owned()), Some("b".to_owned())];
        let scores = vec![Some(0.9), Some(0.5)];
        assert_eq!(listings(payload, &outline), [Listing { rows: 2, scores, ids }]);
        let told = |wanted| arranged(payload, &outline, &[wanted]).unwrap();
        assert_eq!(told(arrange(&[], None)), r#"{"hits": [],"t":0,"best":null}"#);
        assert_eq!(
            told(arrange(&[1, 0, 1], Some(&[0.25, 2.0]))),
            r#"{"hits": [{"id":"b","score":2.0},{"id":1,"score":0.25},{"id":"b","score":2.0}],"t":7,"best":2.0}"#
        );
        assert_eq!(
            told(arrange(&[1], None)),
            r#"{"hits": [{"id":"b","score":0.5}],"t":6,"best":0.5}"#
        );
    }

    #[test]
    fn columns_stay_parallel() {
        let paths = Paths::new(&[
            ("ids[*]", Slot::Rows),
            ("docs[*]", Slot::Rows),
            ("far[*]", Slot::Rows),
            ("far[*][*]", Slot::Score),
        ]);
        let payload = br#"{"ids":[["a","b"],["c"]],"docs":[["A","B"],["C"]],"far":[[0.1,0.2],[0.3]],"x":null}"#;
        let outline = Outline::of(&paths, payload);
        assert_eq!(listings(payload, &outline).len(), 2);
        let told =
            arranged(payload, &outline, &[arrange(&[1], Some(&[0.5, 0.7])), arrange(&[], None)]);
        assert_eq!(
            told.unwrap(),
            r#"{"ids":[["b"],[]],"docs":[["B"],[]],"far":[[0.7],[]],"x":null}"#
        );
    }
}
