"""The official clients of tests/ways, unmodified and told nothing of brownout, with their connections
redirected: what their users see must be what they see without us, and a fault must reach them. Run it by
tests/netns/run.sh, with the Python of tests/ways/install.sh."""

import contextlib
import os
import pathlib
import subprocess
import sys
import time

sys.argv[1] = os.path.abspath(sys.argv[1])
TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "ways"))
import check as ways  # noqa: E402: it is in another folder
from scene import (  # noqa: E402
    OURS, OUTSIDE, V4, apply, arm, check, finish, folder, hits, inside, listens, make_certificates, make_networks,
    remove, running, sidecar, start,
)

PLAIN, OLLAMA, QDRANT, QDRANT_GRPC, MILVUS, WEAVIATE, WEAVIATE_GRPC = 8080, 11434, 6333, 6334, 19530, 8081, 50051
NAMES = ["ollama.test", "qdrant.test", "milvus.test", "weaviate.test", "postgres.test", "redis.test"]

FILE = f"""
version: 1
name: official
gateways: {{ transparent: 15001 }}
dependencies:
  openai: {{ kind: openai, upstream: "https://api.openai.com", upstream_tls: {{ ca_file: ca.pem }} }}
  anthropic: {{ kind: http, upstream: "https://api.anthropic.com", upstream_tls: {{ ca_file: ca.pem }} }}
  gemini:
    kind: http
    upstream: "https://generativelanguage.googleapis.com"
    upstream_tls: {{ ca_file: ca.pem }}
  ollama: {{ kind: http, upstream: "http://ollama.test:{OLLAMA}" }}
  qdrant: {{ kind: qdrant, upstream: "http://qdrant.test:{QDRANT}" }}
  qdrant-grpc: {{ kind: qdrant, upstream: "http://qdrant.test:{QDRANT_GRPC}" }}
  milvus: {{ kind: milvus, upstream: "http://milvus.test:{MILVUS}" }}
  weaviate: {{ kind: weaviate, upstream: "http://weaviate.test:{WEAVIATE_GRPC}" }}
  postgres: {{ kind: postgres, upstream: "postgres.test:5432" }}
  redis: {{ kind: redis, upstream: "redis.test:6379" }}
faults:
  gone:
    target: [openai, anthropic, gemini, ollama, qdrant, qdrant-grpc, milvus, weaviate]
    error: {{ status: 503 }}
  no-rows: {{ target: postgres, error: {{ as: timeout }} }}
  no-keys: {{ target: redis, error: {{ as: loading }} }}
  slow: {{ target: [openai, qdrant-grpc, postgres, redis], latency: {{ add: 700ms }} }}
"""


def environment(ca):
    """The app's: its own addresses, and whom it trusts."""
    trust = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
    return ways.clean_environment(
        **dict.fromkeys(trust, str(ca)),
        OLLAMA_HOST=f"http://ollama.test:{OLLAMA}",
        WAYS_PLAIN_URL="https://api.openai.com",
        WAYS_QDRANT_URL=f"http://qdrant.test:{QDRANT}",
        WAYS_QDRANT_HOST="qdrant.test",
        WAYS_QDRANT_GRPC_PORT=str(QDRANT_GRPC),
        WAYS_GRPC=f"qdrant.test:{QDRANT_GRPC}",
        WAYS_WEAVIATE=f"weaviate.test:{WEAVIATE}:{WEAVIATE_GRPC}",
        MILVUS_URI=f"http://milvus.test:{MILVUS}",
        WAYS_POSTGRES="postgresql://app@postgres.test/postgres",
        WAYS_REDIS="redis://redis.test",
    )


def ask(names, ca):
    # Of another user than brownout; root, since only its folders hold the Python and Node clients.
    return ways.ask(names, environment(ca), wrapper=inside())


def outside(*command):
    return ["ip", "netns", "exec", OUTSIDE, *map(str, command)]


def stores():
    """Real stores, as far as they are installed."""
    process = subprocess.Popen(outside(sys.executable, TESTS / "servers.py", V4), stdout=subprocess.PIPE, text=True)
    running.append(process)
    up = process.stdout.readline().split()
    assert up[:1] == ["ready"], "the stores do not come up"
    clients = {"postgres": "psycopg_rows", "redis": "redis_commands"}
    for name in clients.keys() - set(up):
        print(f"  SKIPPED: {name} is not installed", flush=True)
    return process, [client for name, client in clients.items() if name in up]


def same(what, direct, got):
    for name, said in got.items():
        check(f"{name}: {what}", said == direct[name], f"{said}, directly {direct[name]}")


def failed(what, got):
    for name, said in got.items():
        check(f"{name}: {what}: {said.get('error')}", "error" in said, said)


def main():
    make_networks(" ".join([*ways.HOSTS, *NAMES]))
    make_certificates(ways.HOSTS)
    stub = [sys.executable, TESTS / "ways" / "stub.py", "--tls-port", 443]
    for port in (PLAIN, OLLAMA, QDRANT, WEAVIATE):
        stub += ["--port", port]
    for port in (QDRANT_GRPC, MILVUS, WEAVIATE_GRPC):
        stub += ["--grpc-port", port]
    stub += ["--cert", folder / "up.pem", "--key", folder / "up.key"]
    start(outside(*stub), lambda: listens(OUTSIDE, WEAVIATE_GRPC), stdout=subprocess.DEVNULL)
    servers, raw = stores()
    scripts = ways.SCRIPTS if ways.NODE and (TESTS / "ways" / "node_modules").is_dir() else []
    if not scripts:
        print("  SKIPPED: node clients: no node, or tests/ways/node_modules is not installed", flush=True)
    everybody = [*ways.LLMS, *ways.OLLAMA, *ways.PLAIN, *ways.REST, *ways.GRPC, *raw, *scripts]
    calm = ("_get", "_fetch", "grpc_status")
    struck = [name for name in everybody if not name.endswith(calm)]
    quick = ["openai_whole", "qdrant_grpc", *raw]

    print("official clients, directly", flush=True)
    direct = ask(everybody, folder / "ca.pem")
    for name, said in direct.items():
        check(name, "error" not in said, said)
    print("official clients, redirected", flush=True)
    with sidecar(FILE) as log:
        ours = folder / "bundle.pem"
        apply("nft", "--uid", OURS)
        same("nothing armed, nothing changed", direct, ask(everybody, ours))
        arm("gone", "no-rows", "no-keys")
        failed("a fault reaches it", ask(struck, ours))
        check("the faults were counted", hits("gone") >= len(struck) - 2, hits("gone"))
        for fault in ["no-rows", "no-keys"][: len(raw)]:
            check(f"{fault} was counted", hits(fault) >= 1, hits(fault))
        arm("slow")
        began = time.monotonic()
        same("slower, and the same", direct, ask(quick, ours))
        check("each waited", time.monotonic() - began >= 0.7 * len(quick))
        check("for a fault", hits("slow") >= len(quick), hits("slow"))
        arm()
        same("as before when it is over", direct, ask(quick, ours))
        text = log.read_text()
        check("the log has no complaint", "does not trust" not in text and "panicked" not in text, text)
        remove("nft")
    servers.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        servers.wait(20)


main()
finish()
