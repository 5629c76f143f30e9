//! Changes to points, alone or in batches.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::collection::Collection;
use super::filter::Filter;
use super::point::{GivenVectors, Point, PointId};
use super::refusal::Refusal;

/// `POST …/points/batch`
#[derive(Debug, Deserialize)]
pub(super) struct Batch {
    pub(super) operations: Vec<Operation>,
}

/// One change.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operation {
    Upsert(Upsert),
    Delete(Selection),
    SetPayload(SetPayload),
    OverwritePayload(SetPayload),
    DeletePayload(DeletePayload),
    ClearPayload(Selection),
    UpdateVectors(UpdateVectors),
    DeleteVectors(DeleteVectors),
}

/// Points as a list of structs, or as columns.
#[derive(Debug, Deserialize)]
pub(super) struct Upsert {
    points: Option<Vec<GivenPoint>>,
    batch: Option<Columns>,
}

#[derive(Debug, Deserialize)]
struct GivenPoint {
    id: PointId,
    vector: Option<GivenVectors>,
    payload: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
struct Columns {
    ids: Vec<PointId>,
    vectors: VectorColumns,
    payloads: Option<Vec<Option<Map<String, Value>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum VectorColumns {
    Unnamed(Vec<Vec<f32>>),
    Named(BTreeMap<String, Vec<Vec<f32>>>),
}

/// The points that a change is about.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Selection {
    Points { points: Vec<PointId> },
    Filter { filter: Filter },
}

#[derive(Debug, Deserialize)]
pub(super) struct SetPayload {
    payload: Map<String, Value>,
    points: Option<Vec<PointId>>,
    filter: Option<Filter>,
    /// Where in the payload it goes; the payload itself when not given.
    key: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct DeletePayload {
    keys: Vec<String>,
    points: Option<Vec<PointId>>,
    filter: Option<Filter>,
}

#[derive(Debug, Deserialize)]
pub(super) struct UpdateVectors {
    points: Vec<GivenPoint>,
}

#[derive(Debug, Deserialize)]
pub(super) struct DeleteVectors {
    vector: Vec<String>,
    points: Option<Vec<PointId>>,
    filter: Option<Filter>,
}

impl Collection {
    /// Makes a change, or none of it when something about it is wrong.
    pub(super) fn update(&mut self, operation: Operation, number: u64) -> Result<(), Refusal> {
        match operation {
            Operation::Upsert(upsert) => {
                for (id, point) in self.prepare(upsert, number)? {
                    self.points_mut().insert(id, point);
                }
            }
            Operation::Delete(selection) => {
                for id in self.select(selection) {
                    self.points_mut().remove(&id);
                }
            }
            Operation::SetPayload(set) => {
                let selection = Selection::from_parts(set.points, set.filter)?;
                self.each(selection, number, |point| {
                    place(&mut point.payload, set.key.as_deref()).extend(set.payload.clone());
                });
            }
            Operation::OverwritePayload(set) => {
                let selection = Selection::from_parts(set.points, set.filter)?;
                self.each(selection, number, |point| {
                    set.payload.clone_into(place(&mut point.payload, set.key.as_deref()));
                });
            }
            Operation::DeletePayload(delete) => {
                let selection = Selection::from_parts(delete.points, delete.filter)?;
                self.each(selection, number, |point| {
                    point.payload.retain(|key, _| !delete.keys.contains(key));
                });
            }
            Operation::ClearPayload(selection) => {
                self.each(selection, number, |point| point.payload.clear());
            }
            Operation::UpdateVectors(update) => self.update_vectors(update, number)?,
            Operation::DeleteVectors(delete) => {
                let selection = Selection::from_parts(delete.points, delete.filter)?;
                self.each(selection, number, |point| {
                    point.vectors.retain(|name, _| !delete.vector.contains(name));
                });
            }
        }
        Ok(())
    }

    /// The points of an upsert, checked.
    fn prepare(&self, upsert: Upsert, version: u64) -> Result<Vec<(PointId, Point)>, Refusal> {
        let given = match (upsert.points, upsert.batch) {
            (Some(points), _) => points,
            (None, Some(columns)) => columns.rows()?,
            (None, None) => return Err(Refusal::bad_input("`points` or `batch` is missing")),
        };
        given
            .into_iter()
            .map(|point| {
                let vectors = self.vectors(point.vector)?;
                let payload = point.payload.unwrap_or_default();
                Ok((point.id, Point { version, vectors, payload }))
            })
            .collect()
    }

    fn vectors(&self, given: Option<GivenVectors>) -> Result<BTreeMap<String, Vec<f32>>, Refusal> {
        given
            .map(GivenVectors::by_name)
            .unwrap_or_default()
            .into_iter()
            .map(|(name, vector)| {
                let ready = self.ready(&name, vector)?;
                Ok((name, ready))
            })
            .collect()
    }

    fn update_vectors(&mut self, update: UpdateVectors, version: u64) -> Result<(), Refusal> {
        for point in update.points {
            let vectors = self.vectors(point.vector)?;
            let kept = self.points_mut().get_mut(&point.id);
            let kept = kept.ok_or_else(|| Refusal::no_such_point(&point.id))?;
            kept.vectors.extend(vectors);
            kept.version = version;
        }
        Ok(())
    }

    fn select(&self, selection: Selection) -> Vec<PointId> {
        match selection {
            Selection::Points { points } => points,
            Selection::Filter { filter } => self
                .points()
                .iter()
                .filter(|(id, point)| filter.matches(id, &point.payload))
                .map(|(id, _)| id.clone())
                .collect(),
        }
    }

    fn each(&mut self, selection: Selection, version: u64, change: impl Fn(&mut Point)) {
        for id in self.select(selection) {
            if let Some(point) = self.points_mut().get_mut(&id) {
                change(point);
                point.version = version;
            }
        }
    }
}

impl Selection {
    fn from_parts(points: Option<Vec<PointId>>, filter: Option<Filter>) -> Result<Self, Refusal> {
        match (points, filter) {
            (Some(points), _) => Ok(Self::Points { points }),
            (None, Some(filter)) => Ok(Self::Filter { filter }),
            (None, None) => Err(Refusal::bad_input("either `points` or `filter` must be given")),
        }
    }
}

impl Columns {
    fn rows(self) -> Result<Vec<GivenPoint>, Refusal> {
        let number = self.ids.len();
        let vectors: Vec<GivenVectors> = match self.vectors {
            VectorColumns::Unnamed(vectors) => {
                vectors.into_iter().map(GivenVectors::Unnamed).collect()
            }
            VectorColumns::Named(columns) => (0..number)
                .map(|row| {
                    let named = columns.iter().filter_map(|(name, column)| {
                        Some((name.clone(), column.get(row)?.clone()))
                    });
                    GivenVectors::Named(named.collect())
                })
                .collect(),
        };
        let payloads = self.payloads.unwrap_or_else(|| vec![None; number]);
        if vectors.len() != number || payloads.len() != number {
            return Err(Refusal::bad_input(format!(
                "number of ids, vectors and payloads differ ({number}, {}, {})",
                vectors.len(),
                payloads.len(),
            )));
        }
        let rows = self.ids.into_iter().zip(vectors).zip(payloads);
        Ok(rows
            .map(|((id, vector), payload)| GivenPoint { id, vector: Some(vector), payload })
            .collect())
    }
}

/// The part of a payload that a dotted key names, made where it is missing.
fn place<'a>(payload: &'a mut Map<String, Value>, key: Option<&str>) -> &'a mut Map<String, Value> {
    let mut here = payload;
    for part in key.into_iter().flat_map(|key| key.split('.')) {
        let entry = here.entry(part.to_owned()).or_insert_with(|| Map::new().into());
        if !entry.is_object() {
            *entry = Map::new().into();
        }
        here = match entry {
            Value::Object(inner) => inner,
            _ => unreachable!("the entry was just made an object"),
        };
    }
    here
}
