"""Programs that know nothing of brownout but the proxy variables and a CA file, each in a process of
its own: dependencies are served and broken, other hosts keep their own certificates."""

import concurrent.futures
import contextlib
import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import textwrap
import threading

import pytest

from conftest import BROWNOUT, free_port, stop, wait_for

CHAT = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop",
                 "message": {"role": "assistant", "content": "from upstream"}}],
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({"result": {"collections": [{"name": "docs"}]}, "status": "ok", "time": 0})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.answer(CHAT)

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def upstream(directory=None):
    """A server; over TLS with a certificate of its own when it is given a directory for it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if directory:
        cert, key = directory / "cert.pem", directory / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-keyout", key, "-out", cert, "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-addext", "basicConstraints=critical,CA:FALSE"],
            check=True, capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def grpc_upstream():
    """A gRPC server that says what it is told, whatever the method; a port nobody has without
    grpcio."""
    try:
        import grpc
    except ImportError:
        yield free_port()
        return

    class Echo(grpc.GenericRpcHandler):
        def service(self, _):
            return grpc.unary_unary_rpc_method_handler(lambda message, _: message)

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2), handlers=[Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("SKIPPED: openssl is not there")
    known, unknown = tmp_path_factory.mktemp("known"), tmp_path_factory.mktemp("unknown")
    work = tmp_path_factory.mktemp("work")
    with upstream(known) as llm, upstream() as vectors, upstream(unknown) as stranger, \
            grpc_upstream() as store:
        forward, admin = free_port(), free_port()
        (work / "brownout.yaml").write_text(textwrap.dedent(f"""
            version: 1
            name: forward
            dependencies:
              llm:
                kind: openai
                upstream: https://localhost:{llm}
                upstream_tls: {{ ca_file: {known / "cert.pem"} }}
                hosts: [api.llm.test]
              vectors: {{ kind: qdrant, upstream: "http://127.0.0.1:{vectors}", hosts: [vectors.test] }}
              store: {{ kind: qdrant, upstream: "http://127.0.0.1:{store}", hosts: [store.test] }}
            gateways: {{ forward: {forward} }}
            faults:
              gone: {{ target: [llm, vectors, store], error: {{ status: 503 }} }}
        """))
        env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        env["BROWNOUT_CA_DIR"] = str(work / "ca")
        processes = []

        def serve(*options):
            while processes:
                stop(processes.pop())
            command = [BROWNOUT, "serve", str(work / "brownout.yaml"), "--admin",
                       f"127.0.0.1:{admin}", *options]
            processes.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL))
            wait_for(processes[0], forward)
            ca = str(work / "ca" / "ca.pem")
            proxy = f"http://127.0.0.1:{forward}"
            return env | {
                "HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "http_proxy": proxy, "https_proxy": proxy,
                "SSL_CERT_FILE": ca, "REQUESTS_CA_BUNDLE": ca, "CURL_CA_BUNDLE": ca,
                "AWS_CA_BUNDLE": ca, "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": ca,
                "STRANGER": f"https://localhost:{stranger}/v1/models",
                "STRANGER_CA": str(unknown / "cert.pem"),
            }

        yield serve
        while processes:
            stop(processes.pop())


def run(program, env):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=env,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Each prints the status of a call to the LLM by TLS, and of one to the vector store without.
PROGRAMS = {
    "httpx": """
        import httpx
        for url in ("https://api.llm.test/v1/models", "http://vectors.test/collections"):
            print(httpx.get(url).status_code)
    """,
    "requests": """
        import requests
        for url in ("https://api.llm.test/v1/models", "http://vectors.test/collections"):
            print(requests.get(url).status_code)
    """,
    "urllib": """
        import urllib.error, urllib.request
        for url in ("https://api.llm.test/v1/models", "http://vectors.test/collections"):
            try:
                print(urllib.request.urlopen(url).status)
            except urllib.error.HTTPError as error:
                print(error.code)
    """,
    "aiohttp": """
        import aiohttp, asyncio
        async def main():
            async with aiohttp.ClientSession(trust_env=True) as session:
                for url in ("https://api.llm.test/v1/models", "http://vectors.test/collections"):
                    async with session.get(url) as answer:
                        print(answer.status)
        asyncio.run(main())
    """,
    "openai": """
        import openai
        client = openai.OpenAI(base_url="https://api.llm.test/v1", api_key="k", max_retries=0)
        for _ in range(2):
            try:
                answer = client.chat.completions.create(model="m", messages=[])
                assert answer.choices[0].message.content == "from upstream"
                print(200)
            except openai.APIStatusError as error:
                print(error.status_code)
    """,
    "qdrant": """
        from qdrant_client import QdrantClient
        from qdrant_client.http.exceptions import UnexpectedResponse
        for url in ("https://api.llm.test:443", "http://vectors.test:80"):
            client = QdrantClient(url=url, check_compatibility=False)
            try:
                assert [one.name for one in client.get_collections().collections] == ["docs"]
                print(200)
            except UnexpectedResponse as error:
                print(error.status_code)
    """,
    "curl": """
        import subprocess
        for url in ("https://api.llm.test/v1/models", "http://vectors.test/collections"):
            command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    """,
}


def needs(name):
    module = {"qdrant": "qdrant_client", "curl": None, "urllib": None}.get(name, name)
    if module:
        pytest.importorskip(module, reason=f"SKIPPED: {module} is not there")
    elif name == "curl" and not shutil.which("curl"):
        pytest.skip("SKIPPED: curl is not there")


@pytest.fixture(scope="module", params=["untouched", "broken"])
def served(request, scene):
    broken = request.param == "broken"
    return scene(*(["--arm", "gone"] if broken else [])), "503" if broken else "200"


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_reach_dependencies_and_feel_their_faults(served, name):
    needs(name)
    env, status = served
    assert run(PROGRAMS[name], env).split() == [status, status]


def test_another_host_keeps_its_own_certificate_whatever_is_armed(served):
    env, _ = served
    program = """
        import httpx, os, ssl
        context = ssl.create_default_context(cafile=os.environ["STRANGER_CA"])
        print(httpx.get(os.environ["STRANGER"], verify=context).status_code)
        try:
            httpx.get(os.environ["STRANGER"])
        except httpx.ConnectError as error:
            print("CERTIFICATE_VERIFY_FAILED" in str(error))
    """
    assert run(program, env).split() == ["200", "True"]


def test_grpc_comes_by_connect_without_tls(served):
    pytest.importorskip("grpc", reason="SKIPPED: grpcio is not there")
    env, status = served
    program = """
        import grpc
        channel = grpc.insecure_channel("store.test:80")
        call = channel.unary_unary("/qdrant.Points/Search")
        try:
            assert call(b"question", timeout=20) == b"question"
            print("OK")
        except grpc.RpcError as error:
            print(error.code().name)
    """
    assert run(program, env) == ("OK" if status == "200" else "UNAVAILABLE")
