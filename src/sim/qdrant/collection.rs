//! A collection: which vectors its points have, the points themselves, and what it says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::distance::Distance;
use super::point::{Point, PointId};
use super::refusal::Refusal;
use crate::sim::{Settings, corpus, embedding};

/// Points with vectors of the same make.
#[derive(Debug)]
pub(super) struct Collection {
    vectors: Make,
    points: BTreeMap<PointId, Point>,
    /// Fields for which an index was asked; searches look at every point all the same.
    indexes: Map<String, Value>,
}

/// `PUT /collections/NAME`
#[derive(Debug, Deserialize)]
pub(super) struct Create {
    vectors: Option<Make>,
    sparse_vectors: Option<Map<String, Value>>,
}

/// `PUT /collections/NAME/index`
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    field_name: String,
    field_schema: Option<Value>,
}

/// The vectors that each point may have.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Make {
    Unnamed(VectorMake),
    Named(BTreeMap<String, VectorMake>),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct VectorMake {
    pub(super) size: usize,
    pub(super) distance: Distance,
}

impl Collection {
    pub(super) fn new(create: Create) -> Result<Self, Refusal> {
        if create.sparse_vectors.is_some_and(|sparse| !sparse.is_empty()) {
            return Err(Refusal::not_simulated("a sparse vector"));
        }
        let vectors = create.vectors.unwrap_or_else(|| Make::Named(BTreeMap::new()));
        Ok(Self { vectors, points: BTreeMap::new(), indexes: Map::new() })
    }

    /// The collection that a store is born with.
    pub(super) fn of_documents(settings: &Settings) -> Self {
        let size = settings.embedding_dimensions;
        let points = corpus::documents(settings.documents, settings.seed).zip(1..).map(
            |(document, number)| {
                let text = format!("{}\n{}", document.title, document.text);
                let vectors = BTreeMap::from([(String::new(), embedding::embed(&text, size))]);
                let payload = document.payload(number);
                (PointId::Number(number as u64), Point { version: 0, vectors, payload })
            },
        );
        Self {
            vectors: Make::Unnamed(VectorMake { size, distance: Distance::Cosine }),
            points: points.collect(),
            indexes: Map::new(),
        }
    }

    pub(super) fn points(&self) -> &BTreeMap<PointId, Point> {
        &self.points
    }

    pub(super) fn points_mut(&mut self) -> &mut BTreeMap<PointId, Point> {
        &mut self.points
    }

    /// The make of a vector by its name, which is empty for the unnamed one.
    pub(super) fn make(&self, name: &str) -> Result<VectorMake, Refusal> {
        let found = match &self.vectors {
            Make::Unnamed(make) => name.is_empty().then_some(*make),
            Make::Named(makes) => makes.get(name).copied(),
        };
        found.ok_or_else(|| Refusal::no_such_vector(name))
    }

    /// A vector as it is kept or compared: checked, and of length 1 where cosine needs it.
    pub(super) fn ready(&self, name: &str, mut vector: Vec<f32>) -> Result<Vec<f32>, Refusal> {
        let make = self.make(name)?;
        if vector.len() != make.size {
            return Err(Refusal::wrong_dimensions(make.size, vector.len()));
        }
        if make.distance == Distance::Cosine {
            embedding::normalise(&mut vector);
        }
        Ok(vector)
    }

    pub(super) fn add_index(&mut self, index: Index) {
        let kind = match index.field_schema {
            Some(Value::String(kind)) => Value::String(kind),
            Some(Value::Object(options)) => {
                options.get("type").cloned().unwrap_or("keyword".into())
            }
            _ => "keyword".into(),
        };
        let described = json!({ "data_type": kind, "points": self.points.len() });
        self.indexes.insert(index.field_name, described);
    }

    pub(super) fn remove_index(&mut self, field: &str) {
        self.indexes.remove(field);
    }

    /// `GET /collections/NAME`
    pub(super) fn describe(&self) -> Value {
        json!({
            "status": "green",
            "optimizer_status": "ok",
            "indexed_vectors_count": self.points.len(),
            "points_count": self.points.len(),
            "segments_count": 1,
            "config": {
                "params": {
                    "vectors": self.vectors,
                    "shard_number": 1,
                    "replication_factor": 1,
                    "write_consistency_factor": 1,
                    "on_disk_payload": true,
                },
                "hnsw_config": {
                    "m": 16, "ef_construct": 100, "full_scan_threshold": 10_000,
                    "max_indexing_threads": 0, "on_disk": false,
                },
                "optimizer_config": {
                    "deleted_threshold": 0.2, "vacuum_min_vector_number": 1000,
                    "default_segment_number": 0, "max_segment_size": null,
                    "memmap_threshold": null, "indexing_threshold": 10_000,
                    "flush_interval_sec": 5, "max_optimization_threads": null,
                },
                "wal_config": { "wal_capacity_mb": 32, "wal_segments_ahead": 0 },
                "quantization_config": null,
            },
            "payload_schema": self.indexes,
        })
    }
}
