//! Reading points: nearest to a vector, by filter, by page, by id. Every point is looked at, so
//! results are exact.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::collection::Collection;
use super::filter::Filter;
use super::parse_value;
use super::point::{Point, PointId};
use super::refusal::Refusal;

/// `POST …/points/query/batch` and its older sister.
#[derive(Debug, Deserialize)]
pub(super) struct Batch<T> {
    pub(super) searches: Vec<T>,
}

/// `POST …/points/query`
#[derive(Debug, Deserialize)]
pub(super) struct Query {
    query: Option<Value>,
    prefetch: Option<Value>,
    using: Option<String>,
    #[serde(flatten)]
    shape: Shape,
}

/// `POST …/points/search`, the older way to ask.
#[derive(Debug, Deserialize)]
pub(super) struct Search {
    vector: SearchVector,
    #[serde(flatten)]
    shape: Shape,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum SearchVector {
    Unnamed(Vec<f32>),
    Named { name: String, vector: Vec<f32> },
}

/// What both ways have in common.
#[derive(Debug, Deserialize)]
struct Shape {
    filter: Option<Filter>,
    limit: Option<usize>,
    offset: Option<usize>,
    score_threshold: Option<f32>,
    with_payload: Option<WithPayload>,
    #[serde(alias = "with_vectors")]
    with_vector: Option<WithVector>,
}

/// `POST …/points/scroll`
#[derive(Debug, Deserialize)]
pub(super) struct Scroll {
    filter: Option<Filter>,
    limit: Option<usize>,
    offset: Option<PointId>,
    order_by: Option<OrderBy>,
    with_payload: Option<WithPayload>,
    #[serde(alias = "with_vectors")]
    with_vector: Option<WithVector>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OrderBy {
    Key(String),
    Options { key: String, direction: Option<String> },
}

/// `POST …/points/count`
#[derive(Debug, Deserialize)]
pub(super) struct Count {
    filter: Option<Filter>,
}

/// `POST …/points`
#[derive(Debug, Deserialize)]
pub(super) struct Retrieve {
    ids: Vec<PointId>,
    with_payload: Option<WithPayload>,
    #[serde(alias = "with_vectors")]
    with_vector: Option<WithVector>,
}

/// How much of the payload is wanted.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum WithPayload {
    All(bool),
    Keys(Vec<String>),
    Selected { include: Option<Vec<String>>, exclude: Option<Vec<String>> },
}

/// Which vectors are wanted.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum WithVector {
    All(bool),
    Names(Vec<String>),
}

/// A search, ready to run.
#[derive(Debug)]
pub(super) struct Plan {
    target: Target,
    /// The name of the vector to compare with.
    using: String,
    shape: Shape,
}

#[derive(Debug)]
enum Target {
    /// Nothing to compare with: points by id.
    Any,
    /// Near this vector; points that stood for it are left out.
    Near { vector: Vec<f32>, except: Vec<PointId> },
}

/// A point in an answer.
#[derive(Debug, Serialize)]
pub(super) struct Found<'a> {
    id: &'a PointId,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    payload: Option<Map<String, Value>>,
    vector: Option<Vectors<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Vectors<'a> {
    Unnamed(&'a [f32]),
    Named(BTreeMap<&'a str, &'a [f32]>),
}

/// A page of points.
#[derive(Debug, Serialize)]
pub(super) struct Page<'a> {
    points: Vec<Found<'a>>,
    next_page_offset: Option<&'a PointId>,
}

impl Query {
    pub(super) fn plan(self, collection: &Collection) -> Result<Plan, Refusal> {
        if self.prefetch.is_some_and(|prefetch| prefetch != Value::Array(Vec::new())) {
            return Err(Refusal::not_simulated("`prefetch`"));
        }
        let using = self.using.unwrap_or_default();
        let target = Target::read(self.query.unwrap_or(Value::Null), &using, collection)?;
        Ok(Plan { target, using, shape: self.shape })
    }
}

impl Search {
    pub(super) fn plan(self) -> Plan {
        let (using, vector) = match self.vector {
            SearchVector::Unnamed(vector) => (String::new(), vector),
            SearchVector::Named { name, vector } => (name, vector),
        };
        Plan { target: Target::Near { vector, except: Vec::new() }, using, shape: self.shape }
    }
}

impl Target {
    fn read(query: Value, using: &str, collection: &Collection) -> Result<Self, Refusal> {
        let mut query = match query {
            Value::Null => return Ok(Self::Any),
            Value::Object(query) => query,
            example => return Self::near(vec![example], Vec::new(), using, collection),
        };
        if let Some(example) = query.remove("nearest") {
            return Self::near(vec![example], Vec::new(), using, collection);
        }
        let Some(mut recommend) = query.remove("recommend") else {
            let names: Vec<&str> = query.keys().map(String::as_str).collect();
            return Err(Refusal::not_simulated(&format!("query `{}`", names.join(", "))));
        };
        let mut examples = |key: &str| match recommend[key].take() {
            Value::Array(list) => list,
            _ => Vec::new(),
        };
        let (positive, negative) = (examples("positive"), examples("negative"));
        Self::near(positive, negative, using, collection)
    }

    /// Near the middle of the positive examples, away from the negative ones.
    fn near(
        positive: Vec<Value>,
        negative: Vec<Value>,
        using: &str,
        collection: &Collection,
    ) -> Result<Self, Refusal> {
        let mut except = Vec::new();
        let towards = middle(positive, using, collection, &mut except)?
            .ok_or_else(|| Refusal::bad_input("at least one positive example is needed"))?;
        let vector = match middle(negative, using, collection, &mut except)? {
            None => towards,
            Some(away) => towards.iter().zip(away).map(|(a, b)| a + a - b).collect(),
        };
        Ok(Self::Near { vector, except })
    }
}

/// The mean of examples, which are vectors or ids of points.
fn middle(
    examples: Vec<Value>,
    using: &str,
    collection: &Collection,
    except: &mut Vec<PointId>,
) -> Result<Option<Vec<f32>>, Refusal> {
    let mut sum: Option<Vec<f32>> = None;
    let number = examples.len() as f32;
    for example in examples {
        let vector = if example.is_array() {
            collection.ready(using, parse_value(example)?)?
        } else if example.is_object() {
            return Err(Refusal::not_simulated("a query that is no vector and no id"));
        } else {
            let id: PointId = parse_value(example)?;
            let point = collection.points().get(&id).ok_or_else(|| Refusal::no_such_point(&id))?;
            except.push(id);
            point.vectors.get(using).ok_or_else(|| Refusal::no_such_vector(using))?.clone()
        };
        match &mut sum {
            None => sum = Some(vector),
            Some(sum) => sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value),
        }
    }
    Ok(sum.map(
        |sum| if number > 1.0 { sum.iter().map(|value| value / number).collect() } else { sum },
    ))
}

/// The points of a search, nearest first.
pub(super) fn run(collection: &Collection, plan: Plan) -> Result<Vec<Found<'_>>, Refusal> {
    let Plan { target, using, shape } = plan;
    let Target::Near { vector, except } = target else {
        let wanted = matching(collection, shape.filter.as_ref());
        return Ok(wanted
            .skip(shape.offset.unwrap_or(0))
            .take(shape.limit.unwrap_or(10))
            .map(|(id, point)| shape.show(id, point, 1.0))
            .collect());
    };
    let distance = collection.make(&using)?.distance;
    let vector = collection.ready(&using, vector)?;
    let mut scored: Vec<(f32, &PointId, &Point)> = matching(collection, shape.filter.as_ref())
        .filter(|(id, _)| !except.contains(id))
        .filter_map(|(id, point)| {
            Some((distance.score(&vector, point.vectors.get(&using)?), id, point))
        })
        .filter(|(score, ..)| {
            shape.score_threshold.is_none_or(|least| distance.reaches(*score, least))
        })
        .collect();
    scored.sort_by(|a, b| distance.order(a.0, b.0).then_with(|| a.1.cmp(b.1)));
    Ok(scored
        .into_iter()
        .skip(shape.offset.unwrap_or(0))
        .take(shape.limit.unwrap_or(10))
        .map(|(score, id, point)| shape.show(id, point, score))
        .collect())
}

pub(super) fn scroll<'a>(collection: &'a Collection, page: &Scroll) -> Page<'a> {
    let limit = page.limit.unwrap_or(10);
    let mut wanted: Vec<_> = matching(collection, page.filter.as_ref())
        .filter(|(id, _)| page.offset.as_ref().is_none_or(|offset| *id >= offset))
        .collect();
    if let Some(order) = &page.order_by {
        order.sort(&mut wanted);
    }
    let next = wanted.get(limit).map(|(id, _)| *id).filter(|_| page.order_by.is_none());
    let points = wanted
        .into_iter()
        .take(limit)
        .map(|(id, point)| record(id, point, page.with_payload.as_ref(), page.with_vector.as_ref()))
        .collect();
    Page { points, next_page_offset: next }
}

pub(super) fn count(collection: &Collection, count: &Count) -> usize {
    matching(collection, count.filter.as_ref()).count()
}

pub(super) fn retrieve<'a>(collection: &'a Collection, wanted: &Retrieve) -> Vec<Found<'a>> {
    wanted
        .ids
        .iter()
        .filter_map(|id| collection.points().get_key_value(id))
        .map(|(id, point)| {
            record(id, point, wanted.with_payload.as_ref(), wanted.with_vector.as_ref())
        })
        .collect()
}

/// `GET …/points/ID`
pub(super) fn one<'a>(collection: &'a Collection, id: &PointId) -> Result<Found<'a>, Refusal> {
    let (id, point) =
        collection.points().get_key_value(id).ok_or_else(|| Refusal::no_such_point(id))?;
    Ok(record(id, point, None, Some(&WithVector::All(true))))
}

/// The points that a filter lets pass, by id.
fn matching<'a>(
    collection: &'a Collection,
    filter: Option<&Filter>,
) -> impl Iterator<Item = (&'a PointId, &'a Point)> {
    collection
        .points()
        .iter()
        .filter(move |(id, point)| filter.is_none_or(|filter| filter.matches(id, &point.payload)))
}

/// A point that was read rather than found: its payload comes unless it is not wanted.
fn record<'a>(
    id: &'a PointId,
    point: &'a Point,
    with_payload: Option<&WithPayload>,
    with_vector: Option<&WithVector>,
) -> Found<'a> {
    let payload = with_payload.unwrap_or(&WithPayload::All(true)).apply(&point.payload);
    let vector = with_vector.and_then(|with| with.apply(&point.vectors));
    Found { id, version: None, score: None, payload, vector }
}

impl Shape {
    fn show<'a>(&self, id: &'a PointId, point: &'a Point, score: f32) -> Found<'a> {
        Found {
            id,
            version: Some(point.version),
            score: Some(score),
            payload: self.with_payload.as_ref().and_then(|with| with.apply(&point.payload)),
            vector: self.with_vector.as_ref().and_then(|with| with.apply(&point.vectors)),
        }
    }
}

impl WithPayload {
    fn apply(&self, payload: &Map<String, Value>) -> Option<Map<String, Value>> {
        let keep = |wanted: &dyn Fn(&String) -> bool| {
            let kept = payload.iter().filter(|(key, _)| wanted(key));
            Some(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
        };
        match self {
            Self::All(false) => None,
            Self::All(true) => Some(payload.clone()),
            Self::Keys(keys) | Self::Selected { include: Some(keys), .. } => {
                keep(&|key| keys.contains(key))
            }
            Self::Selected { include: None, exclude } => {
                keep(&|key| exclude.as_ref().is_none_or(|keys| !keys.contains(key)))
            }
        }
    }
}

impl WithVector {
    fn apply<'a>(&self, vectors: &'a BTreeMap<String, Vec<f32>>) -> Option<Vectors<'a>> {
        let wanted = |name: &String| match self {
            Self::All(all) => *all,
            Self::Names(names) => names.contains(name),
        };
        if let Self::All(false) = self {
            return None;
        }
        if let Some(unnamed) = vectors.get("") {
            return Some(Vectors::Unnamed(unnamed));
        }
        let kept = vectors.iter().filter(|(name, _)| wanted(name));
        Some(Vectors::Named(
            kept.map(|(name, vector)| (name.as_str(), vector.as_slice())).collect(),
        ))
    }
}

impl OrderBy {
    /// Sorts by a number in the payload; points without it are left out, as an index would.
    fn sort(&self, points: &mut Vec<(&PointId, &Point)>) {
        let (key, falling) = match self {
            Self::Key(key) => (key, false),
            Self::Options { key, direction } => (key, direction.as_deref() == Some("desc")),
        };
        let value = |point: &Point| point.payload.get(key).and_then(Value::as_f64);
        points.retain(|(_, point)| value(point).is_some());
        points.sort_by(|(_, a), (_, b)| {
            let order = value(a).partial_cmp(&value(b)).unwrap_or(std::cmp::Ordering::Equal);
            if falling { order.reverse() } else { order }
        });
    }
}
