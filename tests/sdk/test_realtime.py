"""What user code sees of faults on a WebSocket: the Realtime client of `openai`, and `websockets`."""

import asyncio
import json
import subprocess
import textwrap
import threading

import openai
import pytest

from conftest import BROWNOUT, Served, at_least, stop

websockets = pytest.importorskip(
    "websockets", reason="SKIPPED: `websockets` is not installed, no Realtime client is tested"
)
from websockets.asyncio.client import connect  # noqa: E402
from websockets.asyncio.server import serve as listen  # noqa: E402
from websockets.exceptions import ConnectionClosed, ConnectionClosedError  # noqa: E402

TOKENS = 40
FILE = """
version: 1
name: realtime
seed: 7
dependencies:
  llm: {{ kind: openai, listen: 0, upstream: "http://127.0.0.1:{port}" }}
"""


async def realtime(socket):
    """A server of the Realtime API, as small as can be."""

    async def say(kind, **rest):
        await socket.send(json.dumps({"type": kind, "event_id": "event_1", **rest}))

    await say("session.created", session={"type": "realtime", "id": "sess_1"})
    async for message in socket:
        if isinstance(message, bytes) or json.loads(message)["type"] != "response.create":
            await socket.send(message)
            continue
        ids = {"response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}
        for index in range(TOKENS):
            await say("response.output_text.delta", delta=f"w{index} ", **ids)
        usage = {"input_tokens": 3, "output_tokens": TOKENS, "total_tokens": TOKENS + 3}
        await say("response.done", response={"id": "r", "status": "completed", "usage": usage})


@pytest.fixture(scope="session")
def upstream():
    """Its port."""
    ready, port, loop = threading.Event(), [], asyncio.new_event_loop()

    async def run():
        async with listen(realtime, "127.0.0.1", 0, max_size=None) as server:
            port.append(server.sockets[0].getsockname()[1])
            ready.set()
            await asyncio.Future()

    threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True).start()
    assert ready.wait(20)
    return port[0]


@pytest.fixture
def serve(tmp_path, upstream):
    processes = []

    def start(effect=None, armed=True):
        text = FILE.format(port=upstream)
        if effect:
            text += "faults:\n  broken:\n    target: llm\n" + textwrap.indent(effect, "    ") + "\n"
        file = tmp_path / "brownout.yaml"
        file.write_text(text)
        command = [BROWNOUT, "serve", str(file), "--admin", "127.0.0.1:0", "--print", "json"]
        if effect and armed:
            command += ["--arm", "broken"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        line = process.stdout.readline()
        assert line, f"brownout ended with {process.wait()} for\n{text}"
        return Served(json.loads(line))

    yield start
    for process in processes:
        stop(process)


class Told:
    """One answer over the Realtime API, up to its end or its error."""

    def __init__(self, served):
        self.pieces, self.done, self.error, self.errors = [], False, None, []
        asyncio.run(asyncio.wait_for(self.ask(served), 30))

    async def ask(self, served):
        client = served.async_openai()
        try:
            async with client.realtime.connect(model="gpt-realtime") as connection:
                await connection.response.create()
                async for event in connection:
                    if event.type == "response.output_text.delta":
                        self.pieces.append(event.delta)
                    elif event.type == "error":
                        self.errors.append(event.error.message)
                    elif event.type == "response.done":
                        self.done = True
                        return
        except (openai.OpenAIError, websockets.exceptions.WebSocketException, ValueError) as error:
            self.error = error


def url(served):
    return served.url("llm").replace("http", "ws", 1) + "/v1/realtime?model=m"


def test_without_a_fault_nothing_changes(serve):
    told = Told(serve())
    assert (len(told.pieces), told.done, told.error) == (TOKENS, True, None)


def test_a_code_reaches_the_client(serve):
    told = Told(
        serve("truncate: { after: 10 tokens, ending: close_frame, code: 1013, reason: later }")
    )
    assert len(told.pieces) == 10 and not told.done
    assert isinstance(told.error, ConnectionClosedError), repr(told.error)
    assert (told.error.rcvd.code, told.error.rcvd.reason) == (1013, "later")


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_an_end_without_a_close_frame_is_an_abnormal_one(serve, ending):
    told = Told(serve(f"truncate: {{ after: 10 tokens, ending: {ending} }}"))
    assert len(told.pieces) == 10
    assert isinstance(told.error, ConnectionClosedError)
    assert told.error.rcvd is None, "what is reported as 1006"


def test_a_clean_end_looks_like_the_end(serve):
    told = Told(serve("truncate: { after: 10 tokens, ending: clean }"))
    assert (len(told.pieces), told.done, told.error) == (10, False, None)


def test_dropped_events_leave_holes(serve):
    told = Told(serve("drop: { percent: 25% }"))
    assert told.done and 15 < len(told.pieces) < TOKENS
    again = Told(serve("drop: { percent: 25% }"))
    assert again.pieces == told.pieces, "the same seed drops the same ones"


def test_cut_json_breaks_the_iteration(serve):
    told = Told(serve("corrupt: { after: 5 tokens, how: cut }"))
    assert len(told.pieces) == 5 and not told.done
    assert isinstance(told.error, ValueError), repr(told.error)


def test_a_stall_is_a_gap(serve):
    with at_least(1):
        told = Told(serve("stall: { after: 3 tokens, pause: 1s }"))
    assert (len(told.pieces), told.done) == (TOKENS, True)


def test_tokens_come_at_their_pace(serve):
    with at_least(39 / 40):
        told = Told(serve("slow_stream: { tokens_per_second: 40 }"))
    assert (len(told.pieces), told.done) == (TOKENS, True)


def test_messages_lag_without_adding_up(serve):
    with at_least(0.3):
        told = Told(serve("latency: { add: 300ms, at: each_message }"))
    assert (len(told.pieces), told.done) == (TOKENS, True)


def test_an_error_comes_as_an_event(serve):
    told = Told(serve("error: { after: 5 tokens, message: it broke }"))
    assert (len(told.pieces), told.errors) == (5, ["it broke"])


def test_the_handshake_can_fail(serve):
    served = serve("error: { status: 503, as: overloaded }")

    async def ask():
        async with connect(url(served)):
            pass

    with pytest.raises(websockets.exceptions.InvalidStatus) as failed:
        asyncio.run(ask())
    assert failed.value.response.status_code == 503


def test_messages_of_any_kind_pass_both_ways(serve):
    served = serve("drop: { after: 1000000 events, direction: both }")

    async def talk():
        async with connect(url(served), max_size=None) as socket:
            await socket.recv()
            for size in [0, 1, 125, 126, 65_535, 65_536, 3_000_000]:
                await socket.send(b"\xff" * size)
                assert await socket.recv() == b"\xff" * size
            pong = await socket.ping(b"hello")
            await asyncio.wait_for(pong, 10)
        assert socket.close_code == 1000

    asyncio.run(asyncio.wait_for(talk(), 60))


def test_a_fault_that_is_armed_later_closes_an_open_socket(serve):
    served = serve("outage: { mode: close_frame, code: 1012 }", armed=False)

    async def talk():
        async with connect(url(served), compression=None) as socket:
            await socket.recv()
            admin = served.addresses["admin"].removeprefix("http://")
            arm = [BROWNOUT, "arm", "broken", "--admin", admin]
            await asyncio.to_thread(subprocess.run, arm, check=True, stdout=subprocess.DEVNULL)
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 20)
            assert socket.close_code == 1012

    asyncio.run(asyncio.wait_for(talk(), 60))
