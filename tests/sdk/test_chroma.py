"""Chroma's own server behind brownout, through its own client."""

import contextlib

import pytest

from conftest import at_least, stop
from stores import chroma
from test_stores import Proxy

chromadb = pytest.importorskip("chromadb", reason="chromadb is not installed")
from chromadb.config import Settings  # noqa: E402: behind the skip


def client(port):
    # Vectors are given, so that no model is fetched.
    return chromadb.HttpClient(host="127.0.0.1", port=port, settings=Settings(anonymized_telemetry=False))


@pytest.fixture(scope="module")
def server():
    with chroma() as port:
        documents = client(port).create_collection("documents", embedding_function=None)
        documents.add(
            ids=[f"d{n}" for n in range(50)],
            embeddings=[[n / 50, 1 - n / 50, 0.5] for n in range(50)],
            documents=[f"text {n}: ü" for n in range(50)],
            metadatas=[{"even": n % 2 == 0, "n": n} for n in range(50)],
        )
        yield port


FAULTS = """
  slow: { target: store, latency: { add: 300ms } }
  busy: { target: store, error: { status: 503 } }
  limited: { target: store, error: { as: rate_limit } }
  cut: { target: store, truncate: { after: 20 bytes, ending: close } }
  refused: { target: store, outage: { mode: refuse } }
"""


@pytest.fixture(scope="module")
def store(server, tmp_path_factory):
    proxy = Proxy(tmp_path_factory.mktemp("chroma"), "http", server, faults=FAULTS)
    yield proxy
    stop(proxy.process)


def query(port):
    documents = client(port).get_collection("documents", embedding_function=None)
    return documents.query(query_embeddings=[[0.2, 0.8, 0.5]], n_results=5, where={"even": True})


def everything(port):
    documents = client(port).get_collection("documents", embedding_function=None)
    documents.upsert(ids=["new"], embeddings=[[9, 9, 9]], documents=["new"])
    documents.delete(ids=["new"])
    return query(port), documents.get(ids=["d7"]), documents.count()


def test_everything_is_the_same_through_brownout(server, store):
    direct, got = everything(server), everything(store.port)
    assert got == direct
    assert got[0]["ids"] == [["d10", "d8", "d12", "d6", "d14"]] or len(got[0]["ids"][0]) == 5
    assert store.tally("slow")["hit"] == 0


def test_a_slow_store_is_slow_and_the_same(server, store):
    direct = query(server)
    with store.armed("slow"), at_least(0.3):
        assert query(store.port) == direct
    assert store.tally("slow")["hit"] >= 2


@pytest.mark.parametrize("fault", ["busy", "limited", "cut", "refused"])
def test_errors_reach_the_app(store, fault):
    documents = client(store.port).get_collection("documents", embedding_function=None)
    with store.armed(fault), pytest.raises(Exception) as raised:
        documents.query(query_embeddings=[[0.2, 0.8, 0.5]], n_results=5)
    assert not isinstance(raised.value, AssertionError), raised.value
    assert store.tally(fault)["hit"] >= 1
    with contextlib.suppress(Exception):
        query(store.port)
    assert query(store.port)["ids"][0], "it is back"
