"""Vector stores and embeddings with official clients: what user code gets of a spoiled search or batch.
Each client is tried where it is installed, against a stub that answers as its store does."""

import base64
import http.server
import json
import socketserver
import struct
import subprocess
import threading

import openai
import pytest

from conftest import BROWNOUT, stop

HITS = {
    "took": 3,
    "timed_out": False,
    "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
    "hits": {
        "total": {"value": 3, "relation": "eq"},
        "max_score": 0.9,
        "hits": [
            {"_index": "docs", "_id": name, "_score": score, "_source": {"text": name}}
            for name, score in [("a", 0.9), ("b", 0.5), ("c", 0.1)]
        ],
    },
}
VECTORS = [[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]]


def packed(vector):
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


class Stub(http.server.BaseHTTPRequestHandler):
    """Answers like the store that the path belongs to."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {}
        if self.path.split("?")[0].endswith(("_search", "_bulk")) or self.path == "/":
            headers["X-Elastic-Product"] = "Elasticsearch"
            answer = {"version": {"number": "9.5.1"}} if self.path == "/" else HITS
            if "_bulk" in self.path:
                answer = {"took": 1, "errors": False, "items": []}
        elif self.path.endswith("/embeddings"):
            asked = json.loads(body)
            form = packed if asked.get("encoding_format") == "base64" else list
            answer = {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": place, "embedding": form(VECTORS[place])}
                    for place in range(len(asked["input"]))
                ],
                "model": "text-embedding-3-small",
                "usage": {"prompt_tokens": 8, "total_tokens": 8},
            }
        elif self.path == "/query":
            answer = {
                "matches": [{"id": "a", "score": 0.9}, {"id": "b", "score": 0.5}],
                "namespace": "",
                "usage": {"readUnits": 5},
            }
        elif self.path == "/v1/graphql":
            answer = {"data": {"Get": {"Doc": [{"_additional": {"id": "u", "distance": 0.1}}]}}}
        else:
            answer = {}
        text = json.dumps(answer).encode()
        self.send_response(200)
        kind = self.headers.get("accept") or "application/json"
        self.send_header("content-type", kind if "elasticsearch" in kind else "application/json")
        self.send_header("content-length", str(len(text)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_PUT = do_HEAD = do_POST


@pytest.fixture(scope="module")
def stub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def proxy(stub, tmp_path):
    """proxy("pinecone", "retrieval: { result: empty }") is the address of a proxy before the stub."""
    running = []

    def start(kind, effect, where=None, upstream=None):
        file = tmp_path / "brownout.yaml"
        file.write_text(
            "version: 1\nseed: 7\ndependencies:\n"
            f'  store: {{ kind: {kind}, listen: 0, upstream: "{upstream or stub}" }}\n'
            f"faults:\n  broken:\n    target: store\n    {effect}\n"
            + (f"    where: {where}\n" if where else "")
        )
        command = [BROWNOUT, "serve", str(file), "--admin", "127.0.0.1:0", "--print", "json"]
        process = subprocess.Popen([*command, "--arm", "broken"], stdout=subprocess.PIPE, text=True)
        running.append(process)
        line = process.stdout.readline()
        assert line, f"brownout ended with {process.wait()} for\n{file.read_text()}"
        return json.loads(line)["dependencies"]["store"]["listen"]

    yield start
    for process in running:
        stop(process)


# Embeddings.


def embed(address, count=3, **options):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="sk-test", max_retries=0)
    texts = [f"text {place}" for place in range(count)]
    return client.embeddings.create(model="text-embedding-3-small", input=texts, **options)


def near(vector, wanted):
    return len(vector) == len(wanted) and all(abs(a - b) < 1e-6 for a, b in zip(vector, wanted))


@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
def test_openai_hands_on_whatever_comes(proxy, form):
    zeros = embed(proxy("openai", "embedding: { vectors: zeros }"), **form)
    assert all(near(item.embedding, [0, 0]) for item in zeros.data)
    assert zeros.usage.total_tokens == 8

    nan = embed(proxy("openai", "embedding: { vectors: nan, count: 1 }"), **form)
    assert sum(item.embedding[0] != item.embedding[0] for item in nan.data) == 1

    short = embed(proxy("openai", "embedding: { vectors: wrong_dimension, dimensions: 1 }"), **form)
    assert [len(item.embedding) for item in short.data] == [1, 1, 1]

    noise = embed(proxy("openai", "embedding: { vectors: noise, cosine: 0.5 }"), **form)
    for item, right in zip(noise.data, VECTORS):
        assert abs(sum(a * b for a, b in zip(item.embedding, right)) - 0.5) < 1e-3

    turned = embed(proxy("openai", "embedding: { order: reversed }"), **form)
    assert [item.index for item in turned.data] == [2, 1, 0]
    assert near(turned.data[0].embedding, VECTORS[2]), "in the order in which they came"

    fewer = embed(proxy("openai", "embedding: { missing: 1, index: stays }"), **form)
    assert [item.index for item in fewer.data] == [0, 1]


def test_an_empty_batch_is_an_error_of_the_clients(proxy):
    with pytest.raises(ValueError, match="No embedding data"):
        embed(proxy("openai", "embedding: { missing: 9 }"))


# Elasticsearch and OpenSearch.


@pytest.fixture
def elastic(proxy):
    module = pytest.importorskip("elasticsearch", reason="elasticsearch is not there: not tested")
    clients = []

    def start(effect, where=None):
        address = proxy("elasticsearch", effect, where)
        client = module.Elasticsearch(address, request_timeout=20, max_retries=0)
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.close()


KNN = {"field": "v", "query_vector": [0.1, 0.2], "k": 3, "num_candidates": 10}


def names(answer):
    return [hit["_id"] for hit in answer["hits"]["hits"]]


def test_elasticsearch_gets_what_is_left(elastic):
    answer = elastic("retrieval: { result: fewer, keep: 1 }").search(index="docs", knn=KNN)
    assert names(answer) == ["a"] and answer["hits"]["total"]["value"] == 1
    answer = elastic("retrieval: { result: empty }").search(index="docs", knn=KNN)
    assert names(answer) == [] and answer["hits"]["max_score"] is None
    answer = elastic("retrieval: { shards_failed: 2 of 5, timed_out: true }").search(index="docs", knn=KNN)
    assert answer["timed_out"] and answer["_shards"]["failed"] == 2
    assert len(answer["_shards"]["failures"]) == 2


def test_elasticsearch_knows_our_errors(elastic):
    from elasticsearch import ApiError

    client = elastic("retrieval: { state: read_only }")
    assert names(client.search(index="docs", knn=KNN)) == ["a", "b", "c"]
    with pytest.raises(ApiError) as error:
        client.bulk(operations=[{"index": {"_index": "docs", "_id": "1"}}, {"text": "x"}])
    assert error.value.meta.status == 403
    assert error.value.body["error"]["type"] == "cluster_block_exception"
    with pytest.raises(ApiError) as error:
        elastic("error: { as: overloaded }").search(index="docs", knn=KNN)
    assert error.value.body["error"]["type"] == "es_rejected_execution_exception"


def test_elasticsearch_finds_late_what_it_wrote(elastic):
    client = elastic("retrieval: { visible_after: 60s }")
    assert names(client.search(index="docs", knn=KNN)) == ["a", "b", "c"]
    client.bulk(index="docs", operations=[{"index": {"_id": "b"}}, {"text": "x"}])
    assert names(client.search(index="docs", knn=KNN)) == ["a", "c"]


def test_opensearch(proxy):
    module = pytest.importorskip("opensearchpy", reason="opensearch-py is not there: not tested")
    client = module.OpenSearch(proxy("opensearch", "retrieval: { result: reversed }"))
    body = {"size": 3, "query": {"knn": {"v": {"vector": [0.1, 0.2], "k": 3}}}}
    answer = client.search(index="docs", body=body)
    assert names(answer) == ["c", "b", "a"]
    assert [hit["_score"] for hit in answer["hits"]["hits"]] == [0.9, 0.5, 0.1], "it looks ranked"
    client = module.OpenSearch(proxy("opensearch", "error: { as: oom }"), max_retries=0)
    with pytest.raises(module.exceptions.TransportError) as error:
        client.search(index="docs", body=body)
    assert error.value.error == "circuit_breaking_exception"


# Pinecone, Weaviate, Milvus, Chroma.


def test_pinecone(proxy):
    module = pytest.importorskip("pinecone", reason="pinecone is not there: it is not tested")
    address = proxy("pinecone", "retrieval: { result: fewer, keep: 1 }")
    index = module.Pinecone(api_key="k").Index(host=address)
    found = index.query(vector=[0.1, 0.2], top_k=2)
    assert [hit.id for hit in found.matches] == ["a"]


def test_weaviate_over_grpc(proxy):
    grpc = pytest.importorskip("grpc", reason="grpcio is not there: gRPC is not tested")
    pytest.importorskip("weaviate", reason="weaviate is not there: it is not tested")
    from concurrent import futures

    from weaviate.proto.v1.v6300.v1 import search_get_pb2 as pb

    def search(request, _):
        hits = [
            pb.SearchResult(metadata=pb.MetadataResult(id=name, distance=far, distance_present=True))
            for name, far in [("u", 0.1), ("w", 0.2), ("x", 0.3)]
        ]
        return pb.SearchReply(took=0.1, results=hits)

    with served(grpc, futures, "weaviate.v1.Weaviate", "Search", search, pb.SearchRequest) as upstream:
        address = proxy("weaviate", "retrieval: { result: reversed }", upstream=upstream)
        call = called(grpc, address, "/weaviate.v1.Weaviate/Search", pb.SearchReply)
        reply = call(pb.SearchRequest(collection="Doc", limit=3))
    assert [hit.metadata.id for hit in reply.results] == ["x", "w", "u"]
    assert [round(hit.metadata.distance, 2) for hit in reply.results] == [0.1, 0.2, 0.3]


def test_milvus_over_grpc(proxy):
    grpc = pytest.importorskip("grpc", reason="grpcio is not there: gRPC is not tested")
    pytest.importorskip("pymilvus", reason="pymilvus is not there: it is not tested")
    from concurrent import futures

    from pymilvus.client.search_result import SearchResult
    from pymilvus.grpc_gen import milvus_pb2 as pb
    from pymilvus.grpc_gen import schema_pb2 as schema

    def search(*_):
        titles = schema.FieldData(type=schema.VarChar, field_name="title", field_id=101)
        titles.scalars.string_data.data.extend(["a", "b", "c"])
        data = schema.SearchResultData(
            num_queries=1, top_k=3, scores=[0.9, 0.5, 0.1], topks=[3], fields_data=[titles],
            output_fields=["title"], primary_field_name="id",
        )
        data.ids.int_id.data.extend([1, 2, 3])
        return pb.SearchResults(results=data, collection_name="docs")

    service = "milvus.proto.milvus.MilvusService"
    with served(grpc, futures, service, "Search", search, pb.SearchRequest) as upstream:
        address = proxy("milvus", "retrieval: { result: fewer, keep: 2, lose: nearest }", upstream=upstream)
        call = called(grpc, address, f"/{service}/Search", pb.SearchResults)
        reply = call(pb.SearchRequest(collection_name="docs", nq=1))
    hits = SearchResult(reply.results)[0]
    assert [(hit["id"], round(hit["distance"], 2), hit["entity"]["title"]) for hit in hits] == [
        (2, 0.5, "b"),
        (3, 0.1, "c"),
    ]


class served:  # noqa: N801: used like a function
    """A gRPC server with one method."""

    def __init__(self, grpc, futures, service, name, answer, request):
        handler = grpc.unary_unary_rpc_method_handler(
            answer, request.FromString, lambda reply: reply.SerializeToString()
        )
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        methods = grpc.method_handlers_generic_handler(service, {name: handler})
        self.server.add_generic_rpc_handlers([methods])
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    def __enter__(self):
        self.server.start()
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_):
        self.server.stop(None)


def called(grpc, address, method, reply):
    options = [("grpc.enable_http_proxy", 0)]
    channel = grpc.insecure_channel(address.removeprefix("http://"), options=options)
    call = channel.unary_unary(method, lambda it: it.SerializeToString(), reply.FromString)
    return lambda request: call(request, timeout=20)


def test_qdrant_over_grpc(proxy):
    grpc = pytest.importorskip("grpc", reason="grpcio is not there: gRPC is not tested")
    from concurrent import futures

    from qdrant_client import QdrantClient
    from qdrant_client import grpc as pb

    def query(request, _):
        points = [pb.ScoredPoint(id=pb.PointId(num=n), score=1 - n / 10) for n in range(request.limit)]
        return pb.QueryResponse(result=points, time=0.001)

    def ask(upstream, effect):
        host, port = proxy("qdrant", effect, upstream=upstream).removeprefix("http://").split(":")
        client = QdrantClient(
            host=host, grpc_port=int(port), prefer_grpc=True, check_compatibility=False, timeout=20
        )
        return client.query_points("docs", query=[0.1, 0.2], limit=5).points

    with served(grpc, futures, "qdrant.Points", "Query", query, pb.QueryPoints) as upstream:
        points = ask(upstream, "retrieval: { result: fewer, keep: 2 }")
        assert [(point.id, round(point.score, 2)) for point in points] == [(0, 1.0), (1, 0.9)]
        points = ask(upstream, "retrieval: { result: reversed }")
        assert [point.id for point in points] == [4, 3, 2, 1, 0]
        assert [round(point.score, 1) for point in points] == [1.0, 0.9, 0.8, 0.7, 0.6]
        assert ask(upstream, "retrieval: { result: empty }") == []


def test_qdrant_over_rest(serve):
    plain = serve().qdrant()
    collection = plain.get_collections().collections[0].name
    size = plain.get_collection(collection).config.params.vectors.size

    def found(effect):
        client = serve(effect, target="vectors").qdrant()
        return client.query_points(collection, query=[0.1] * size, limit=5).points

    right = plain.query_points(collection, query=[0.1] * size, limit=5).points
    assert len(right) == 5
    assert found("retrieval: { result: empty, percent: 100 }") == []
    assert [point.id for point in found("retrieval: { result: fewer, keep: 2 }")] == [
        point.id for point in right[:2]
    ]
    noisy = [point.score for point in found("retrieval: { scores: { noise: 50% } }")]
    assert noisy != [point.score for point in right] and noisy == sorted(noisy, reverse=True)


@pytest.fixture(scope="module")
def chroma(tmp_path_factory):
    """A real server, where it is installed and comes up in time."""
    import shutil
    import sys
    from pathlib import Path

    from conftest import free_port, wait_for

    pytest.importorskip("chromadb", reason="chromadb is not there: it is not tested")
    beside = Path(sys.executable).with_name("chroma")
    binary = str(beside) if beside.exists() else shutil.which("chroma")
    if not binary:
        pytest.skip("chroma's server is not there: it is not tested")
    port = free_port()
    command = [binary, "run", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--path", str(tmp_path_factory.mktemp("chroma"))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


def test_chroma(chroma, proxy):
    import chromadb

    def client(address):
        host, port = address.removeprefix("http://").split(":")
        settings = chromadb.Settings(anonymized_telemetry=False)
        return chromadb.HttpClient(host=host, port=int(port), settings=settings)

    docs = client(chroma).get_or_create_collection("docs", embedding_function=None)
    ids, vectors = ["a", "b", "c"], [[1, 0, 0], [0, 1, 0], [0.9, 0.1, 0]]
    docs.upsert(ids=ids, embeddings=vectors, documents=["da", "db", "dc"])

    def query(effect):
        spoiled = client(proxy("chroma", effect, upstream=chroma))
        collection = spoiled.get_collection("docs", embedding_function=None)
        return collection.query(query_embeddings=[[1, 0, 0], [0, 1, 0]], n_results=2)

    found = query("retrieval: { result: empty }")
    assert (found["ids"], found["documents"], found["distances"]) == ([[], []],) * 3
    found = query("retrieval: { result: reversed }")
    assert found["ids"][0] == ["c", "a"] and found["documents"][0] == ["dc", "da"]
    assert found["distances"][0] == sorted(found["distances"][0]), "it looks ranked"
    with pytest.raises(Exception, match="does not exist"):
        query("error: { as: not_found }\n    where: { operation: search }")


# PostgreSQL (its own `<->` stands for pgvector's: the rows are the same) and Redis.


def test_rows_of_postgres(proxy):
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not there: it is not tested")
    from stores import postgres

    search = "select id from docs order by place <-> point(50, 50), id limit 5"
    with postgres() as port:
        host = {"host": "127.0.0.1", "user": "app", "dbname": "postgres", "autocommit": True}
        with psycopg.connect(port=port, **host) as db:
            db.execute("create table docs (id int primary key, place point)")
            db.execute("insert into docs select n, point(n, n) from generate_series(1, 100) n")
            right = [id for (id,) in db.execute(search)]

        def found(effect, prepare):
            address = proxy("postgres", effect, upstream=f"postgres://127.0.0.1:{port}")
            with psycopg.connect(port=int(address.rsplit(":", 1)[1]), **host) as db:
                cursor = db.execute(search, prepare=prepare)
                rows = [id for (id,) in cursor]
                assert cursor.rowcount == len(rows)
                assert db.execute("select count(*) from docs").fetchone() == (100,), "no search"
                return rows

        for prepare in (False, True):
            assert found("retrieval: { result: empty }", prepare) == []
            assert found("retrieval: { result: fewer, keep: 2 }", prepare) == right[:2]
            assert found("retrieval: { result: reversed }", prepare) == right[::-1]
            twice = [id for id in right for _ in range(2)][:5]
            assert found("retrieval: { result: duplicated }", prepare) == twice


class Search(socketserver.StreamRequestHandler):
    """Redis with nothing but FT.SEARCH, in both versions of its protocol."""

    HITS = [(b"d1", b"oak"), (b"d2", b"pine"), (b"d3", b"elm")]

    def handle(self):
        version = 2
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                length = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(length + 2)[:-2])
            word = words[0].upper()
            if word == b"HELLO":
                version = int(words[1])
                self.wfile.write(b"%2\r\n$5\r\nproto\r\n:3\r\n$7\r\nversion\r\n$5\r\n7.4.0\r\n")
            elif word == b"FT.SEARCH":
                self.wfile.write(self.found(version))
            else:
                self.wfile.write(b"+OK\r\n")

    def found(self, version):
        def text(value):
            return b"$%d\r\n%s\r\n" % (len(value), value)

        if version == 2:
            hits = b"".join(text(id) + b"*2\r\n" + text(b"t") + text(tree) for id, tree in self.HITS)
            return b"*7\r\n:3\r\n" + hits
        fields = b"%1\r\n" + text(b"t")
        hits = b"".join(
            b"%3\r\n" + text(b"id") + text(id) + text(b"extra_attributes") + fields + text(tree)
            + text(b"values") + b"*0\r\n"
            for id, tree in self.HITS
        )
        return (
            b"%5\r\n" + text(b"attributes") + b"*0\r\n" + text(b"format") + text(b"STRING")
            + text(b"results") + b"*3\r\n" + hits + text(b"total_results") + b":3\r\n"
            + text(b"warning") + b"*0\r\n"
        )


@pytest.mark.parametrize("version", [2, 3])
def test_hits_of_redis(proxy, version):
    redis = pytest.importorskip("redis", reason="redis-py is not there: it is not tested")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Search) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def found(effect):
            upstream = f"redis://127.0.0.1:{server.server_address[1]}"
            port = int(proxy("redis", effect, upstream=upstream).rsplit(":", 1)[1])
            with redis.Redis(host="127.0.0.1", port=port, protocol=version, socket_timeout=5) as client:
                answer = client.ft("trees").search("*")
            docs = getattr(answer, "docs", None)
            if docs is None:
                results = answer.get("results", answer.get(b"results"))
                ids = [hit.get("id", hit.get(b"id")) for hit in results]
                return answer.get("total_results", answer.get(b"total_results")), ids
            return answer.total, [doc.id for doc in docs]

        def told(effect):
            total, ids = found(effect)
            return total, [id.decode() if isinstance(id, bytes) else id for id in ids]

        assert told("retrieval: { result: empty }") == (0, [])
        assert told("retrieval: { result: fewer, keep: 2 }") == (2, ["d1", "d2"])
        assert told("retrieval: { result: reversed }") == (3, ["d3", "d2", "d1"])
        server.shutdown()
