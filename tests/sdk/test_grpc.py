"""gRPC through the proxy: grpcio and qdrant-client against a stub that records what it is asked."""

import json
import subprocess
import textwrap
import time
from concurrent import futures

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not there: gRPC is not tested")
from qdrant_client import QdrantClient
from qdrant_client import grpc as qdrant
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse

from conftest import BROWNOUT, stop

SAME = {"request_deserializer": None, "response_serializer": None}


class Stub(grpc.GenericRpcHandler):
    """Qdrant's `Query`, and an echo: one by one, both ways at once, many for one."""

    def __init__(self):
        self.asked = []
        self.cancelled = futures.Future()

    def service(self, call):
        self.asked.append((call.method, dict(call.invocation_metadata)))
        return {
            "/qdrant.Points/Query": grpc.unary_unary_rpc_method_handler(
                self.query, qdrant.QueryPoints.FromString, qdrant.QueryResponse.SerializeToString
            ),
            "/test.Echo/Unary": grpc.unary_unary_rpc_method_handler(self.unary, **SAME),
            "/test.Echo/Chat": grpc.stream_stream_rpc_method_handler(self.chat, **SAME),
            "/test.Echo/Many": grpc.unary_stream_rpc_method_handler(self.many, **SAME),
            "/test.Echo/Fail": grpc.unary_unary_rpc_method_handler(self.fail, **SAME),
        }.get(call.method)

    def query(self, request, context):
        points = [
            qdrant.ScoredPoint(id=qdrant.PointId(num=n), score=1 - n / 10) for n in range(request.limit)
        ]
        return qdrant.QueryResponse(result=points, time=0.001)

    def unary(self, request, context):
        context.send_initial_metadata((("x-head", "1"), ("x-bin-bin", b"\x00\xff")))
        context.set_trailing_metadata((("x-tail", "2"),))
        return request

    def chat(self, requests, context):
        yield from requests

    def many(self, request, context):
        context.add_callback(lambda: self.cancelled.done() or self.cancelled.set_result(True))
        for number in range(int(request)):
            yield b"message %d" % number

    def fail(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nicht jetzt: 100% – später")


@pytest.fixture(scope="module")
def stub():
    server = grpc.server(futures.ThreadPoolExecutor(16))
    stub = Stub()
    server.add_generic_rpc_handlers([stub])
    stub.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield stub
    server.stop(None)


@pytest.fixture
def proxy(stub, tmp_path):
    """proxy("latency: { add: 1s }") gives the address of a proxy before the stub."""
    running = []

    def start(effect=None):
        text = textwrap.dedent(f"""
            version: 1
            name: grpc
            seed: 7
            dependencies:
              vectors: {{ kind: qdrant, listen: 0, upstream: "http://127.0.0.1:{stub.port}" }}
            """)
        if effect:
            text += f"faults:\n  broken:\n    target: vectors\n    {effect}\n"
        file = tmp_path / "brownout.yaml"
        file.write_text(text)
        command = [BROWNOUT, "serve", str(file), "--admin", "127.0.0.1:0", "--print", "json"]
        if effect:
            command += ["--arm", "broken"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        line = process.stdout.readline()
        assert line, f"brownout ended with {process.wait()} for\n{text}"
        return json.loads(line)["dependencies"]["vectors"]["listen"].removeprefix("http://")

    yield start
    for process in running:
        stop(process)


def channel(address):
    return grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])


def test_all_kinds_of_calls_are_as_without_the_proxy(stub, proxy):
    seen = []
    for address in (f"127.0.0.1:{stub.port}", proxy()):
        with channel(address) as open_channel:
            answer, call = open_channel.unary_unary("/test.Echo/Unary").with_call(
                b"hello", metadata=(("x-a", "1"), ("x-b-bin", b"\x01\xfe")), timeout=10
            )
            chat = open_channel.stream_stream("/test.Echo/Chat")
            many = list(open_channel.unary_stream("/test.Echo/Many")(b"1000", timeout=20))
            big = open_channel.unary_unary("/test.Echo/Unary")(b"x" * 3_000_000, timeout=20)
            with pytest.raises(grpc.RpcError) as failed:
                open_channel.unary_unary("/test.Echo/Fail")(b"", timeout=10)
            asked = stub.asked[-4:]
            heard = list(chat(iter([b"one", b"", b"three"]), timeout=10))
            seen.append((
                answer, list(call.initial_metadata()), list(call.trailing_metadata()), many, len(big),
                failed.value.code(), failed.value.details(), heard,
                [m for m, _ in asked], [sorted(k for k in meta if k != "grpc-timeout") for _, meta in asked],
            ))
    assert seen[0] == seen[1]
    assert seen[1][6] == "nicht jetzt: 100% – später"


def test_both_ways_at_once(proxy):
    with channel(proxy()) as open_channel:
        waiting = []

        def questions():
            for number in range(50):
                yield b"%d" % number
                while len(waiting) <= number:
                    time.sleep(0.001)

        for echoed in open_channel.stream_stream("/test.Echo/Chat")(questions(), timeout=20):
            waiting.append(echoed)
        assert waiting == [b"%d" % number for number in range(50)]


def test_a_call_that_is_cancelled_is_cancelled_upstream(stub, proxy):
    stub.cancelled = futures.Future()
    with channel(proxy()) as open_channel:
        call = open_channel.unary_stream("/test.Echo/Many")(b"100000000")
        next(call)
        call.cancel()
        assert stub.cancelled.result(10)


def client(address):
    host, port = address.split(":")
    return QdrantClient(
        host=host, port=1, grpc_port=int(port), prefer_grpc=True, check_compatibility=False,
        grpc_options={"grpc.enable_http_proxy": 0}, timeout=10,
    )


def test_qdrant_client_searches(stub, proxy):
    found = client(proxy()).query_points("documents", query=[0.1, 0.2], limit=3)
    assert [point.id for point in found.points] == [0, 1, 2]
    assert stub.asked[-1][0] == "/qdrant.Points/Query"


@pytest.mark.parametrize("effect, code", [
    ("error: { as: overloaded }", "UNAVAILABLE"),
    ("error: { grpc_status: DATA_LOSS }", "DATA_LOSS"),
    ("error: { status: 403 }", "PERMISSION_DENIED"),
    ("outage: { mode: http_503 }", "UNAVAILABLE"),
    ("outage: { mode: rst_stream, code: CANCEL }", "CANCELLED"),
    ("outage: { mode: rst_stream, code: ENHANCE_YOUR_CALM }", "RESOURCE_EXHAUSTED"),
    ("outage: { mode: rst_stream, code: INTERNAL_ERROR }", "INTERNAL"),
    ("outage: { mode: rst_stream }", "UNAVAILABLE"),
    ("outage: { mode: goaway }", "UNAVAILABLE"),
    ("outage: { mode: reset }", "UNAVAILABLE"),
    ("outage: { mode: close }", "UNAVAILABLE"),
    ("outage: { mode: refuse }", "UNAVAILABLE"),
    ("latency: { add: 30s }", "DEADLINE_EXCEEDED"),
])
def test_each_failure_is_the_status_it_should_be(proxy, effect, code):
    with channel(proxy(effect)) as open_channel, pytest.raises(grpc.RpcError) as failed:
        open_channel.unary_unary("/qdrant.Points/Query")(b"", timeout=2)
    assert failed.value.code().name == code, failed.value


@pytest.mark.parametrize("effect, code, count", [
    ("truncate: { after: 3 events }", None, 3),
    ("truncate: { after: 3 events, ending: rst_stream }", "INTERNAL", 3),
    ("truncate: { after: 3 events, ending: rst_stream, code: REFUSED_STREAM }", "UNAVAILABLE", 3),
    ("truncate: { after: 3 events, ending: goaway }", "UNAVAILABLE", 3),
    ("truncate: { after: 3 events, ending: close }", "UNAVAILABLE", 3),
    ("truncate: { after: 3 events, ending: no_done }", "UNKNOWN", 3),
    ("error: { after: 3 events, as: overloaded }", "UNAVAILABLE", 3),
    ("stall: { after: 3 events, pause: 60s }", "DEADLINE_EXCEEDED", 3),
    ("slow_stream: { tokens_per_second: 100 }", None, 10),
])
def test_each_cut_comes_behind_its_messages(proxy, effect, code, count):
    got = []
    with channel(proxy(effect)) as open_channel:
        try:
            for message in open_channel.unary_stream("/test.Echo/Many")(b"10", timeout=3):
                got.append(message)
            ended = None
        except grpc.RpcError as error:
            ended = error.code().name
    assert ended == code
    want = [b"message %d" % number for number in range(count)]
    # grpcio drops messages that the program has not taken when the call fails.
    assert got == want if code is None else got == want[: len(got)]


def test_qdrant_client_knows_a_rate_limit(proxy):
    limited = client(proxy("error: { as: rate_limit, retry_after: 2s }"))
    with pytest.raises(ResourceExhaustedResponse) as failed:
        limited.query_points("documents", query=[0.1, 0.2], limit=3)
    assert failed.value.retry_after_s == 2
