//! The hits of `FT.SEARCH`: in RESP2 an array of `total, id, fields, id, fields …`, in RESP3 a map with
//! `total_results` and `results`.

use crate::dialect::{Arrangement, Listing};
use crate::exchange::Operation;
use crate::wire::resp;
use bytes::Bytes;

/// The results in an array: those of a search, else its elements.
pub(super) struct Hits<'a> {
    pub(super) parts: Vec<&'a [u8]>,
    /// Parts that stand before the first.
    pub(super) before: usize,
    /// Parts of each.
    pub(super) each: usize,
}

impl<'a> Hits<'a> {
    pub(super) fn of(operation: Operation, body: &'a [u8]) -> Option<Self> {
        let parts = resp::parts(body)?;
        let is = |at: usize, kind: u8| parts.get(at).is_some_and(|part: &&[u8]| part[0] == kind);
        let before = usize::from(operation == Operation::Search && is(0, b':'));
        // With scores there is one between the id and the fields.
        let scored = before == 1 && is(1, b'$') && (is(2, b'$') || is(2, b',')) && is(3, b'*');
        let pairs = before == 1 && is(1, b'$') && is(2, b'*');
        let each = if scored { 3 } else { 1 + usize::from(pairs) };
        Some(Self { parts, before, each })
    }

    pub(super) fn count(&self) -> usize {
        (self.parts.len() - self.before) / self.each
    }
}

/// The key of a map's member, and where in the list its value is.
fn member(members: &[&[u8]], key: &str) -> Option<usize> {
    let named = |pair: &[&[u8]]| resp::string(pair[0]) == Some(key.as_bytes());
    members.chunks_exact(2).position(named).map(|place| 2 * place + 1)
}

fn text(value: &[u8]) -> Option<String> {
    resp::string(value).map(|text| String::from_utf8_lossy(text).into_owned())
}

fn bare(ids: Vec<Option<String>>) -> Listing {
    Listing { rows: ids.len(), scores: vec![None; ids.len()], ids }
}

/// The list of a search's answer.
pub(super) fn listing(body: &[u8]) -> Option<Listing> {
    if let Some(members) = resp::members(body) {
        let rows = resp::parts(members[member(&members, "results")?])?;
        let id = |row: &&[u8]| {
            let row = resp::members(row)?;
            text(row[member(&row, "id")?])
        };
        return Some(bare(rows.iter().map(id).collect()));
    }
    let hits = Hits::of(Operation::Search, body).filter(|hits| hits.before == 1)?;
    let id = |hit: &[&[u8]]| text(hit[0]);
    Some(bare(hits.parts[1..].chunks_exact(hits.each).map(id).collect()))
}

/// The answer with its list arranged.
pub(super) fn arranged(body: &[u8], wanted: &Arrangement) -> Option<Bytes> {
    if let Some(mut members) = resp::members(body) {
        let results = member(&members, "results")?;
        let rows = resp::parts(members[results])?;
        let new: Vec<&[u8]> =
            wanted.order.iter().filter_map(|row| rows.get(*row)).copied().collect();
        let new = resp::array(&new);
        let total = member(&members, "total_results");
        let counted = total.and_then(|total| counted(members[total], wanted, rows.len()));
        members[results] = &new;
        if let (Some(total), Some(counted)) = (total, &counted) {
            members[total] = counted.as_bytes();
        }
        return Some(resp::map(&members));
    }
    let hits = Hits::of(Operation::Search, body).filter(|hits| hits.before == 1)?;
    let total = counted(hits.parts[0], wanted, hits.count())?;
    let mut new: Vec<&[u8]> = vec![total.as_bytes()];
    for row in wanted.order.iter().filter(|row| **row < hits.count()) {
        let start = 1 + row * hits.each;
        new.extend_from_slice(&hits.parts[start..start + hits.each]);
    }
    Some(resp::array(&new))
}

/// The number of all hits, as it will be.
fn counted(number: &[u8], wanted: &Arrangement, rows: usize) -> Option<String> {
    let text = std::str::from_utf8(number.strip_prefix(b":")?).ok()?;
    let total = wanted.total(rows, text.trim_end().parse().ok()?);
    Some(format!(":{total}\r\n"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TWO: &[u8] = b"*5\r\n:2\r\n$2\r\nd1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n$2\r\nd2\r\n*2\r\n$1\r\na\r\n$1\r\nc\r\n";
    const MAP: &[u8] = b"%2\r\n$13\r\ntotal_results\r\n:2\r\n$7\r\nresults\r\n*2\r\n%2\r\n$2\r\nid\r\n$2\r\nd1\r\n$6\r\nvalues\r\n*0\r\n%1\r\n+id\r\n+d2\r\n";

    fn order(order: &[usize]) -> Arrangement {
        Arrangement { order: order.to_vec(), scores: None }
    }

    #[test]
    fn hits_of_both_versions_are_arranged() {
        for body in [TWO, MAP] {
            let list = listing(body).unwrap();
            assert_eq!(list.ids, [Some("d1".to_owned()), Some("d2".to_owned())]);
            assert_eq!(arranged(body, &order(&[0, 1])).unwrap(), body);
            let one = arranged(body, &order(&[1])).unwrap();
            assert_eq!(listing(&one).unwrap().ids, [Some("d2".to_owned())]);
            assert!(one.windows(4).any(|four| four == b":1\r\n"), "{one:?}");
            assert_eq!(listing(&arranged(body, &order(&[])).unwrap()).unwrap().rows, 0);
        }
        let scored = b"*4\r\n:1\r\n$2\r\nd1\r\n$3\r\n0.5\r\n*0\r\n";
        assert_eq!(listing(scored).unwrap().rows, 1);
        assert_eq!(listing(b"*1\r\n$1\r\nx\r\n"), None);
        assert_eq!(listing(b"-no such index\r\n"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop::sample::select(b"*%:$+12\r\nid".to_vec()), 0..60)) {
            let _ = listing(&bytes);
            let _ = arranged(&bytes, &order(&[1, 0, 7]));
        }
    }
}
