"""pgvector: the real extension in a real PostgreSQL, through psycopg and the `pgvector` package."""

import numpy
import pytest

from conftest import at_least, stop
from stores import pgvector
from test_stores import Proxy

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
vectors = pytest.importorskip("pgvector.psycopg", reason="pgvector is not installed")

DIMENSIONS = 64
ASKED = numpy.random.default_rng(7).random(DIMENSIONS, dtype="float32")
SEARCH = "select id, v <=> %s as distance from items order by v <=> %s limit 5"
BY_L2 = "select id from items order by v <-> %s limit 5"


def connect(port, **options):
    options = {"autocommit": True, "connect_timeout": 10} | options
    db = psycopg.connect(host="127.0.0.1", port=port, user="app", dbname="postgres", **options)
    vectors.register_vector(db)
    return db


@pytest.fixture(scope="module")
def server():
    with pgvector() as port:
        with psycopg.connect(f"host=127.0.0.1 port={port} user=app dbname=postgres", autocommit=True) as db:
            db.execute("create extension vector")
            vectors.register_vector(db)
            db.execute(f"create table items (id int primary key, v vector({DIMENSIONS}))")
            rows = numpy.random.default_rng(1).random((500, DIMENSIONS), dtype="float32")
            with db.cursor().copy("copy items from stdin with (format binary)") as copy:
                copy.set_types(["int4", "vector"])
                for number, row in enumerate(rows):
                    copy.write_row((number, row))
            db.execute("create index on items using hnsw (v vector_cosine_ops)")
        yield port


@pytest.fixture(scope="module")
def pg(server, tmp_path_factory):
    proxy = Proxy(tmp_path_factory.mktemp("pgvector"), "postgres", server)
    yield proxy
    stop(proxy.process)


def everything(port):
    with connect(port) as db:
        found = db.execute(SEARCH, (ASKED, ASKED)).fetchall()
        near = db.execute(BY_L2, (ASKED,), binary=True).fetchall()
        with db.transaction():
            db.execute("set local hnsw.ef_search = 200")
            wide = db.execute(SEARCH, (ASKED, ASKED)).fetchall()
        (vector,) = db.execute("select v from items where id = 7").fetchone()
        return found, near, wide, vector.to_list()


def test_searches_are_the_same_through_brownout(server, pg):
    assert everything(pg.port) == everything(server)
    assert pg.tally("slow-searches")["hit"] == 0


def test_searches_are_slow_and_other_queries_are_not(server, pg):
    with connect(server) as db:
        direct = db.execute(SEARCH, (ASKED, ASKED)).fetchall()
    with connect(pg.port) as db:
        with pg.armed("slow-searches"):
            for prepare in (False, True):
                with at_least(0.3):
                    assert db.execute(SEARCH, (ASKED, ASKED), prepare=prepare).fetchall() == direct
            assert db.execute("select count(*) from items").fetchone() == (500,)
        tally = pg.tally("slow-searches")
        assert (tally["matched"], tally["hit"]) == (2, 2), tally


def test_a_search_fails_in_the_servers_words_and_the_connection_lives(pg):
    with connect(pg.port) as db:
        with pg.armed("timeout"), pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            db.execute(SEARCH, (ASKED, ASKED))
        assert len(db.execute(SEARCH, (ASKED, ASKED)).fetchall()) == 5


def test_the_server_goes_away(pg):
    with connect(pg.port) as db, pg.armed("shutdown"):
        with pytest.raises(psycopg.errors.AdminShutdown):
            db.execute(SEARCH, (ASKED, ASKED))
        assert db.closed
    with pg.armed("refused"), pytest.raises(psycopg.OperationalError, match="refused|closed the connection"):
        connect(pg.port)
