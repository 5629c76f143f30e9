//! Hits in columns, as Milvus sends them: scores, ids and fields each in a list of their own, the hits
//! of several searches one behind the other.

use crate::dialect::{Arrangement, Listing};
use crate::exchange::Operation;
use crate::wire::protobuf::{Kind, changed, fields, first, numbers, put_field, put_varint};

/// The message of an answer that holds the columns.
const DATA: u32 = 2;
const FIELDS: u32 = 3;
const SCORES: u32 = 4;
const IDS: u32 = 5;
const TOPKS: u32 = 6;
const DISTANCES: u32 = 10;
const ELEMENTS: u32 = 15;

/// The lists of an answer; None where this is no answer that has any.
pub(super) fn listings(operation: Operation, body: &[u8]) -> Option<Vec<Listing>> {
    if operation != Operation::Search {
        return None;
    }
    let data = first(body, DATA)?;
    let (fours, _) = first(data, SCORES).unwrap_or_default().as_chunks::<4>();
    let scores: Vec<_> =
        fours.iter().map(|four| Some(f64::from(f32::from_le_bytes(*four)))).collect();
    let ids = ids_of(data, scores.len());
    let mut start = 0;
    let list = |count: usize| {
        let rows = start..start + count;
        start += count;
        Listing { rows: count, scores: scores[rows.clone()].to_vec(), ids: ids[rows].to_vec() }
    };
    Some(counts(data, scores.len())?.into_iter().map(list).collect())
}

/// How many hits each search has.
fn counts(data: &[u8], rows: usize) -> Option<Vec<usize>> {
    let Some(packed) = first(data, TOPKS) else { return Some(vec![rows]) };
    let counts = numbers(packed)?.into_iter().map(usize::try_from);
    let counts: Vec<usize> = counts.collect::<Result<_, _>>().ok()?;
    let all = counts.iter().try_fold(0_usize, |sum, count| sum.checked_add(*count))?;
    (all == rows).then_some(counts)
}

fn ids_of(data: &[u8], rows: usize) -> Vec<Option<String>> {
    let ids = first(data, IDS).unwrap_or_default();
    let found: Option<Vec<String>> = match (first(ids, 1), first(ids, 2)) {
        (Some(whole), _) => numbers(first(whole, 1).unwrap_or_default())
            .map(|all| all.into_iter().map(|id| (id as i64).to_string()).collect()),
        (None, Some(texts)) => fields(texts).map(|all| {
            let text = |value| String::from_utf8_lossy(&texts[value]).into_owned();
            all.into_iter().map(|field| text(field.value)).collect()
        }),
        (None, None) => None,
    };
    match found {
        Some(ids) if ids.len() == rows => ids.into_iter().map(Some).collect(),
        _ => vec![None; rows],
    }
}

/// The answer with its lists arranged; None where a column cannot be.
pub(super) fn arranged(
    operation: Operation,
    body: &[u8],
    lists: &[Arrangement],
) -> Option<Vec<u8>> {
    if operation != Operation::Search {
        return None;
    }
    let data = first(body, DATA)?;
    let rows = first(data, SCORES).unwrap_or_default().len() / 4;
    let mut order = Order { rows, kept: Vec::new() };
    let (mut scores, mut topks) = (vec![None; rows], Vec::new());
    let mut start = 0;
    for (count, wanted) in counts(data, rows)?.into_iter().zip(lists) {
        put_varint(&mut topks, wanted.order.len() as u64);
        order.kept.extend(wanted.order.iter().map(|row| start + row).filter(|row| *row < rows));
        for (place, score) in wanted.scores.iter().flatten().take(count).enumerate() {
            scores[start + place] = Some(*score);
        }
        start += count;
    }
    changed(body, &[DATA], &mut |data| {
        let mut out = Vec::with_capacity(data.len());
        for field in fields(data)? {
            let value = &data[field.value.clone()];
            match (field.number, field.kind) {
                (SCORES, Kind::Length) => {
                    let mut new = value.to_vec();
                    for (four, score) in new.chunks_exact_mut(4).zip(&scores) {
                        if let Some(score) = score {
                            four.copy_from_slice(&(*score as f32).to_le_bytes());
                        }
                    }
                    put_field(&mut out, SCORES, &order.of_size(&new, 4)?);
                }
                (DISTANCES, Kind::Length) => {
                    put_field(&mut out, DISTANCES, &order.of_size(value, 4)?)
                }
                (TOPKS, Kind::Length) => put_field(&mut out, TOPKS, &topks),
                (IDS, Kind::Length) => put_field(&mut out, IDS, &order.of_ids(value)?),
                (ELEMENTS, Kind::Length) => {
                    let new = changed(value, &[1], &mut |packed| order.of_varints(packed))?;
                    put_field(&mut out, ELEMENTS, &new);
                }
                (FIELDS, Kind::Length) => put_field(&mut out, FIELDS, &order.of_field(value)?),
                _ => out.extend_from_slice(&data[field.span]),
            }
        }
        Some(out)
    })
}

/// Which rows there are to be, of how many.
struct Order {
    rows: usize,
    kept: Vec<usize>,
}

impl Order {
    /// Values of one size each.
    fn of_size(&self, values: &[u8], size: usize) -> Option<Vec<u8>> {
        (values.len() == self.rows * size).then(|| {
            self.kept
                .iter()
                .flat_map(|row| &values[row * size..(row + 1) * size])
                .copied()
                .collect()
        })
    }

    fn of_varints(&self, packed: &[u8]) -> Option<Vec<u8>> {
        let values = numbers(packed).filter(|values| values.len() == self.rows)?;
        let mut out = Vec::with_capacity(packed.len());
        self.kept.iter().for_each(|row| put_varint(&mut out, values[*row]));
        Some(out)
    }

    /// A message in which each row is a field 1 of its own.
    fn of_texts(&self, message: &[u8]) -> Option<Vec<u8>> {
        let all = fields(message)?;
        let (rows, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|field| field.number == 1 && field.kind == Kind::Length);
        if rows.len() != self.rows {
            return None;
        }
        let mut out = Vec::with_capacity(message.len());
        let kept = self.kept.iter().map(|row| rows[*row].span.clone());
        kept.chain(rest.into_iter().map(|field| field.span))
            .for_each(|span| out.extend_from_slice(&message[span]));
        Some(out)
    }

    fn of_ids(&self, ids: &[u8]) -> Option<Vec<u8>> {
        match first(ids, 1) {
            Some(_) => changed(ids, &[1, 1], &mut |packed| self.of_varints(packed)),
            None => changed(ids, &[2], &mut |texts| self.of_texts(texts)),
        }
    }

    /// A column of a field: FieldData.
    fn of_field(&self, column: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(column.len());
        for field in fields(column)? {
            let value = &column[field.value.clone()];
            match (field.number, field.kind) {
                (3, Kind::Length) => put_field(&mut out, 3, &self.of_scalars(value)?),
                (4, Kind::Length) => put_field(&mut out, 4, &self.of_vectors(value)?),
                // Which rows have a value; those that have none may be left out of the others.
                (7, Kind::Length) => put_field(&mut out, 7, &self.of_varints(value)?),
                // Structures are no columns of this kind.
                (8, Kind::Length) => return None,
                _ => out.extend_from_slice(&column[field.span]),
            }
        }
        Some(out)
    }

    fn of_scalars(&self, scalars: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(scalars.len());
        for field in fields(scalars)? {
            let value = &scalars[field.value.clone()];
            let new = match field.number {
                1 | 2 | 3 | 11 => changed(value, &[1], &mut |packed| self.of_varints(packed)),
                4 => changed(value, &[1], &mut |packed| self.of_size(packed, 4)),
                5 => changed(value, &[1], &mut |packed| self.of_size(packed, 8)),
                _ => self.of_texts(value),
            };
            put_field(&mut out, field.number, &new?);
        }
        Some(out)
    }

    fn of_vectors(&self, vectors: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(vectors.len());
        let each = |values: &[u8]| {
            (self.rows > 0 && values.len().is_multiple_of(self.rows))
                .then(|| self.of_size(values, values.len() / self.rows))
                .flatten()
        };
        for field in fields(vectors)? {
            let value = &vectors[field.value.clone()];
            match (field.number, field.kind) {
                (2, Kind::Length) => {
                    let new = changed(value, &[1], &mut |packed| each(packed));
                    put_field(&mut out, 2, &new?);
                }
                (6, Kind::Length) => put_field(&mut out, 6, &self.of_texts(value)?),
                (3..=5 | 7, Kind::Length) => put_field(&mut out, field.number, &each(value)?),
                (8, Kind::Length) => return None,
                _ => out.extend_from_slice(&vectors[field.span]),
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(parts: &[(u32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        parts.iter().for_each(|(number, value)| put_field(&mut out, *number, value));
        out
    }

    /// Two searches: the hits 1, 2 and 3.
    fn answer() -> Vec<u8> {
        let scores: Vec<u8> = [0.9_f32, 0.5, 0.75].iter().flat_map(|it| it.to_le_bytes()).collect();
        let ids = message(&[(1, &message(&[(1, &[1, 2, 3])]))]);
        let titles = message(&[(6, &message(&[(1, b"a"), (1, b"b"), (1, b"c")]))]);
        let title = message(&[(2, b"title"), (3, &titles)]);
        let vectors = message(&[(2, &message(&[(1, &[7; 24])]))]);
        let vector = message(&[(2, b"vector"), (4, &vectors)]);
        let data = message(&[(3, &title), (3, &vector), (4, &scores), (5, &ids), (6, &[2, 1])]);
        let mut body = message(&[(1, b"\x10\0")]);
        put_field(&mut body, 2, &data);
        body
    }

    #[test]
    fn columns_are_arranged_together() {
        let body = answer();
        let lists = listings(Operation::Search, &body).unwrap();
        assert_eq!(lists.iter().map(|list| list.rows).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(lists[0].ids[1].as_deref(), Some("2"));
        assert_eq!(lists[1].scores, [Some(0.75)]);
        let same: Vec<_> = lists.iter().map(|list| Arrangement::same(list.rows)).collect();
        assert_eq!(arranged(Operation::Search, &body, &same).unwrap(), body);
        let wanted = [
            Arrangement { order: vec![1], scores: Some(vec![0.5, 0.25]) },
            Arrangement { order: vec![], scores: None },
        ];
        let new = arranged(Operation::Search, &body, &wanted).unwrap();
        let lists = listings(Operation::Search, &new).unwrap();
        assert_eq!((lists[0].rows, lists[0].scores[0], lists[1].rows), (1, Some(0.25), 0));
        assert_eq!(lists[0].ids[0].as_deref(), Some("2"));
        let data = first(&new, DATA).unwrap();
        let title = first(first(first(data, FIELDS).unwrap(), 3).unwrap(), 6).unwrap();
        assert_eq!(title, message(&[(1, b"b")]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), inner in prop::collection::vec(any::<u8>(), 0..80)) {
            for body in [bytes.clone(), message(&[(2, &bytes)]), message(&[(2, &message(&[(4, &[0; 8]), (3, &bytes), (5, &inner)]))])] {
                let lists = listings(Operation::Search, &body).unwrap_or_default();
                let wanted: Vec<_> = lists.iter().map(|_| Arrangement { order: vec![1, 0, 5], scores: Some(vec![1.0]) }).collect();
                let _ = arranged(Operation::Search, &body, &wanted);
            }
        }
    }
}
