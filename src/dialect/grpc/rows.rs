//! Hits in messages: one message for each, in a list at a known place (Qdrant, Pinecone, Weaviate).

use super::service::{Service, point_id};
use crate::dialect::{Arrangement, Listing};
use crate::exchange::Operation;
use crate::wire::protobuf::{
    Field, Kind, below, changed, fields, first, number, put_field, put_float, text,
};

/// Where the hits of an answer are.
struct Place {
    /// The way to the messages that each hold a list.
    lists: &'static [u32],
    /// The field that is a hit.
    row: u32,
}

impl Place {
    fn of(service: Service, operation: Operation, body: &[u8]) -> Option<Self> {
        let place = |lists, row| Some(Self { lists, row });
        match (service, operation) {
            (Service::Pinecone, Operation::Search) => place(&[], 2),
            (Service::Weaviate, Operation::Search) => place(&[], 2),
            (Service::Qdrant, Operation::Search) => {
                // A hit begins with its id, which is a number or a text; the answer to one search of
                // several (or the groups of one) with a hit.
                let rows = below(body, &[1])?;
                let nested =
                    |row: &&[u8]| first(row, 1).is_some_and(|part| part.first() == Some(&0x0a));
                let empty = |row: &&[u8]| row.is_empty();
                match rows.iter().any(nested) || !rows.is_empty() && rows.iter().all(empty) {
                    true => place(&[1], 1),
                    false => place(&[], 1),
                }
            }
            // A page has its points in the second field, behind where the next begins.
            (Service::Qdrant, Operation::Read) => match first(body, 2) {
                Some(_) => place(&[], 2),
                None => place(&[], 1),
            },
            _ => None,
        }
    }
}

/// The lists of an answer; None where this is no answer that has any.
pub(super) fn listings(
    service: Service,
    operation: Operation,
    body: &[u8],
) -> Option<Vec<Listing>> {
    let place = Place::of(service, operation, body)?;
    let listing = |list: &[u8]| {
        let rows = rows_of(&fields(list)?, place.row);
        let rows: Vec<&[u8]> = rows.iter().map(|row| &list[row.value.clone()]).collect();
        let score = |row: &&[u8]| score_of(service, row).map(|(_, score)| f64::from(score));
        Some(Listing {
            rows: rows.len(),
            scores: rows.iter().map(score).collect(),
            ids: rows.iter().map(|row| id_of(service, row)).collect(),
        })
    };
    below(body, place.lists)?.into_iter().map(listing).collect()
}

/// The answer with its lists arranged.
pub(super) fn arranged(
    service: Service,
    operation: Operation,
    body: &[u8],
    lists: &[Arrangement],
) -> Option<Vec<u8>> {
    let place = Place::of(service, operation, body)?;
    let mut wanted = lists.iter();
    changed(body, place.lists, &mut |list| {
        let Some(wanted) = wanted.next() else { return Some(list.to_vec()) };
        let all = fields(list)?;
        let rows = rows_of(&all, place.row);
        let mut out = Vec::with_capacity(list.len());
        let mut first = true;
        for field in &all {
            if field.number != place.row || field.kind != Kind::Length {
                out.extend_from_slice(&list[field.span.clone()]);
            } else if std::mem::take(&mut first) {
                for row in &wanted.order {
                    let Some(field) = rows.get(*row) else { continue };
                    let hit = &list[field.value.clone()];
                    match wanted.scores.as_ref().and_then(|scores| scores.get(*row)) {
                        Some(score) => {
                            put_field(&mut out, place.row, &scored(service, hit, *score)?)
                        }
                        None => out.extend_from_slice(&list[field.span.clone()]),
                    }
                }
            }
        }
        Some(out)
    })
}

fn rows_of(all: &[Field], row: u32) -> Vec<Field> {
    let is_row = |field: &&Field| field.number == row && field.kind == Kind::Length;
    all.iter().filter(is_row).cloned().collect()
}

fn id_of(service: Service, row: &[u8]) -> Option<String> {
    match service {
        Service::Qdrant => point_id(first(row, 1)?),
        Service::Weaviate => text(first(row, 2)?, 1).map(str::to_owned),
        _ => text(row, 1).map(str::to_owned),
    }
}

/// The way to the score of a hit, and what it is; what is not written is 0.
fn score_of(service: Service, row: &[u8]) -> Option<(&'static [u32], f32)> {
    let (way, message): (&'static [u32], &[u8]) = match service {
        Service::Qdrant => (&[3], row),
        Service::Pinecone => (&[2], row),
        Service::Weaviate => {
            // Each has a flag behind it that says whether it is meant.
            let metadata = first(row, 2)?;
            let meant = |field: u32| number(metadata, field + 1) == Some(1);
            let ways: [&'static [u32]; 3] = [&[2, 7], &[2, 9], &[2, 11]];
            (ways.into_iter().find(|way| meant(way[1]))?, metadata)
        }
        Service::Any | Service::Milvus => return None,
    };
    let field = *way.last()?;
    let found = fields(message)?.into_iter().find(|it| it.number == field && it.kind == Kind::Four);
    let bytes = found.and_then(|found| message[found.value].try_into().ok());
    Some((way, bytes.map_or(0.0, f32::from_le_bytes)))
}

/// A hit with another score, in the place of its old one.
fn scored(service: Service, row: &[u8], score: f64) -> Option<Vec<u8>> {
    let Some((way, _)) = score_of(service, row) else { return Some(row.to_vec()) };
    let (field, above) = way.split_last()?;
    changed(row, above, &mut |message| {
        let mut out = Vec::with_capacity(message.len() + 5);
        let mut put = false;
        for part in fields(message)? {
            if part.number == *field && part.kind == Kind::Four {
                put_float(&mut out, *field, score as f32);
                put = true;
            } else {
                out.extend_from_slice(&message[part.span]);
            }
        }
        if !put {
            put_float(&mut out, *field, score as f32);
        }
        Some(out)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Qdrant's ScoredPoint.
    fn point(id: u8, score: f32) -> Vec<u8> {
        let mut point = Vec::new();
        put_field(&mut point, 1, &[0x08, id]);
        put_field(&mut point, 2, b"\x0a\x01k\x12\x02\x1a\0");
        put_float(&mut point, 3, score);
        point.extend([0x28, 3]);
        point
    }

    fn answer(points: &[(u8, f32)]) -> Vec<u8> {
        let mut body = Vec::new();
        points.iter().for_each(|(id, score)| put_field(&mut body, 1, &point(*id, *score)));
        body.extend([0x11, 1, 2, 3, 4, 5, 6, 7, 8]);
        body
    }

    fn told(body: &[u8]) -> Vec<Vec<(String, f32)>> {
        let lists = listings(Service::Qdrant, Operation::Search, body).unwrap();
        let hits = |list: Listing| {
            let ids = list.ids.into_iter().map(Option::unwrap);
            ids.zip(list.scores.into_iter().map(|score| score.unwrap() as f32)).collect()
        };
        lists.into_iter().map(hits).collect()
    }

    fn arrange(order: &[usize], scores: Option<&[f64]>) -> Arrangement {
        Arrangement { order: order.to_vec(), scores: scores.map(<[f64]>::to_vec) }
    }

    #[test]
    fn hits_of_one_search() {
        let body = answer(&[(1, 0.5), (2, 0.25), (3, 0.0)]);
        let one = |id: &str, score| (id.to_owned(), score);
        assert_eq!(told(&body), [[one("1", 0.5), one("2", 0.25), one("3", 0.0)]]);
        let search =
            |wanted| arranged(Service::Qdrant, Operation::Search, &body, &[wanted]).unwrap();
        assert_eq!(search(Arrangement::same(3)), body);
        assert_eq!(search(arrange(&[], None)), body[body.len() - 9..]);
        let new = search(arrange(&[2, 0], Some(&[0.5, 0.25, 1.0])));
        assert_eq!(told(&new), [[one("3", 1.0), one("1", 0.5)]]);
        assert!(new.ends_with(&[0x11, 1, 2, 3, 4, 5, 6, 7, 8]));
    }

    #[test]
    fn hits_of_several_searches() {
        let mut body = Vec::new();
        let results = [answer(&[(1, 0.5), (2, 0.25)]), Vec::new(), answer(&[(3, 0.5)])];
        results.iter().for_each(|one| put_field(&mut body, 1, &one[..one.len().saturating_sub(9)]));
        assert_eq!(told(&body).iter().map(Vec::len).collect::<Vec<_>>(), [2, 0, 1]);
        let wanted = [arrange(&[1], None), arrange(&[], None), arrange(&[], None)];
        let new = arranged(Service::Qdrant, Operation::Search, &body, &wanted).unwrap();
        assert_eq!(told(&new)[0], [("2".to_owned(), 0.25)]);
    }

    #[test]
    fn hits_of_pinecone_and_weaviate() {
        let mut hit = Vec::new();
        put_field(&mut hit, 1, b"a");
        put_float(&mut hit, 2, 0.75);
        let mut pinecone = Vec::new();
        put_field(&mut pinecone, 2, &hit);
        put_field(&mut pinecone, 3, b"space");
        let lists = listings(Service::Pinecone, Operation::Search, &pinecone).unwrap();
        assert_eq!((lists[0].ids[0].as_deref(), lists[0].scores[0]), (Some("a"), Some(0.75)));
        let mut metadata = Vec::new();
        put_field(&mut metadata, 1, b"uuid");
        put_float(&mut metadata, 7, 0.125);
        metadata.extend([0x40, 1]);
        let mut hit = Vec::new();
        put_field(&mut hit, 1, b"");
        put_field(&mut hit, 2, &metadata);
        let mut weaviate = Vec::new();
        put_field(&mut weaviate, 2, &hit);
        let search =
            |body: &[u8]| listings(Service::Weaviate, Operation::Search, body).unwrap().remove(0);
        assert_eq!(search(&weaviate).scores, [Some(0.125)]);
        assert_eq!(search(&weaviate).ids, [Some("uuid".to_owned())]);
        let wanted = [arrange(&[0, 0], Some(&[0.5]))];
        let new = arranged(Service::Weaviate, Operation::Search, &weaviate, &wanted).unwrap();
        assert_eq!(search(&new).scores, [Some(0.5), Some(0.5)]);
    }

    proptest! {
        #[test]
        fn the_same_order_is_byte_for_byte(points in prop::collection::vec((0..200u8, -1.0..1.0f32), 0..9)) {
            let body = answer(&points);
            let wanted = [Arrangement::same(points.len())];
            prop_assert_eq!(arranged(Service::Qdrant, Operation::Search, &body, &wanted).unwrap(), body);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            for service in [Service::Qdrant, Service::Pinecone, Service::Weaviate] {
                for operation in [Operation::Search, Operation::Read] {
                    let lists = listings(service, operation, &bytes).unwrap_or_default();
                    let wanted: Vec<_> = lists.iter().map(|_| arrange(&[1, 0], Some(&[1.0]))).collect();
                    let _ = arranged(service, operation, &bytes, &wanted);
                }
            }
        }
    }
}
