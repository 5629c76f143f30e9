"""Real stores behind brownout, through their official clients: PostgreSQL by psycopg and asyncpg,
Redis by redis-py, with and without faults, also on connections that were there before."""

import asyncio
import contextlib
import json
import subprocess
import threading
import time
import urllib.request

import pytest

from conftest import BROWNOUT, at_least, stop
from stores import Recorder, pg_bin, postgres, redis_server

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

FAULTS = """
  slow: { target: store, latency: { add: 300ms } }
  slow-searches: { target: store, where: { operation: search }, latency: { add: 300ms } }
  slow-bytes: { target: store, latency: { add: 200ms, direction: down } }
  timeout: { target: store, error: { as: timeout } }
  half: { target: store, percent: 50, error: { as: timeout } }
  readonly: { target: store, where: { operation: upsert }, error: { as: readonly } }
  shutdown: { target: store, error: { sqlstate: "57P01" } }
  starting: { target: store, error: { sqlstate: "57P03" } }
  too-many: { target: store, error: { as: too_many_connections } }
  unavailable: { target: store, error: { as: unavailable } }
  loading: { target: store, error: { as: loading } }
  few-rows: { target: store, where: { operation: read }, truncate: { after: 3 rows } }
  broken-rows: { target: store, where: { operation: read }, error: { after: 3 rows, message: broken } }
  reset-rows: { target: store, where: { operation: read }, truncate: { after: 3 rows, ending: reset } }
  stalled-rows: { target: store, where: { operation: read }, stall: { after: 3 rows, pause: 400ms } }
  reset: { target: store, outage: { mode: reset } }
  silent: { target: store, outage: { mode: blackhole } }
  refused: { target: store, outage: { mode: refuse } }
  thin: { target: store, bandwidth: { rate: 20kB/s } }
  pieces: { target: store, slice: { size: 1..7 bytes, delay: 1ms } }
  writes-fail: { target: store, where: { path: /insert }, error: { as: serialization } }
"""


class Proxy:
    def __init__(self, folder, kind, port, more="", faults=FAULTS):
        upstream = f"http://127.0.0.1:{port}" if kind == "http" else f"127.0.0.1:{port}"
        file = folder / f"{kind}-{port}.yaml"
        file.write_text(
            f"version: 1\nname: stores\nseed: 7\ndependencies:\n  store: {{ kind: {kind}, listen: 0, "
            f"upstream: '{upstream}'{more} }}\nfaults:{faults}"
        )
        command = [BROWNOUT, "serve", str(file), "--admin", "127.0.0.1:0", "--print", "json"]
        command += ["--out", str(folder / "out")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line, f"brownout ended with {self.process.wait()}"
        addresses = json.loads(line)
        self.admin = addresses["admin"]
        if "://" not in self.admin:
            self.admin = f"http://{self.admin}"
        listen = addresses["dependencies"]["store"]["listen"]
        self.port = int(listen.rstrip("/").rsplit(":", 1)[1])

    def call(self, path, method="POST"):
        request = urllib.request.Request(f"{self.admin}/v1/{path}", method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    @contextlib.contextmanager
    def armed(self, *faults):
        for fault in faults:
            self.call(f"faults/{fault}/arm")
        try:
            yield
        finally:
            for fault in faults:
                self.call(f"faults/{fault}/disarm")

    def tally(self, fault):
        status = self.call("status", "GET")
        return next(one for one in status["faults"] if one["name"] == fault)["tally"]


@pytest.fixture(scope="module")
def server():
    with postgres(password="s3cret") as port:
        with connect(port) as db:
            db.execute("create table docs (id int primary key, body text, place point)")
            db.execute("insert into docs select n, 'text ' || n, point(n, n) from generate_series(1, 100) n")
        yield port


@pytest.fixture(scope="module")
def pg(server, tmp_path_factory):
    proxy = Proxy(tmp_path_factory.mktemp("pg"), "postgres", server)
    yield proxy
    stop(proxy.process)


def connect(port, **options):
    options = {"sslmode": "prefer", "autocommit": True, "connect_timeout": 10} | options
    return psycopg.connect(
        host="127.0.0.1", port=port, user="app", password="s3cret", dbname="postgres", **options
    )


SEARCH = "select id from docs order by place <-> point(50, 50) limit 5"

# ── PostgreSQL ──────────────────────────────────────────────────────────────────────────────


def test_nothing_armed_nothing_changes(pg):
    with connect(pg.port) as db:
        assert db.execute("select count(*) from docs").fetchone() == (100,)
        assert {id for (id,) in db.execute(SEARCH)} == {48, 49, 50, 51, 52}
        with db.transaction():
            db.execute("insert into docs values (%s, %s)", (1000, "x" * 100_000))
            assert db.execute("select length(body) from docs where id = %s", (1000,)).fetchone() == (100_000,)
            db.execute("delete from docs where id = 1000")
        with db.cursor().copy("copy docs (id, body) from stdin") as copy:
            for n in range(2000, 2100):
                copy.write_row((n, "copied"))
        with db.cursor().copy("copy docs to stdout") as copy:
            assert sum(1 for _ in copy.rows()) == 200
        assert db.execute("delete from docs where id >= 1000").rowcount == 100
        with pytest.raises(psycopg.errors.UndefinedTable):
            db.execute("select * from nothing")
        with db.pipeline():
            cursors = [db.execute("select %s::int", (n,)) for n in range(20)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(20))


def test_untouched_sessions_are_the_same_bytes(server, tmp_path):
    """Recorded on both sides of the proxy."""
    behind = Recorder(server)
    proxy = Proxy(tmp_path, "postgres", behind.port)
    before = Recorder(proxy.port)
    try:
        with connect(before.port, sslmode="disable") as db:
            for n in range(50):
                db.execute("select *, %s from docs where id > %s", (n, n)).fetchall()
            with db.cursor().copy("copy docs to stdout") as copy:
                assert sum(1 for _ in copy.rows()) == 100
        before.close(), behind.close()
        assert len(before.seen) == len(behind.seen) == 1
        assert before.seen[0][0] == behind.seen[0][0], "what the app sent"
        assert before.seen[0][1] == behind.seen[0][1], "what the server sent"
        assert len(before.seen[0][1]) > 50_000
    finally:
        stop(proxy.process)


def test_a_pooled_connection_feels_what_is_armed_later(pg):
    pools = pytest.importorskip("psycopg_pool", reason="psycopg_pool is not installed")
    info = f"host=127.0.0.1 port={pg.port} user=app password=s3cret dbname=postgres"
    with pools.ConnectionPool(info, min_size=2, max_size=2, kwargs={"autocommit": True}) as pool:
        pool.wait(10)
        with pool.connection() as db:
            pid = db.info.backend_pid
            assert db.execute("select 1").fetchone() == (1,)
        with pg.armed("slow"), pool.connection() as db, at_least(0.3):
            assert db.execute("select 1").fetchone() == (1,)
        with pg.armed("timeout"), pool.connection() as db:
            with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
                db.execute("select 1")
        seen = set()
        for _ in range(4):
            with pool.connection() as db:
                began = time.monotonic()
                assert db.execute("select 1").fetchone() == (1,)
                assert time.monotonic() - began < 0.25
                seen.add(db.info.backend_pid)
        assert pid in seen, "no connection was lost"


def test_searches_alone(pg):
    with connect(pg.port) as db, pg.armed("slow-searches"):
        with at_least(0.3):
            assert len(db.execute(SEARCH).fetchall()) == 5
        # Prepared: the server sees its name alone.
        for _ in range(3):
            with at_least(0.3):
                db.execute(SEARCH, prepare=True).fetchall()
        began = time.monotonic()
        db.execute("select 1")
        assert time.monotonic() - began < 0.25
    assert pg.tally("slow-searches")["hit"] == 4


def test_an_error_in_a_transaction_fails_it_on_the_server(pg):
    with connect(pg.port, autocommit=False) as db:
        db.execute("insert into docs values (5000, 'lost')")
        with pg.armed("timeout"), pytest.raises(psycopg.errors.QueryCanceled):
            db.execute("select 1")
        assert db.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            db.execute("select 1")
        db.rollback()
        assert db.execute("select count(*) from docs where id = 5000").fetchone() == (0,)
        # A savepoint saves what was before it.
        db.execute("insert into docs values (5001, 'kept')")
        with pg.armed("writes-fail"), pytest.raises(psycopg.errors.SerializationFailure):
            with db.transaction():
                db.execute("insert into docs values (5002, 'lost')")
        db.commit()
        assert db.execute("delete from docs where id >= 5000 returning id").fetchall() == [(5001,)]
        db.commit()


def test_errors_in_pipelines(pg):
    with connect(pg.port) as db:
        with pg.armed("writes-fail"), pytest.raises(psycopg.errors.SerializationFailure):
            with db.pipeline():
                db.execute("insert into docs values (6000, 'x')")
                db.execute("select 2")
        assert db.execute("select count(*) from docs where id = 6000").fetchone() == (0,)


def test_the_servers_words_end_a_session(pg):
    with connect(pg.port) as db:
        with pg.armed("shutdown"), pytest.raises(psycopg.errors.AdminShutdown, match="administrator command"):
            db.execute("select 1")
        assert db.closed


def test_connecting_fails_in_the_servers_words(pg):
    with pg.armed("starting"), pytest.raises(psycopg.OperationalError, match="the database system is starting up"):
        connect(pg.port)
    with pg.armed("too-many"), pytest.raises(psycopg.OperationalError, match="too many clients already"):
        connect(pg.port)
    # Queries of those who are in do not hear of it.
    with connect(pg.port) as db, pg.armed("too-many"):
        assert db.execute("select 1").fetchone() == (1,)
    assert pg.tally("too-many")["impossible"] == 0


def test_rows_end_early(pg):
    rows = "select id from docs order by id limit 10"
    with connect(pg.port) as db:
        with pg.armed("few-rows"):
            cursor = db.execute(rows)
            assert (cursor.rowcount, [id for (id,) in cursor]) == (3, [1, 2, 3])
        with pg.armed("broken-rows"), pytest.raises(psycopg.errors.InternalError_, match="broken"):
            db.execute(rows)
        with pg.armed("stalled-rows"), at_least(0.4):
            assert len(db.execute(rows).fetchall()) == 10
        assert len(db.execute(rows).fetchall()) == 10
        with pg.armed("reset-rows"), pytest.raises(psycopg.OperationalError):
            db.execute(rows)


def test_outages(pg):
    with connect(pg.port) as db:
        with pg.armed("reset"):
            with pytest.raises(psycopg.OperationalError):
                db.execute("select 1")
            with pytest.raises(psycopg.OperationalError):
                connect(pg.port)
    with pg.armed("silent"), pytest.raises(psycopg.errors.ConnectionTimeout):
        connect(pg.port, connect_timeout=2)
    with pg.armed("refused"):
        end = time.monotonic() + 10
        while True:
            try:
                connect(pg.port).close()
            except psycopg.OperationalError as error:
                if "refused" in str(error):
                    break
            assert time.monotonic() < end
    # The port is taken again a little later.
    while True:
        try:
            with connect(pg.port) as db:
                assert db.execute("select 1").fetchone() == (1,)
                return
        except psycopg.OperationalError:
            assert time.monotonic() < end + 10


def test_bytes_of_a_session(pg):
    wide = "select repeat('x', 1000) from generate_series(1, 20)"
    with connect(pg.port) as db:
        with pg.armed("thin"), at_least(0.9):
            assert len(db.execute(wide).fetchall()) == 20
        with pg.armed("pieces"):
            assert len(db.execute("select repeat('x', 50) from generate_series(1, 5)").fetchall()) == 5
        with pg.armed("slow-bytes"), at_least(0.2):
            db.execute("select 1")


def test_half_of_the_queries_fail_whoever_asks_first(pg):
    def fates():
        lost = set()
        with connect(pg.port) as db:
            for n in range(60):
                try:
                    db.execute("select %s::int, 'half'", (n,))
                except psycopg.errors.QueryCanceled:
                    lost.add(n)
        return lost

    with pg.armed("half"):
        lost = fates()
    assert 15 <= len(lost) <= 45, len(lost)


def test_asyncpg(pg):
    asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed")

    async def talk():
        pool = await asyncpg.create_pool(
            host="127.0.0.1", port=pg.port, user="app", password="s3cret", database="postgres",
            min_size=1, max_size=1, ssl=False,
        )
        async with pool.acquire() as db:
            assert await db.fetchval("select $1::int", 7) == 7
            with pg.armed("timeout"):
                for _ in range(3):
                    with pytest.raises(asyncpg.QueryCanceledError):
                        await db.fetchval("select $1::int + 1", 7)
            assert await db.fetchval("select $1::int + 1", 7) == 8
            transaction = db.transaction()
            await transaction.start()
            with pg.armed("timeout"), pytest.raises(asyncpg.QueryCanceledError):
                await db.fetchval("select $1::int + 2", 7)
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                await db.fetchval("select 1")
            await transaction.rollback()
            assert await db.fetchval("select $1::int + 2", 7) == 9
            rows = [(n, "copied") for n in range(7000, 7100)]
            await db.copy_records_to_table("docs", records=rows, columns=["id", "body"])
            assert await db.execute("delete from docs where id >= 7000") == "DELETE 100"
            with pg.armed("few-rows"):
                assert len(await db.fetch("select id from docs order by id")) == 3
            async with db.transaction():
                cursor = await db.cursor("select id from docs order by id")
                assert len(await cursor.fetch(10)) == 10
        with pg.armed("shutdown"):
            async with pool.acquire() as db:
                # Which of the two depends on where in its protocol asyncpg reads it.
                gone = (asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)
                with pytest.raises(gone, match="administrator command"):
                    await db.fetchval("select 1")
        async with pool.acquire() as db:
            assert await db.fetchval("select 1") == 1
        await pool.close()

    asyncio.run(talk())


def test_a_query_is_cancelled_on_the_server(pg):
    with connect(pg.port) as db:
        timer = threading.Timer(0.3, db.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            db.execute("select pg_sleep(20)")
        timer.join()


def test_vectors(pg):
    with connect(pg.port) as db:
        try:
            db.execute("create extension vector")
        except psycopg.errors.Error:
            pytest.skip("pgvector is not installed (apt install postgresql-NN-pgvector)")
        register = pytest.importorskip("pgvector.psycopg", reason="pgvector (PyPI) is not installed")
        register.register_vector(db)
        db.execute("create table items (id int, embedding vector(3))")
        for n in range(20):
            db.execute("insert into items values (%s, %s)", (n, f"[{n},1,2]"))
        search = "select id from items order by embedding <-> '[3,1,2]' limit 5"
        assert len(db.execute(search).fetchall()) == 5
        with pg.armed("slow-searches"), at_least(0.3):
            db.execute(search).fetchall()
        db.execute("drop table items")


def test_pgbench(pg):
    pgbench = pg_bin("pgbench")
    if not pgbench:
        pytest.skip("pgbench is not installed")
    login = ["-h", "127.0.0.1", "-p", str(pg.port), "-U", "app", "postgres"]
    environment = {"PGPASSWORD": "s3cret", "PGSSLMODE": "disable", "PATH": "/usr/bin:/bin"}
    quiet = {"check": True, "env": environment, "capture_output": True, "text": True}
    subprocess.run([pgbench, "-i", "-s", "1", "-q", *login], **quiet)
    for protocol in ("simple", "extended", "prepared"):
        run = [pgbench, "-S", "-M", protocol, "-c", "4", "-T", "1", *login]
        told = subprocess.run(run, **quiet).stdout
        assert "number of failed transactions: 0" in told, told


def test_tls_passes_when_asked(tmp_path):
    with postgres(tls=True, password="s3cret") as port:
        proxy = Proxy(tmp_path, "postgres", port, ", tls: pass")
        try:
            with connect(proxy.port, sslmode="require") as db:
                assert db.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone() == (True,)
                with proxy.armed("timeout"):
                    assert db.execute("select 1").fetchone() == (1,)
                # The books of what was armed are closed when the next bytes come.
                db.execute("select 1")
                assert proxy.tally("timeout")["impossible"] == 1
                with proxy.armed("slow-bytes"), at_least(0.2):
                    db.execute("select 1")
                with proxy.armed("reset"), pytest.raises(psycopg.OperationalError):
                    db.execute("select 1")
        finally:
            stop(proxy.process)


# ── Redis ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with redis_server() as port:
        proxy = Proxy(tmp_path_factory.mktemp("redis"), "redis", port)
        proxy.upstream = port
        yield proxy
        stop(proxy.process)


@pytest.fixture(params=[2, 3])
def client(cache, request):
    redis = pytest.importorskip("redis", reason="redis-py is not installed")
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    with redis.Redis(
        host="127.0.0.1", port=cache.port, protocol=request.param, socket_timeout=5, retry=Retry(NoBackoff(), 0)
    ) as client:
        yield client


def test_redis_untouched(client):
    assert client.set("a", b"1\r\n2") and client.get("a") == b"1\r\n2"
    client.hset("h", mapping={f"f{n}": n for n in range(500)})
    assert len(client.hgetall("h")) == 500
    big = b"x" * 3_000_000
    client.set("big", big)
    assert client.get("big") == big
    with client.pipeline() as pipe:
        for n in range(300):
            pipe.set(f"k{n}", n)
            pipe.get(f"k{n}")
        assert pipe.execute()[1::2] == [str(n).encode() for n in range(300)]
    listener = client.pubsub()
    listener.subscribe("news")
    assert listener.get_message(timeout=5)["type"] == "subscribe"
    client.publish("news", "hello")
    assert listener.get_message(timeout=5)["data"] == b"hello"
    listener.close()


def test_redis_commands_fail_in_the_servers_words(cache, client):
    import redis

    client.set("a", 1)
    with cache.armed("loading"), pytest.raises(redis.BusyLoadingError, match="loading the dataset in memory"):
        client.get("a")
    with cache.armed("readonly"):
        with pytest.raises(redis.ReadOnlyError, match="read only replica"):
            client.set("a", 2)
        assert client.get("a") == b"1"
    with cache.armed("slow"), at_least(0.3):
        assert client.get("a") == b"1"
    with cache.armed("timeout"), pytest.raises(redis.ResponseError, match="Timeout limit was reached"):
        client.get("a")
    assert client.get("a") == b"1"


def test_redis_transactions_abort_on_the_server(cache, client):
    import redis

    client.set("a", 1)
    with cache.armed("readonly"), client.pipeline(transaction=True) as pipe:
        pipe.get("a")
        pipe.set("a", 2)
        with pytest.raises(redis.ReadOnlyError):
            pipe.execute()
    assert client.get("a") == b"1"
    with cache.armed("readonly"), client.pipeline(transaction=False) as pipe:
        pipe.get("a")
        pipe.set("a", 2)
        pipe.get("a")
        got = pipe.execute(raise_on_error=False)
    assert (got[0], type(got[1]), got[2]) == (b"1", redis.ReadOnlyError, b"1")


def test_redis_outages_and_bytes(cache, client):
    import redis

    client.set("a", "x" * 5000)
    with cache.armed("pieces"):
        client.set("b", "short")
        assert client.get("b") == b"short"
    with cache.armed("thin"), at_least(0.2):
        assert len(client.get("a")) == 5000
    with cache.armed("reset"), pytest.raises(redis.ConnectionError):
        client.get("a")
    assert len(client.get("a")) == 5000
    client.rpush("list", *range(10))
    with cache.armed("few-rows"):
        assert client.lrange("list", 0, -1) == [b"0", b"1", b"2"]
    client.delete("list")


def test_redis_untouched_sessions_are_the_same_bytes(cache, tmp_path):
    redis = pytest.importorskip("redis")
    behind = Recorder(cache.upstream)
    proxy = Proxy(tmp_path, "redis", behind.port)
    before = Recorder(proxy.port)
    try:
        with redis.Redis(host="127.0.0.1", port=before.port, single_connection_client=True) as client:
            for n in range(100):
                client.set(f"e{n}", "y" * n * 50)
                client.get(f"e{n}")
        before.close(), behind.close()
        assert before.seen == behind.seen and len(before.seen) == 1
    finally:
        stop(proxy.process)


# ── Raw TCP ─────────────────────────────────────────────────────────────────────────────────


def test_raw_tcp_in_front_of_a_server_that_is_not_read(server, tmp_path):
    proxy = Proxy(tmp_path, "tcp", server)
    try:
        with connect(proxy.port) as db:
            assert db.execute("select count(*) from docs").fetchone() == (100,)
            with proxy.armed("slow"), at_least(0.6):
                db.execute("select 1")
            with proxy.armed("pieces"):
                assert db.execute("select count(*) from docs").fetchone() == (100,)
            with proxy.armed("timeout"):
                db.execute("select 1")
            db.execute("select 1")
            assert proxy.tally("timeout")["impossible"] == 1
            with proxy.armed("reset"), pytest.raises(psycopg.OperationalError):
                db.execute("select 1")
    finally:
        stop(proxy.process)
