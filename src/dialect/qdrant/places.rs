//! Where the hits of Qdrant's answers stand, and the ids that a write names.

use std::sync::LazyLock;

use crate::dialect::listing::id_of;
use crate::dialect::{Outline, Slot};
use crate::exchange::Operation;
use crate::wire::json::{Paths, items};

/// One list: `query` (`result.points`), the older `search` (`result`), groups, pages of a scroll.
static ONE: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("result", Slot::Rows),
        ("result[*].id", Slot::HitId),
        ("result[*].score", Slot::Score),
        ("result.points", Slot::Rows),
        ("result.points[*].id", Slot::HitId),
        ("result.points[*].score", Slot::Score),
        ("result.groups", Slot::Rows),
        ("result.groups[*].id", Slot::HitId),
        ("usage", Slot::Usage),
    ])
});

/// Several: `query/batch` has objects with points, `search/batch` lists.
static BATCH: LazyLock<Paths<Slot>> = LazyLock::new(|| {
    Paths::new(&[
        ("result[*]", Slot::Rows),
        ("result[*][*].id", Slot::HitId),
        ("result[*][*].score", Slot::Score),
        ("result[*].points", Slot::Rows),
        ("result[*].points[*].id", Slot::HitId),
        ("result[*].points[*].score", Slot::Score),
        ("usage", Slot::Usage),
    ])
});

static HAS_POINTS: LazyLock<Paths<()>> = LazyLock::new(|| Paths::new(&[("points", ())]));

static WRITTEN: LazyLock<Paths<()>> = LazyLock::new(|| {
    Paths::new(&[
        ("points[*].id", ()),
        ("batch.ids[*]", ()),
        ("operations[*].upsert.points[*].id", ()),
    ])
});

/// Where the parts of an answer stand.
pub(super) fn outline(operation: Operation, payload: &[u8]) -> Outline {
    if !matches!(operation, Operation::Search | Operation::Read) {
        return Outline::default();
    }
    let one = Outline::of(&ONE, payload);
    match one.first(Slot::Rows).and_then(|rows| items(payload, rows.span.clone())) {
        Some(rows) if rows.first().is_some_and(|row| is_list(&payload[row.clone()])) => {
            Outline::of(&BATCH, payload)
        }
        _ => one,
    }
}

/// Whether an item of a result is the list of one search, not a hit.
fn is_list(item: &[u8]) -> bool {
    item.starts_with(b"[") || HAS_POINTS.find(item).is_some_and(|found| !found.is_empty())
}

/// The ids that an upsert names.
pub(super) fn written(body: &[u8]) -> Vec<String> {
    let found = WRITTEN.find(body).unwrap_or_default();
    found.iter().map(|spot| id_of(spot.of(body))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::listing::{Arrangement, arranged, listings};

    #[test]
    fn each_shape_has_its_lists() {
        for (body, lists) in [
            (
                r#"{"result":{"points":[{"id":1,"score":0.9},{"id":2,"score":0.8}]},"status":"ok"}"#,
                1,
            ),
            (r#"{"result":[{"id":1,"score":0.9},{"id":2,"score":0.8}],"status":"ok"}"#, 1),
            (
                r#"{"result":[{"points":[{"id":1,"score":0.9},{"id":2,"score":0.8}]},{"points":[]}]}"#,
                2,
            ),
            (r#"{"result":[[{"id":1,"score":0.9},{"id":2,"score":0.8}],[]]}"#, 2),
        ] {
            let outline = outline(Operation::Search, body.as_bytes());
            let found = listings(body.as_bytes(), &outline);
            assert_eq!(found.len(), lists, "{body}");
            assert_eq!(found[0].scores, [Some(0.9), Some(0.8)], "{body}");
            assert_eq!(found[0].ids[1].as_deref(), Some("2"), "{body}");
            let same: Vec<_> = found.iter().map(|one| Arrangement::same(one.rows)).collect();
            assert_eq!(arranged(body.as_bytes(), &outline, &same).unwrap(), body);
        }
        let groups = br#"{"result":{"groups":[{"id":"a","hits":[{"id":1,"score":0.9}]},{"id":"b","hits":[]}]}}"#;
        let found = listings(groups, &outline(Operation::Search, groups));
        assert_eq!((found[0].rows, found[0].ids[0].as_deref()), (2, Some("a")));
        let none = listings(b"{\"result\":[]}", &outline(Operation::Search, b"{\"result\":[]}"));
        assert_eq!(none[0].rows, 0);
        assert!(outline(Operation::Upsert, br#"{"result":{"operation_id":1}}"#).spots.is_empty());
    }

    #[test]
    fn writes_name_their_ids() {
        assert_eq!(written(br#"{"points":[{"id":7,"vector":[0.1]},{"id":"u-1"}]}"#), ["7", "u-1"]);
        assert_eq!(written(br#"{"batch":{"ids":[1,2]}}"#), ["1", "2"]);
    }
}
