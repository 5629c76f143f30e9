"""Starts brownout for the tests and hands out clients that count the requests they send."""

import contextlib
import json
import os
import socket
import subprocess
import textwrap
import time

import openai
import pytest
from qdrant_client import QdrantClient

BROWNOUT = os.environ.get("BROWNOUT", "brownout")
PATIENCE = 30

# The clients must reach loopback whatever proxy the environment names.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stop(process):
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError("brownout did not stop when told to")


def wait_for(process, port):
    """Waits until somebody listens there."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, f"brownout ended with {process.returncode}"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.02)
    raise AssertionError("brownout does not listen")


@contextlib.contextmanager
def simulator(kind):
    """`brownout sim` of a kind, or the one that BROWNOUT_SIM_OPENAI / BROWNOUT_SIM_QDRANT names."""
    running = os.environ.get(f"BROWNOUT_SIM_{kind.upper()}")
    if running:
        yield running
        return
    port = free_port()
    listen = f"127.0.0.1:{port}"
    command = [BROWNOUT, "sim", "--kind", kind, "--listen", listen, "--model", "instant"]
    if kind == "qdrant":
        command += ["--documents", "200"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(process, port)
        yield f"http://{listen}"
    finally:
        stop(process)


class Served:
    """A proxy at work in front of simulated upstreams."""

    def __init__(self, addresses):
        self.addresses = addresses

    def url(self, dependency):
        return self.addresses["dependencies"][dependency]["listen"]

    def openai(self, **options):
        return counted(openai.OpenAI, f"{self.url('llm')}/v1", **options)

    def async_openai(self, **options):
        options.setdefault("timeout", 20)
        return openai.AsyncOpenAI(base_url=f"{self.url('llm')}/v1", api_key="sk-test", **options)

    def qdrant(self, **options):
        return qdrant(self.url("vectors"), **options)


FILE = """
version: 1
name: sdk
seed: 7
dependencies:
  llm: { kind: openai, listen: 0, simulate: { model: instant%s } }
  vectors: { kind: qdrant, listen: 0, simulate: { model: instant, documents: 60 } }
"""


@pytest.fixture
def serve_file(tmp_path):
    """serve_file("  llm: {…}\n", "latency: { add: 1s }") runs the proxy with these dependencies and
    this effect armed on all of `llm`."""
    yield from serving(
        tmp_path,
        lambda dependencies: f"version: 1\nname: sdk\nseed: 7\ndependencies:\n{dependencies}",
    )


@pytest.fixture
def serve(tmp_path):
    """serve("latency: { add: 1s }") runs the proxy with this effect armed on all of `llm`."""
    for start in serving(tmp_path, lambda simulate: FILE % simulate):
        yield lambda effect=None, target="llm", where=None, simulate="": start(
            simulate, effect, target, where
        )


def serving(tmp_path, file_of):
    processes = []

    def start(given, effect=None, target="llm", where=None):
        file = tmp_path / "brownout.yaml"
        text = file_of(given)
        if effect:
            text += f"faults:\n  broken:\n    target: {target}\n"
            if where:
                text += f"    where: {where}\n"
            text += textwrap.indent(effect.strip(), "    ") + "\n"
        file.write_text(text)
        command = [BROWNOUT, "serve", str(file), "--admin", "127.0.0.1:0", "--print", "json"]
        if effect:
            command += ["--arm", "broken"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        line = process.stdout.readline()
        assert line, f"brownout ended with {process.wait()} for\n{text}"
        return Served(json.loads(line))

    yield start
    for process in processes:
        stop(process)


def counted(make, base_url, **options):
    """A client with `sent`: the requests that went on the wire, retries included."""
    sent = []
    # A client of the SDK's own making, so that it is the HTTP library that the SDK really uses.
    transport = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
    options.setdefault("timeout", 20)
    client = make(base_url=base_url, api_key="sk-test", http_client=transport, **options)
    client.sent = sent
    return client


def qdrant(url, **options):
    # Without the version check at the start, which is one request more.
    options.setdefault("timeout", 20)
    return QdrantClient(url=url, prefer_grpc=False, check_compatibility=False, **options)


@pytest.fixture(scope="session")
def openai_sim():
    with simulator("openai") as url:
        yield counted(openai.OpenAI, f"{url}/v1")


@pytest.fixture(scope="session")
def qdrant_sim():
    with simulator("qdrant") as url:
        # With the version check: a warning would fail the test.
        yield QdrantClient(url=url, prefer_grpc=False, timeout=20)


@contextlib.contextmanager
def at_least(seconds):
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took >= seconds, f"{took:.3f} s, which is less than {seconds} s"


def say(client, question="How do refunds work?", **options):
    """One whole answer."""
    return client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": question}], **options
    )


def stream(client, question="How do refunds work?", tokens=60, **options):
    """A stream of exactly so many tokens."""
    return say(
        client,
        question,
        stream=True,
        max_tokens=tokens,
        extra_body={"ignore_eos": True},
        **options,
    )


class Heard:
    """What user code got out of a stream, up to its end or its error."""

    def __init__(self, events):
        self.pieces, self.finish, self.error = [], None, None
        self.times = []
        try:
            for event in events:
                for choice in event.choices:
                    if choice.delta.content:
                        self.pieces.append(choice.delta.content)
                        self.times.append(time.monotonic())
                    self.finish = choice.finish_reason or self.finish
        except Exception as error:  # noqa: BLE001: the tests say which one they want
            self.error = error

    @property
    def text(self):
        return "".join(self.pieces)
