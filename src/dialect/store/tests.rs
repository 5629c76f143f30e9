//! The stores' paths, answers and errors.

use super::*;
use crate::dialect::{FAILURE_CLASSES, by_kind};

fn store(kind: &str) -> &'static dyn Dialect {
    by_kind(kind).unwrap()
}

fn facts(kind: &str, method: &Method, path: &str, body: &str) -> Facts {
    store(kind).facts(method, &path.parse().unwrap(), &HeaderMap::new(), body.as_bytes())
}

#[test]
fn paths_name_the_operation() {
    const CHROMA: &str = "/api/v2/tenants/t/databases/d/collections/c1";
    for (kind, method, path, want) in [
        ("milvus", Method::POST, "/v2/vectordb/entities/search", Operation::Search),
        ("milvus", Method::POST, "/x/v2/vectordb/entities/upsert", Operation::Upsert),
        ("milvus", Method::POST, "/v2/vectordb/collections/list", Operation::Other),
        ("pinecone", Method::POST, "/query", Operation::Search),
        ("pinecone", Method::POST, "/records/namespaces/n/search", Operation::Search),
        ("pinecone", Method::GET, "/vectors/fetch", Operation::Read),
        ("pinecone", Method::POST, "/vectors/delete", Operation::Delete),
        ("weaviate", Method::POST, "/v1/graphql", Operation::Search),
        ("weaviate", Method::POST, "/v1/batch/objects", Operation::Upsert),
        ("weaviate", Method::DELETE, "/v1/objects/Doc/1", Operation::Delete),
        ("weaviate", Method::GET, "/v1/meta", Operation::Other),
        ("elasticsearch", Method::POST, "/docs/_search", Operation::Search),
        ("elasticsearch", Method::POST, "/_msearch", Operation::Search),
        ("elasticsearch", Method::PUT, "/_bulk", Operation::Upsert),
        ("opensearch", Method::POST, "/docs/_bulk", Operation::Upsert),
        ("opensearch", Method::GET, "/docs/_doc/7", Operation::Read),
        ("opensearch", Method::DELETE, "/docs/_doc/7", Operation::Delete),
        ("elasticsearch", Method::GET, "/", Operation::Other),
        ("elasticsearch", Method::GET, "/_cluster/health", Operation::Other),
        ("chroma", Method::POST, &format!("{CHROMA}/query"), Operation::Search),
        ("chroma", Method::POST, &format!("{CHROMA}/get"), Operation::Read),
        ("chroma", Method::POST, &format!("{CHROMA}/add"), Operation::Upsert),
        ("chroma", Method::POST, &format!("{CHROMA}/delete"), Operation::Delete),
        ("chroma", Method::GET, "/api/v2/heartbeat", Operation::Other),
    ] {
        let found = facts(kind, &method, path, "");
        assert_eq!(found.operation, want, "{kind} {method} {path}");
    }
}

#[test]
fn requests_name_what_they_are_about() {
    let post = |kind, path, body| {
        let found = facts(kind, &Method::POST, path, body);
        (found.collection.unwrap_or_default(), found.top_k)
    };
    let told = |name: &str, top_k| (name.to_owned(), top_k);
    let path = "/api/v2/tenants/t/databases/d/collections/c1/query";
    assert_eq!(post("chroma", path, r#"{"n_results":2}"#), told("t/d/c1", Some(2)));
    let body = r#"{"namespace":"acme","topK":3,"vector":[0.1]}"#;
    assert_eq!(post("pinecone", "/query", body), told("acme", Some(3)));
    assert_eq!(post("pinecone", "/query", "{}"), told("__default__", None));
    let body = r#"{"query":"{ Get { Foo(tenant: \"acme\", nearVector: {vector: [1]}) { t } } }"}"#;
    assert_eq!(post("weaviate", "/v1/graphql", body), told("acme/Foo", None));
    let body = r#"{"collectionName":"docs","data":[[0.1]],"limit":3}"#;
    assert_eq!(post("milvus", "/v2/vectordb/entities/search", body), told("docs", Some(3)));
    let body = r#"{"knn":{"field":"v","query_vector":[1],"k":5}}"#;
    assert_eq!(post("elasticsearch", "/docs/_search", body), told("docs", Some(5)));
    let body = r#"{"size":9,"query":{"knn":{"v":{"vector":[1],"k":4}}}}"#;
    assert_eq!(post("opensearch", "/docs/_search", body), told("docs", Some(4)));
}

#[test]
fn writes_name_their_ids() {
    let bulk = "{\"index\":{\"_index\":\"docs\",\"_id\":\"1\"}}\n{\"t\":\"a\"}\n{\"create\":{\"_id\":\"b\"}}\n{}\n";
    for (kind, path, body, want) in [
        ("elasticsearch", "/_bulk", bulk, &["1", "b"][..]),
        ("elasticsearch", "/docs/_doc/7", "{}", &["7"]),
        ("chroma", "/x", r#"{"ids":["a","b"]}"#, &["a", "b"]),
        ("pinecone", "/vectors/upsert", r#"{"vectors":[{"id":"a"}]}"#, &["a"]),
        ("weaviate", "/v1/batch/objects", r#"{"objects":[{"id":"u"}]}"#, &["u"]),
        ("milvus", "/x", r#"{"data":[{"id":5,"v":[1]}]}"#, &["5"]),
    ] {
        assert_eq!(store(kind).written(path, body.as_bytes()), want, "{kind}");
    }
}

const ELASTIC: &str = r#"{"took":3,"timed_out":false,"_shards":{"total":5,"successful":5,"skipped":0,"failed":0},"hits":{"total":{"value":2,"relation":"eq"},"max_score":0.9,"hits":[{"_index":"i","_id":"1","_score":0.9},{"_index":"i","_id":"2","_score":0.5}]}}"#;

#[test]
fn answers_have_their_hits() {
    for (kind, body, ids, scores) in [
        ("elasticsearch", ELASTIC, ["1", "2"], [0.9, 0.5]),
        (
            "chroma",
            r#"{"ids":[["a","c"]],"embeddings":null,"documents":[["da",null]],"metadatas":[[{"k":1},{"k":3}]],"distances":[[0.0,0.25]],"include":["documents"]}"#,
            ["a", "c"],
            [0.0, 0.25],
        ),
        (
            "pinecone",
            r#"{"results":[],"matches":[{"id":"a","score":0.91,"values":[]},{"id":"b","score":0.5}],"namespace":""}"#,
            ["a", "b"],
            [0.91, 0.5],
        ),
        (
            "weaviate",
            r#"{"data":{"Get":{"Foo":[{"t":1,"_additional":{"id":"u","distance":0.1,"certainty":0.9}},{"_additional":{"id":"w","distance":0.2}}]}}}"#,
            ["u", "w"],
            [0.1, 0.2],
        ),
        (
            "milvus",
            r#"{"code":0,"cost":0,"data":[{"id":1,"distance":0.9},{"id":2,"distance":0.8}],"topks":[2]}"#,
            ["1", "2"],
            [0.9, 0.8],
        ),
    ] {
        let dialect = store(kind);
        let lists = dialect.listings(Operation::Search, body.as_bytes());
        assert_eq!(lists.len(), 1, "{kind}");
        let found: Vec<_> = lists[0].ids.iter().map(|id| id.as_deref().unwrap()).collect();
        assert_eq!(found, ids, "{kind}");
        assert_eq!(lists[0].scores, scores.map(Some), "{kind}");
        let arranged = |order: &[usize]| {
            let wanted = Arrangement { order: order.to_vec(), scores: None };
            let new = dialect.arranged(Operation::Search, body.as_bytes(), &[wanted]).unwrap();
            String::from_utf8(new.to_vec()).unwrap()
        };
        assert_eq!(arranged(&[0, 1]), body, "{kind}");
        let one = arranged(&[1]);
        let lists = dialect.listings(Operation::Search, one.as_bytes());
        assert_eq!((lists[0].rows, lists[0].ids[0].as_deref()), (1, Some(ids[1])), "{one}");
        assert_eq!(dialect.read_message(Operation::Search, one.as_bytes()).error, None);
    }
}

#[test]
fn what_goes_with_hits_follows_them() {
    let arranged = |kind, body: &str, lists: &[&[usize]]| {
        let wanted: Vec<Arrangement> =
            lists.iter().map(|order| Arrangement { order: order.to_vec(), scores: None }).collect();
        let new = store(kind).arranged(Operation::Search, body.as_bytes(), &wanted).unwrap();
        serde_json::from_slice::<Value>(&new).unwrap()
    };
    let none = arranged("elasticsearch", ELASTIC, &[&[]]);
    assert_eq!(none["hits"]["total"]["value"], 0);
    assert_eq!(none["hits"]["max_score"], Value::Null);
    let one = arranged("elasticsearch", ELASTIC, &[&[1]]);
    assert_eq!(
        (&one["hits"]["total"]["value"], &one["hits"]["max_score"]),
        (&1.into(), &0.5.into())
    );
    let chroma = r#"{"ids":[["a","c"],["b"]],"embeddings":null,"documents":[["da","dc"],["db"]],"distances":[[0.0,0.25],[0.5]]}"#;
    let new = arranged("chroma", chroma, &[&[], &[0]]);
    assert_eq!(new["ids"], serde_json::json!([[], ["b"]]));
    assert_eq!(new["documents"], serde_json::json!([[], ["db"]]));
    assert_eq!(new["distances"], serde_json::json!([[], [0.5]]));
    let milvus = r#"{"code":0,"topks":[2,1],"data":[{"id":1,"distance":0.9},{"id":2,"distance":0.8},{"id":3,"distance":0.7}]}"#;
    let new = arranged("milvus", milvus, &[&[1], &[0]]);
    assert_eq!(new["topks"], serde_json::json!([1, 1]));
    assert_eq!((&new["data"][0]["id"], &new["data"][1]["id"]), (&2.into(), &3.into()));
}

#[test]
fn shards_fail_in_an_answer() {
    let shards = Shards { failed: 2, total: 5 };
    let new = store("opensearch").partial(Operation::Search, ELASTIC.as_bytes(), shards).unwrap();
    let new: Value = serde_json::from_slice(&new).unwrap();
    let told = &new["_shards"];
    assert_eq!(
        (&told["failed"], &told["successful"], &told["total"]),
        (&2.into(), &3.into(), &5.into())
    );
    assert_eq!(told["failures"].as_array().unwrap().len(), 2);
    assert_eq!(told["failures"][0]["index"], "i");
    assert_eq!(store("chroma").partial(Operation::Search, b"{}", shards), None);
}

#[test]
fn errors_have_the_stores_shape_and_are_read_back() {
    for (kind, status, start) in [
        ("milvus", 200, r#"{"code":8,"message":"#),
        ("pinecone", 429, r#"{"code":8,"message":"#),
        ("weaviate", 429, r#"{"error":[{"message":"#),
        ("chroma", 429, r#"{"error":"RateLimitError","message":"#),
        (
            "elasticsearch",
            429,
            r#"{"error":{"root_cause":[{"type":"es_rejected_execution_exception""#,
        ),
        ("opensearch", 429, r#"{"error":{"root_cause":[{"type":"rejected_execution_exception""#),
    ] {
        let failure = Failure { class: Some("rate_limit"), ..Failure::default() };
        let answer = store(kind).failure(&failure);
        assert_eq!(answer.status.as_u16(), status, "{kind}");
        assert!(answer.body.starts_with(start.as_bytes()), "{:?}", answer.body);
        for class in FAILURE_CLASSES.iter().chain(STORE_CLASSES) {
            let failure = Failure { class: Some(class), ..Failure::default() };
            if store(kind).moment(&failure) == Moment::Never {
                continue;
            }
            let answer = store(kind).failure(&failure);
            let read = store(kind).read_message(Operation::Search, &answer.body);
            assert_eq!(read.error.is_some(), *class != "html", "{kind} {class}");
            assert_eq!(answer.status == StatusCode::OK, kind == "milvus" && *class != "html");
        }
    }
    let header = |kind: &str| {
        let answer = store(kind).failure(&Failure::default());
        answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("x-elastic-product"))
    };
    assert!(header("elasticsearch") && !header("opensearch"));
}

#[test]
fn a_search_of_weaviate_fails_in_a_good_answer() {
    let fail = |class, operation| {
        store("weaviate").failure(&Failure { class: Some(class), operation, ..Failure::default() })
    };
    let timed_out = fail("timeout", Operation::Search);
    assert_eq!(timed_out.status, StatusCode::OK);
    let read = store("weaviate").read_message(Operation::Search, &timed_out.body);
    assert!(read.error.unwrap().ends_with("context deadline exceeded"));
    assert_eq!(fail("readonly", Operation::Upsert).status.as_u16(), 500);
    assert_eq!(fail("rate_limit", Operation::Search).status.as_u16(), 429);
    let meant = Failure {
        class: Some("timeout"),
        status: Some(StatusCode::GATEWAY_TIMEOUT),
        operation: Operation::Search,
        ..Failure::default()
    };
    assert_eq!(store("weaviate").failure(&meant).status.as_u16(), 504);
}
