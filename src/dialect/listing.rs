//! Lists in whole answers: the hits of a search, the vectors of a batch. What they hold, and the
//! same answer with its rows arranged otherwise.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::{Outline, Slot};
use crate::wire::json::{Edits, items};

/// One list of an answer: a batch of searches has several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// How many rows it has.
    pub rows: usize,
    /// The score or distance of each row, where the answer gives them.
    pub scores: Vec<Option<f64>>,
}

/// How a list is arranged anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arrangement {
    /// The rows that there are to be, by their old numbers: fewer, others, or one several times.
    pub order: Vec<usize>,
    /// New scores, by the old numbers of rows; None: each keeps its own.
    pub scores: Option<Vec<f64>>,
}

/// The lists that the slots `Rows` and `Score` tell of.
pub fn listings(payload: &[u8], outline: &Outline) -> Vec<Listing> {
    let columns = columns(payload, outline);
    let listing = |(at, columns): (&Vec<usize>, &Vec<Column>)| {
        let rows = columns.iter().map(|column| column.rows.len()).max().unwrap_or(0);
        let mut scores = vec![None; rows];
        for (row, spot) in scores_of(outline, at) {
            let value = serde_json::from_slice(&payload[spot]).ok();
            if let Some(score) = scores.get_mut(row) {
                *score = value;
            }
        }
        Listing { rows, scores }
    };
    columns.iter().map(listing).collect()
}

/// The payload with its lists arranged as given, one arrangement for each; None where nothing has a
/// list.
pub fn arranged(payload: &[u8], outline: &Outline, lists: &[Arrangement]) -> Option<Bytes> {
    let columns = columns(payload, outline);
    if columns.is_empty() {
        return None;
    }
    let mut edits = Edits::default();
    for ((at, columns), wanted) in columns.iter().zip(lists) {
        let scores = scores_of(outline, at);
        for column in columns {
            let rows = wanted.order.iter().filter_map(|row| {
                let span = column.rows.get(*row)?.clone();
                let new = wanted.scores.as_ref().and_then(|new| new.get(*row));
                let inside = scores.iter().find(|(of, score)| {
                    of == row && score.start >= span.start && score.end <= span.end
                });
                Some(match (new, inside) {
                    (Some(new), Some((_, score))) => {
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
            edits.replace(column.span.clone(), array);
        }
    }
    Some(edits.apply(payload))
}

/// A number as JSON has it.
fn number(value: f64) -> String {
    serde_json::Number::from_f64(value)
        .map_or_else(|| "null".to_owned(), |number| number.to_string())
}

struct Column {
    span: Range<usize>,
    rows: Vec<Range<usize>>,
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

/// The scores of the list that stands at `at`, each with its row.
fn scores_of(outline: &Outline, at: &[usize]) -> Vec<(usize, Range<usize>)> {
    let of_list = |spot: &&super::Spot| spot.at.len() == at.len() + 1 && spot.at.starts_with(at);
    let scores = outline.each(Slot::Score).filter(of_list);
    scores.map(|spot| (spot.at[at.len()], spot.span.clone())).collect()
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
        let paths = Paths::new(&[("hits", Slot::Rows), ("hits[*].score", Slot::Score)]);
        let payload = br#"{"hits": [{"id":1,"score":0.9}, {"id":2,"score":0.5}],"t":1}"#;
        let outline = Outline::of(&paths, payload);
        let lists = listings(payload, &outline);
        assert_eq!(lists, [Listing { rows: 2, scores: vec![Some(0.9), Some(0.5)] }]);
        let told = |wanted| arranged(payload, &outline, &[wanted]).unwrap();
        assert_eq!(told(arrange(&[], None)), r#"{"hits": [],"t":1}"#);
        assert_eq!(
            told(arrange(&[1, 0, 1], Some(&[0.25, 2.0]))),
            r#"{"hits": [{"id":2,"score":2.0},{"id":1,"score":0.25},{"id":2,"score":2.0}],"t":1}"#
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
