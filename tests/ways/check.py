"""Official clients through every way in: what their users see must be what they see without us, and a
fault must reach them. One line for each client and way.

    python check.py BROWNOUT
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import servers  # noqa: E402: it is in the folder above

BROWNOUT = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else None
NODE = [name for name in ("node",) if subprocess.run(["which", name], capture_output=True).returncode == 0]
LLMS = [
    "openai_whole", "openai_stream", "openai_async", "openai_responses", "openai_embeddings",
    "anthropic_whole", "anthropic_stream", "gemini_whole", "gemini_stream",
]
OLLAMA = ["ollama_whole", "ollama_stream"]
PLAIN = ["httpx_get", "requests_get", "urllib_get", "aiohttp_get", "curl_get"]
REST = ["qdrant_rest"]
STORES = ["psycopg_rows", "redis_commands"]
GRPC = ["qdrant_grpc", "milvus_grpc", "weaviate_grpc", "grpc_echo", "grpc_status"]
SCRIPTS = ["node_openai", "node_openai_stream", "node_anthropic", "node_vercel", "node_fetch"]
HOSTS = ["api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def started(command, ready, **options):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    try:
        line = process.stdout.readline()
        assert ready in line, f"{command[0]} said {line!r}"
        yield line
    finally:
        process.terminate()
        process.wait(20)


def clean_environment(**more):
    drop = ("PROXY", "_BASE_URL", "SSL_CERT", "OLLAMA_HOST")
    kept = {name: value for name, value in os.environ.items() if not name.upper().endswith(drop)}
    return kept | more


def ask(names, environment, wrapper=()):
    """What each client got, by name."""
    command = [*wrapper, sys.executable, "-W", "ignore", os.path.join(HERE, "clients.py"), *names]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    said = [json.loads(line) for line in out.stdout.splitlines() if line.startswith("{")]
    missing = set(names) - {one["name"] for one in said}
    assert not missing, f"no word of {sorted(missing)}:\n{out.stderr[-2000:]}"
    return {one.pop("name"): one for one in said}


failures = []


def compare(way, direct, got):
    for name, said in got.items():
        good = said == direct[name]
        print(f"{'ok  ' if good else 'FAIL'} {way:<18} {name}", flush=True)
        if not good:
            failures.append(f"{way} {name}: {said}, directly {direct[name]}")


def expect_errors(way, got):
    for name, said in got.items():
        good = "error" in said
        print(f"{'ok  ' if good else 'FAIL'} {way:<18} {name}: {said.get('error', 'no error')}", flush=True)
        if not good:
            failures.append(f"{way} {name}: the fault was not seen: {said}")


def certificate(folder):
    names = ",".join(f"DNS:{host}" for host in [*HOSTS, "localhost"])
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", "/CN=stub", "-addext", "basicConstraints=critical,CA:FALSE",
         "-addext", f"subjectAltName={names},IP:127.0.0.1",
         "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"],
        check=True, capture_output=True,
    )


def base_urls(http, grpc):
    return {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{http}/v1",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{http}",
        "GOOGLE_GEMINI_BASE_URL": f"http://127.0.0.1:{http}",
        "OLLAMA_HOST": f"http://127.0.0.1:{http}",
        "WAYS_PLAIN_URL": f"http://127.0.0.1:{http}",
        "WAYS_QDRANT_URL": f"http://127.0.0.1:{http}",
        "WAYS_QDRANT_GRPC_PORT": str(grpc),
        "WAYS_WEAVIATE": f"127.0.0.1:{http}:{grpc}",
        "WAYS_GRPC": f"127.0.0.1:{grpc}",
        "MILVUS_URI": f"http://127.0.0.1:{grpc}",
    }


def store_urls(postgres, redis):
    return {
        "WAYS_POSTGRES": f"postgresql://app@127.0.0.1:{postgres}/postgres",
        "WAYS_REDIS": f"redis://127.0.0.1:{redis}",
    }


def through(gateway, target):
    """A port whose connections go to a place on this machine by CONNECT: for clients that know no proxy."""
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source, sink):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def accept():
        while True:
            client, _ = listener.accept()
            proxy = socket.create_connection(("127.0.0.1", gateway))
            proxy.sendall(f"CONNECT 127.0.0.1:{target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = proxy.recv(1)
                assert piece, f"CONNECT was answered with {head!r}"
                head += piece
            for one, other in ((client, proxy), (proxy, client)):
                threading.Thread(target=copy, args=(one, other), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def serve(folder, text, *arm):
    file = os.path.join(folder, "brownout.yaml")
    with open(file, "w") as out:
        out.write(textwrap.dedent(text))
    command = [BROWNOUT, "serve", file, "--admin", "127.0.0.1:0", "--print", "json", *arm]
    return started(command, "dependencies", env=clean_environment(BROWNOUT_CA_DIR=f"{folder}/ca"))


def stores(folder):
    """psycopg and redis-py: directly, at ports of their own, and by CONNECT."""
    with contextlib.ExitStack() as stack:
        try:
            postgres = stack.enter_context(servers.postgres())
            redis = stack.enter_context(servers.redis_server())
        except servers.Missing as missing:
            print(f"skip psycopg and redis-py: {missing}", flush=True)
            return
        direct = ask(STORES, clean_environment(**store_urls(postgres, redis)))
        broken = {name: said for name, said in direct.items() if "error" in said}
        assert not broken, f"directly: {broken}"
        gateway = free_port()
        file = f"""
            version: 1
            dependencies:
              vectors: {{ kind: postgres, listen: 0, upstream: "127.0.0.1:{postgres}" }}
              cache: {{ kind: redis, listen: 0, upstream: "127.0.0.1:{redis}" }}
            gateways: {{ forward: {gateway} }}
            faults:
              gone: {{ target: vectors, error: {{ as: timeout }} }}
              lost: {{ target: cache, error: {{ as: loading }} }}
            """
        for arm in ((), ("--arm", "gone,lost")):
            with serve(folder, file, *arm) as line:
                at = {name: one["listen"] for name, one in json.loads(line)["dependencies"].items()}
                ports = [url.rstrip("/").rsplit(":", 1)[1] for url in (at["vectors"], at["cache"])]
                tunnels = [through(gateway, port) for port in (postgres, redis)]
                for way, to in (("reverse", ports), ("forward, CONNECT", tunnels)):
                    got = ask(STORES, clean_environment(**store_urls(*to)))
                    if arm:
                        expect_errors(f"{way}, fault", got)
                    else:
                        compare(way, direct, got)


def main():
    folder = tempfile.mkdtemp(prefix="ways-")
    certificate(folder)
    port, tls, grpc = free_port(), free_port(), free_port()
    stub = [
        sys.executable, os.path.join(HERE, "stub.py"), "--port", str(port), "--tls-port", str(tls),
        "--grpc-port", str(grpc), "--cert", f"{folder}/cert.pem", "--key", f"{folder}/key.pem",
    ]
    scripts = SCRIPTS if NODE and os.path.isdir(os.path.join(HERE, "node_modules")) else []
    if not scripts:
        print("skip node clients: no node, or tests/ways/node_modules is not installed", flush=True)
    everybody = [*LLMS, *OLLAMA, *PLAIN, *REST, *GRPC, *scripts]
    stores(folder)
    with started(stub, "ready"):
        direct = ask(everybody, clean_environment(**base_urls(port, grpc)))
        broken = {name: said for name, said in direct.items() if "error" in said}
        assert not broken, f"directly: {broken}"

        dependencies = f"""
            version: 1
            dependencies:
              all: {{ kind: http, listen: 0, upstream: "http://127.0.0.1:{port}" }}
              calls: {{ kind: grpc, listen: 0, upstream: "http://127.0.0.1:{grpc}" }}
            faults:
              gone: {{ target: all, error: {{ status: 503 }} }}
              lost: {{ target: calls, error: {{ status: 503 }} }}
            """
        with serve(folder, dependencies) as line:
            at = {name: one["listen"] for name, one in json.loads(line)["dependencies"].items()}
            ports = [url.rsplit(":", 1)[1] for url in (at["all"], at["calls"])]
            compare("reverse", direct, ask(everybody, clean_environment(**base_urls(*ports))))
        with serve(folder, dependencies, "--arm", "gone,lost") as line:
            at = {name: one["listen"] for name, one in json.loads(line)["dependencies"].items()}
            ports = [url.rsplit(":", 1)[1] for url in (at["all"], at["calls"])]
            struck = [name for name in everybody if name.split("_")[1] != "get" and name != "node_fetch"]
            struck = [name for name in struck if name != "grpc_status"]
            expect_errors("reverse, 503", ask(struck, clean_environment(**base_urls(*ports))))

        # No base URL at all: the clients call their providers, and end up here.
        for armed in (False, True):
            file = os.path.join(folder, "forward.yaml")
            with open(file, "w") as out:
                out.write(textwrap.dedent(f"""
                    version: 1
                    dependencies:
                      llm:
                        kind: http
                        upstream: https://127.0.0.1:{tls}
                        upstream_tls: {{ ca_file: cert.pem, server_name: localhost }}
                        hosts: [{', '.join(HOSTS)}]
                      calls: {{ kind: grpc, listen: 0, upstream: "http://127.0.0.1:{grpc}" }}
                    gateways: {{ forward: 0 }}
                    faults: {{ gone: {{ target: llm, error: {{ status: 503 }} }} }}
                    """))
            wrapper = [BROWNOUT, "exec", file, "--admin", "127.0.0.1:0"]
            wrapper += ["--arm", "gone", "--"] if armed else ["--"]
            environment = clean_environment(
                BROWNOUT_CA_DIR=f"{folder}/ca", WAYS_PLAIN_URL="https://api.openai.com",
                WAYS_QDRANT_GRPC_PORT=str(grpc), MILVUS_URI=f"http://127.0.0.1:{grpc}",
            )
            names = [*LLMS, *PLAIN, *(name for name in scripts if name != "node_vercel")]
            if armed:
                expect_errors("forward, 503", ask(LLMS, environment, wrapper))
            else:
                compare("forward, TLS", direct, ask(names, environment, wrapper))
    print(f"{len(failures)} failures" if failures else "all ways hold")
    for failure in failures:
        print(f"  {failure}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
