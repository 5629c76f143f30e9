"""What user code sees of an MCP server through the proxy: the official client over streamable HTTP,
in its present generation and in the one with sessions."""

import asyncio
import contextlib
import socket
import threading
import time

import pytest
import uvicorn
from mcp import Client, MCPError
from mcp.server import MCPServer

from conftest import free_port

TOOLS = MCPServer("tests")


@TOOLS.tool()
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


@TOOLS.tool()
def clock() -> str:
    """The time."""
    return "noon"


@contextlib.contextmanager
def server(**options):
    port = free_port()
    config = uvicorn.Config(
        TOOLS.streamable_http_app(**options), host="127.0.0.1", port=port, log_level="error"
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    thread.join(10)


@pytest.fixture(params=["sse", "json"])
def url(request):
    with server(json_response=request.param == "json") as url:
        yield url


@pytest.fixture(params=["auto", "legacy"])
def ask(request, serve_file, url):
    """ask(effect, what) does something with a client behind this effect."""

    def start(effect, what, kind="mcp", where=None):
        line = f"  llm: {{ kind: {kind}, listen: 0, upstream: '{url}' }}\n"
        served = serve_file(line, effect, where=where)

        async def run():
            address = f"{served.url('llm')}/mcp"
            async with Client(address, mode=request.param, read_timeout_seconds=10) as client:
                return await what(client)

        return asyncio.run(run())

    return start


def said(result):
    return result.content[0].text


async def call(client):
    return await client.call_tool("weather", {"city": "Oslo"})


async def call_both(client):
    return await call(client), await client.call_tool("clock", {})


def cause(error):
    """What is inside the groups that tasks raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def test_without_a_fault_nothing_changes(ask):
    weather, clock = ask(None, call_both)
    assert (said(weather), said(clock)) == ("sunny in Oslo", "noon")


@pytest.mark.parametrize("kind", ["mcp", "auto"])
def test_a_tool_that_fails(ask, kind):
    effect = "error: { as: tool_error, message: the database is gone }"
    result = ask(effect, call, kind, where="{ operation: tool }")
    assert (result.is_error, said(result)) == (True, "the database is gone")


def test_a_server_that_breaks_inside(ask):
    with pytest.raises((MCPError, BaseExceptionGroup)) as raised:
        ask("error: { as: server_error }", call, where="{ operation: tool }")
    error = cause(raised.value)
    assert isinstance(error, MCPError) and error.error.code == -32603, repr(error)


def test_a_session_that_is_lost(ask):
    with pytest.raises((MCPError, BaseExceptionGroup)) as raised:
        ask("error: { as: session_lost }", call, where="{ operation: tool }")
    assert isinstance(cause(raised.value), MCPError), repr(cause(raised.value))


def test_an_armed_fault_that_does_nothing_leaves_every_answer(ask):
    weather, _ = ask("drop: { after: 500 events }", call_both)
    assert said(weather) == "sunny in Oslo"
