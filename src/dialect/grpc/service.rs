//! The services of vector stores: what a method does, what it is asked about, and what it writes.

use crate::dialect::class::short;
use crate::exchange::{Facts, Operation};
use crate::wire::protobuf::{below, first, number, text};

/// Whose messages these are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Service {
    Any,
    Milvus,
    Pinecone,
    Qdrant,
    Weaviate,
}

/// What a method of a known service does; a base path may stand before it.
pub fn operation(path: &str) -> Operation {
    let mut parts = path.rsplit('/');
    let (method, service) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match service {
        "qdrant.Points" => match method {
            "Query"
            | "QueryBatch"
            | "QueryGroups"
            | "Search"
            | "SearchBatch"
            | "SearchGroups"
            | "Recommend"
            | "RecommendBatch"
            | "RecommendGroups"
            | "Discover"
            | "DiscoverBatch"
            | "SearchMatrixPairs"
            | "SearchMatrixOffsets" => Operation::Search,
            "Get" | "Scroll" | "Count" | "Facet" => Operation::Read,
            "Upsert" | "UpdateBatch" | "UpdateVectors" | "SetPayload" | "OverwritePayload" => {
                Operation::Upsert
            }
            "Delete" | "DeleteVectors" | "DeletePayload" | "ClearPayload" => Operation::Delete,
            _ => Operation::Other,
        },
        "milvus.proto.milvus.MilvusService" => match method {
            "Search" | "HybridSearch" => Operation::Search,
            "Query" => Operation::Read,
            "Insert" | "Upsert" => Operation::Upsert,
            "Delete" => Operation::Delete,
            _ => Operation::Other,
        },
        "weaviate.v1.Weaviate" => match method {
            "Search" => Operation::Search,
            "Aggregate" | "TenantsGet" => Operation::Read,
            "BatchObjects" | "BatchReferences" | "BatchStream" | "BatchSend" => Operation::Upsert,
            "BatchDelete" => Operation::Delete,
            _ => Operation::Other,
        },
        // Pinecone's package has no name of its own.
        "VectorService" => match method {
            "Query" => Operation::Search,
            "Fetch" | "FetchByMetadata" | "List" | "DescribeIndexStats" => Operation::Read,
            "Upsert" | "Update" => Operation::Upsert,
            "Delete" => Operation::Delete,
            _ => Operation::Other,
        },
        _ => Operation::Other,
    }
}

/// The message of a request that holds one; as much of it as is there. None where it is compressed.
fn message_of(body: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = body.split_first_chunk::<5>()?;
    let [0, length @ ..] = *prefix else { return None };
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    Some(rest.get(..length).unwrap_or(rest))
}

fn service_of(path: &str) -> Service {
    match path.rsplit('/').nth(1).unwrap_or_default() {
        "qdrant.Points" => Service::Qdrant,
        "milvus.proto.milvus.MilvusService" => Service::Milvus,
        "weaviate.v1.Weaviate" => Service::Weaviate,
        "VectorService" => Service::Pinecone,
        _ => Service::Any,
    }
}

/// What a call asks for.
pub(super) fn facts(path: &str, body: &[u8]) -> Facts {
    let operation = operation(path);
    let message = message_of(body).unwrap_or_default();
    let named = |field| text(message, field).filter(|name| !name.is_empty()).map(short);
    let within = |outer: Option<&str>, name: Option<&str>| match (outer, name) {
        (Some(outer), Some(name)) => Some(format!("{outer}/{name}")),
        (None, name) => name.map(str::to_owned),
        (Some(_), None) => None,
    };
    let count = |field| number(message, field).and_then(|number| u32::try_from(number).ok());
    let (collection, top_k) = match service_of(path) {
        Service::Any => (None, None),
        Service::Qdrant => {
            let limit = if path.ends_with("/Query") { count(8) } else { None };
            (named(1).map(str::to_owned), limit)
        }
        Service::Milvus => (within(named(2), named(3)), None),
        Service::Weaviate if operation == Operation::Search => {
            (within(named(10), named(1)), count(30))
        }
        Service::Weaviate => {
            let objects = below(message, &[1]).unwrap_or_default();
            let name = |field| objects.first().and_then(|object| text(object, field)).map(short);
            (within(name(5).filter(|tenant| !tenant.is_empty()), name(4)), None)
        }
        Service::Pinecone if operation == Operation::Other || message.is_empty() => (None, None),
        Service::Pinecone => {
            let field = if operation == Operation::Search { 1 } else { 2 };
            let name = named(field).unwrap_or("__default__");
            (Some(name.to_owned()), count(2))
        }
    };
    Facts { operation, collection, top_k, ..Facts::default() }
}

/// The ids that a write names.
pub(super) fn written(path: &str, body: &[u8]) -> Vec<String> {
    let message = message_of(body).unwrap_or_default();
    let ids = match (service_of(path), path.rsplit('/').next()) {
        (Service::Qdrant, Some("Upsert")) => {
            let points = below(message, &[3, 1]).unwrap_or_default();
            points.into_iter().map(point_id).collect()
        }
        (Service::Pinecone, Some("Upsert")) | (Service::Weaviate, Some("BatchObjects")) => {
            let rows = below(message, &[1]).unwrap_or_default();
            rows.into_iter().map(|row| text(row, 1).map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    ids.into_iter().flatten().collect()
}

/// Qdrant's id of a point: a number or a UUID.
pub(super) fn point_id(message: &[u8]) -> Option<String> {
    match first(message, 2) {
        Some(uuid) => std::str::from_utf8(uuid).ok().map(str::to_owned),
        // The number 0 is not written.
        None => Some(number(message, 1).unwrap_or_default().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Event;
    use crate::wire::protobuf::put_field;

    #[test]
    fn methods_of_known_services_name_the_operation() {
        for (path, want) in [
            ("/qdrant.Points/Query", Operation::Search),
            ("/base/qdrant.Points/Upsert", Operation::Upsert),
            ("/qdrant.Points/Delete", Operation::Delete),
            ("/qdrant.Points/Scroll", Operation::Read),
            ("/qdrant.Collections/List", Operation::Other),
            ("/milvus.proto.milvus.MilvusService/HybridSearch", Operation::Search),
            ("/milvus.proto.milvus.MilvusService/Insert", Operation::Upsert),
            ("/weaviate.v1.Weaviate/Search", Operation::Search),
            ("/weaviate.v1.Weaviate/BatchDelete", Operation::Delete),
            ("/weaviate.v1.Weaviate/TenantsGet", Operation::Read),
            ("/VectorService/Query", Operation::Search),
            ("/VectorService/Fetch", Operation::Read),
            ("/", Operation::Other),
        ] {
            assert_eq!(operation(path), want, "{path}");
        }
    }

    #[test]
    fn requests_name_their_collection_and_ids() {
        let mut message = Vec::new();
        put_field(&mut message, 1, b"docs");
        let mut point = Vec::new();
        put_field(&mut point, 1, &[0x08, 7]);
        put_field(&mut message, 3, &point);
        let body = Event::grpc(&message).raw;
        assert_eq!(facts("/qdrant.Points/Upsert", &body).collection.as_deref(), Some("docs"));
        assert_eq!(written("/qdrant.Points/Upsert", &body), ["7"]);
        let mut asked = Vec::new();
        put_field(&mut asked, 1, b"Doc");
        put_field(&mut asked, 10, b"acme");
        let body = Event::grpc(&asked).raw;
        let facts = facts("/weaviate.v1.Weaviate/Search", &body);
        assert_eq!(facts.collection.as_deref(), Some("acme/Doc"));
        assert_eq!(written("/qdrant.Points/Upsert", b"\x01\0\0\0\0"), [""; 0]);
    }
}
