"""What the official clients of Anthropic, Google, Ollama, Cohere and Mistral make of the faults, on
answers of a stand-in upstream that speaks each provider's wire format (`tests/samples`)."""

import contextlib
import importlib
import json
import pathlib
import subprocess
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import BROWNOUT, at_least, stop

SAMPLES = pathlib.Path(__file__).parent.parent / "samples"
TEXT = "A refund takes five working days, usually."
PROVIDERS = ["anthropic", "gemini", "ollama", "cohere", "mistral"]

FAULTS = {
    "clean": "truncate: { after: 2 tokens, ending: clean }",
    "close": "truncate: { after: 2 tokens, ending: close }",
    "reset": "truncate: { after: 2 tokens, ending: reset }",
    "hang": "truncate: { after: 2 tokens, ending: hang }",
    "length": "truncate: { after: 2 tokens, ending: finish_length }",
    "half": "truncate: { after: 50% tokens, ending: finish_length }",
    "no-done": "truncate: { ending: no_done }",
    "malformed": "corrupt: { after: 2 tokens, how: cut, at_most: 1 }",
    "broken": "error: { as: overloaded, after: 2 tokens }",
    "limited": "error: { as: rate_limit }",
    "come-again": "error: { as: rate_limit, retry_after: 1s }",
    "overloaded": "error: { as: overloaded }",
    "spent": "error: { as: quota }",
    "gone": "error: { as: not_found }",
    "long": "error: { as: context_length }",
    "stalled": "stall: { after: 2 tokens, pause: 1200ms }",
    "counted": "rate_limit: { requests_per_minute: 600, burst: 50 }",
}


class Upstream(BaseHTTPRequestHandler):
    """Answers with the sample that path and body ask for."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name, stream = self.sample(self.path.split("?")[0], asked)
        kind = "application/x-ndjson" if name.endswith("ndjson") else "text/event-stream"
        self.send_response(200)
        self.send_header("content-type", kind if stream else "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        body = (SAMPLES / name).read_bytes()
        for at in range(0, len(body), 64):
            piece = body[at : at + 64]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def sample(self, path, asked):
        tools = "_tools" if asked.get("tools") else ""
        stream = asked.get("stream", False)
        if path == "/v1/messages":
            return (f"anthropic{tools}.sse" if stream else "anthropic.json"), stream
        if path.endswith(":generateContent"):
            return "gemini.json", False
        if path.endswith(":streamGenerateContent"):
            return f"gemini{tools}.sse", True
        if path.endswith(":batchEmbedContents"):
            return "gemini_embeddings.json", False
        if path == "/api/embed":
            return "ollama_embeddings.json", False
        if path.startswith("/api/"):
            stream = asked.get("stream", True)
            name = "ollama_" + path.removeprefix("/api/")
            return f"{name if not tools else 'ollama_tools'}.{'ndjson' if stream else 'json'}", stream
        if path == "/v2/chat":
            return (f"cohere{tools}.sse" if stream else "cohere.json"), stream
        if path == "/v2/embed":
            return "cohere_embeddings.json", False
        if path == "/v1/embeddings":
            return "mistral_embeddings.json", False
        return (f"mistral{tools}.sse" if stream else "mistral.json"), stream

    def log_message(self, *_):
        pass


class Proxy:
    def __init__(self, addresses):
        self.admin = addresses["admin"]
        if "://" not in self.admin:
            self.admin = f"http://{self.admin}"
        self.urls = {name: one["listen"] for name, one in addresses["dependencies"].items()}

    def call(self, path):
        request = urllib.request.Request(self.admin + path, method="POST", data=b"{}")
        urllib.request.urlopen(request, timeout=20).close()

    @contextlib.contextmanager
    def armed(self, fault):
        """Arms; gives a list whose last item is how many requests the clients sent meanwhile."""
        before = len(SENT)
        self.call(f"/v1/faults/{fault}/arm")
        sent = []
        try:
            yield sent
        finally:
            sent.append(len(SENT) - before)
            self.call(f"/v1/faults/{fault}/disarm")


# What the clients have put on the wire. The proxy's own count comes later: when an exchange is over.
SENT = []


@pytest.fixture(scope="module", autouse=True)
def counted():
    """Counts at the HTTP libraries of the clients, retries included."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ["httpx", "httpx2"]:
            with contextlib.suppress(ImportError):
                transport = importlib.import_module(name).HTTPTransport
                patch.setattr(transport, "handle_request", counting(transport.handle_request))
        yield


def counting(handle):
    def handle_request(self, request):
        SENT.append(request)
        return handle(self, request)

    return handle_request


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = tmp_path_factory.mktemp("providers")
    upstream = f"http://127.0.0.1:{server.server_port}"
    text = "version: 1\nname: providers\nseed: 7\ndependencies:\n"
    for kind in PROVIDERS:
        text += f"  {kind}: {{ kind: {kind}, listen: 0, upstream: '{upstream}' }}\n"
    text += "faults:\n"
    for name, effect in FAULTS.items():
        text += f"  {name}: {{ target: [{', '.join(PROVIDERS)}], {effect} }}\n"
    file = folder / "brownout.yaml"
    file.write_text(text)
    command = [BROWNOUT, "serve", str(file), "--admin", "127.0.0.1:0", "--print", "json"]
    command += ["--out", str(folder / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert line, f"brownout ended with {process.wait()} for\n{text}"
    yield Proxy(json.loads(line))
    stop(process)
    server.shutdown()


# ── The clients, each with the words for the same things ────────────────────────────────────


class Anthropic:
    def __init__(self, url, timeout=20):
        sdk = pytest.importorskip("anthropic", reason="anthropic is not installed")
        self.sdk = sdk
        self.client = sdk.Anthropic(base_url=url, api_key="sk-test", timeout=timeout)
        self.asked = {
            "model": "claude-sonnet-4-5",
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "How long does a refund take?"}],
        }

    def whole(self):
        message = self.client.messages.create(**self.asked)
        return message.content[0].text, message.stop_reason

    def pieces(self):
        for event in self.client.messages.create(stream=True, **self.asked):
            if event.type == "content_block_delta":
                yield event.delta.text, None
            elif event.type == "message_delta":
                yield "", event.delta.stop_reason


class Gemini:
    def __init__(self, url, timeout=20):
        self.sdk = pytest.importorskip("google.genai", reason="google-genai is not installed")
        options = self.sdk.types.HttpOptions(base_url=url, timeout=int(timeout * 1000))
        self.client = self.sdk.Client(api_key="k", http_options=options)
        self.asked = {"model": "gemini-2.5-flash", "contents": "How long does a refund take?"}

    @staticmethod
    def said(answer):
        reason = answer.candidates[0].finish_reason if answer.candidates else None
        return answer.text or "", reason and reason.value

    def whole(self):
        return self.said(self.client.models.generate_content(**self.asked))

    def pieces(self):
        yield from map(self.said, self.client.models.generate_content_stream(**self.asked))

    def vectors(self):
        answer = self.client.models.embed_content(model="m", contents=["a", "b"])
        return [one.values for one in answer.embeddings]


class Ollama:
    def __init__(self, url, timeout=20):
        self.sdk = pytest.importorskip("ollama", reason="ollama is not installed")
        self.client = self.sdk.Client(host=url, timeout=timeout)
        self.asked = {
            "model": "llama3.2",
            "messages": [{"role": "user", "content": "How long does a refund take?"}],
        }

    def whole(self):
        answer = self.client.chat(**self.asked)
        return answer.message.content, answer.done_reason

    def pieces(self):
        for line in self.client.chat(stream=True, **self.asked):
            yield line.message.content, line.done_reason

    def vectors(self):
        return [list(one) for one in self.client.embed(model="m", input=["a", "b"]).embeddings]


class Cohere:
    def __init__(self, url, timeout=20):
        self.sdk = pytest.importorskip("cohere", reason="cohere is not installed")
        self.client = self.sdk.ClientV2(api_key="k", base_url=url, timeout=timeout)
        self.asked = {
            "model": "command-a-03-2025",
            "messages": [{"role": "user", "content": "How long does a refund take?"}],
        }

    def whole(self):
        answer = self.client.chat(**self.asked)
        return answer.message.content[0].text, answer.finish_reason

    def pieces(self):
        for event in self.client.chat_stream(**self.asked):
            if event.type == "content-delta":
                yield event.delta.message.content.text, None
            elif event.type == "message-end":
                yield "", event.delta.finish_reason

    def vectors(self):
        answer = self.client.embed(
            model="embed-v4.0",
            texts=["a", "b"],
            input_type="search_document",
            embedding_types=["float"],
        )
        return answer.embeddings.float_


class Mistral:
    def __init__(self, url, timeout=20):
        self.sdk = pytest.importorskip("mistralai.client", reason="mistralai is not installed")
        self.client = self.sdk.Mistral(
            api_key="k", server_url=url, timeout_ms=int(timeout * 1000)
        )
        self.asked = {
            "model": "mistral-small-latest",
            "messages": [{"role": "user", "content": "How long does a refund take?"}],
        }

    def whole(self):
        choice = self.client.chat.complete(**self.asked).choices[0]
        return choice.message.content, choice.finish_reason

    def pieces(self):
        for event in self.client.chat.stream(**self.asked):
            choice = event.data.choices[0]
            yield choice.delta.content or "", choice.finish_reason

    def vectors(self):
        answer = self.client.embeddings.create(model="mistral-embed", inputs=["a", "b"])
        return [one.embedding for one in answer.data]


CLIENTS = dict(zip(PROVIDERS, [Anthropic, Gemini, Ollama, Cohere, Mistral], strict=True))


@pytest.fixture(params=PROVIDERS)
def provider(request):
    return request.param


def client(proxy, provider, **options):
    return CLIENTS[provider](proxy.urls[provider], **options)


class Heard:
    """What user code got out of a stream, up to its end or its error."""

    def __init__(self, pieces):
        self.text, self.finish, self.error = "", None, None
        try:
            for text, finish in pieces:
                self.text += text
                self.finish = finish or self.finish
        except Exception as error:  # noqa: BLE001: the tests say which one they want
            self.error = error

    @property
    def failed(self):
        return type(self.error).__name__ if self.error else None


ENDS = {
    "anthropic": ("end_turn", "max_tokens"),
    "gemini": ("STOP", "MAX_TOKENS"),
    "ollama": ("stop", "length"),
    "cohere": ("COMPLETE", "MAX_TOKENS"),
    "mistral": ("stop", "length"),
}

# ── Nothing armed ───────────────────────────────────────────────────────────────────────────


def test_the_samples_are_what_the_clients_expect(proxy, provider):
    made = client(proxy, provider)
    usual = ENDS[provider][0]
    assert made.whole() == (TEXT, usual)
    heard = Heard(made.pieces())
    assert (heard.text, heard.finish, heard.error) == (TEXT, usual, None)
    if provider != "anthropic":
        assert made.vectors() == [[0.5, -0.25, 0.125], [0.25, 0.5, -0.75]]


# ── Streams that end too early ──────────────────────────────────────────────────────────────


def test_a_clean_cut_is_a_normal_end(proxy, provider):
    with proxy.armed("clean") as sent:
        heard = Heard(client(proxy, provider).pieces())
    assert (heard.text, heard.finish, heard.error) == ("A refund", None, None)
    assert sent == [1]


def test_a_closed_connection_is_a_raw_error(proxy, provider):
    with proxy.armed("close") as sent:
        heard = Heard(client(proxy, provider).pieces())
    assert heard.text == "A refund"
    assert heard.failed == "RemoteProtocolError", repr(heard.error)
    assert sent == [1], "a stream that has begun is never retried"


def test_a_reset_is_a_raw_error(proxy, provider):
    with proxy.armed("reset") as sent:
        heard = Heard(client(proxy, provider).pieces())
    assert heard.failed == "ReadError", repr(heard.error)
    assert sent == [1]


def test_a_hanging_stream_runs_into_the_timeout(proxy, provider):
    with proxy.armed("hang"), at_least(1):
        heard = Heard(client(proxy, provider, timeout=1).pieces())
    assert heard.text == "A refund"
    assert heard.failed == "ReadTimeout", repr(heard.error)


def test_a_pause_is_only_a_pause(proxy, provider):
    with proxy.armed("stalled"), at_least(1.2):
        heard = Heard(client(proxy, provider).pieces())
    assert (heard.text, heard.error) == (TEXT, None)


def test_an_answer_that_is_cut_for_length_says_so(proxy, provider):
    made = client(proxy, provider)
    with proxy.armed("length"):
        heard = Heard(made.pieces())
    cut = ENDS[provider][1]
    assert (heard.text, heard.finish, heard.error) == ("A refund", cut, None)
    with proxy.armed("half"):
        text, finish = made.whole()
    assert (text, finish) == (TEXT[: len(TEXT) // 2], cut)


def test_a_missing_terminal_event_goes_unnoticed(proxy, provider):
    with proxy.armed("no-done"):
        heard = Heard(client(proxy, provider).pieces())
    assert (heard.text, heard.error) == (TEXT, None)
    # The last line of Ollama's stream is both its end and its reason.
    assert heard.finish == (None if provider == "ollama" else ENDS[provider][0])


# ── Streams that break ──────────────────────────────────────────────────────────────────────


def test_a_malformed_event(proxy, provider):
    with proxy.armed("malformed") as sent:
        heard = Heard(client(proxy, provider).pieces())
    wanted = {
        "anthropic": "JSONDecodeError",
        "gemini": "UnknownApiResponseError",
        "ollama": "JSONDecodeError",
        "cohere": None,
        "mistral": "ResponseValidationError",
    }[provider]
    assert heard.failed == wanted, repr(heard.error)
    if provider == "cohere":
        assert heard.text == TEXT.replace(" takes", ""), "it goes on without the event"
    else:
        assert heard.text == "A refund"
    assert sent == [1]


def test_an_error_inside_a_stream(proxy, provider):
    with proxy.armed("broken") as sent:
        heard = Heard(client(proxy, provider).pieces())
    assert heard.text == "A refund"
    assert sent == [1], "never retried"
    if provider == "anthropic":
        assert heard.failed == "APIStatusError"
        assert (heard.error.status_code, heard.error.type) == (200, "overloaded_error")
    elif provider == "gemini":
        assert (heard.failed, heard.error.code, heard.error.status) == (
            "ServerError",
            503,
            "UNAVAILABLE",
        )
    elif provider == "ollama":
        assert (heard.failed, heard.error.status_code) == ("ResponseError", -1)
        assert "again.  maximum" in heard.error.error, "two blanks"
    elif provider == "cohere":
        assert (heard.error, heard.finish) == (None, "ERROR"), "a normal end"
    else:
        assert heard.failed == "ResponseValidationError"


# ── Refusals ────────────────────────────────────────────────────────────────────────────────

ATTEMPTS = {
    # Before a stream, and before a whole answer.
    "anthropic": (3, 3),
    "gemini": (1, 1),
    "ollama": (1, 1),
    "cohere": (1, 3),
    "mistral": (1, 1),
}


def test_how_often_a_rate_limit_is_asked_again(proxy, provider):
    made = client(proxy, provider)
    with proxy.armed("limited") as streamed:
        heard = Heard(made.pieces())
    with proxy.armed("limited") as whole, pytest.raises(Exception) as caught:
        made.whole()
    assert (streamed[0], whole[0]) == ATTEMPTS[provider]
    wanted = {
        "anthropic": ("RateLimitError", "status_code"),
        "gemini": ("ClientError", "code"),
        "ollama": ("ResponseError", "status_code"),
        "cohere": ("TooManyRequestsError", "status_code"),
        "mistral": ("SDKError", "status_code"),
    }[provider]
    for error in [heard.error, caught.value]:
        assert type(error).__name__ == wanted[0], repr(error)
        assert getattr(error, wanted[1]) == 429, repr(error)


def test_overload_in_each_providers_class(proxy, provider):
    made = client(proxy, provider)
    with proxy.armed("overloaded") as sent, pytest.raises(Exception) as caught:
        made.whole()
    name, status = {
        "anthropic": ("OverloadedError", 529),
        "gemini": ("ServerError", 503),
        "ollama": ("ResponseError", 503),
        "cohere": ("ServiceUnavailableError", 503),
        "mistral": ("SDKError", 503),
    }[provider]
    error = caught.value
    assert type(error).__name__ == name, repr(error)
    assert getattr(error, "status_code", None) == status or error.code == status
    assert sent == [ATTEMPTS[provider][1]]


@pytest.mark.parametrize("fault", ["gone", "long", "spent"])
def test_other_refusals_are_told(proxy, provider, fault):
    made = client(proxy, provider)
    with proxy.armed(fault), pytest.raises(Exception) as caught:
        made.whole()
    text = str(caught.value)
    part = {
        "gone": {
            "anthropic": "model: claude-sonnet-4-5",
            "gemini": "models/gemini-2.5-flash is not found",
            "ollama": "try pulling it first",
            "cohere": "command-a-03-2025",
            "mistral": "Invalid model: mistral-small-latest",
        },
        "long": {
            "anthropic": "prompt is too long",
            "gemini": "input token count",
            "ollama": "context length",
            "cohere": "too many tokens",
            "mistral": "maximum context length",
        },
        "spent": {
            "anthropic": "enforced_spend_limit_reached",
            "gemini": "PerDay",
            "ollama": "usage limit",
            "cohere": "billing limit",
            "mistral": "usage limit",
        },
    }[fault][provider]
    assert part in text, text


def test_anthropic_waits_as_long_as_it_is_told(proxy):
    with proxy.armed("come-again") as sent, at_least(2):
        with pytest.raises(Exception) as caught:
            client(proxy, "anthropic").whole()
    assert sent == [3]
    assert caught.value.response.headers["retry-after"] == "1"
    assert caught.value.request_id.startswith("req_011C")


def test_google_never_reads_when_to_come_again(proxy):
    began = time.monotonic()
    with proxy.armed("come-again") as sent, pytest.raises(Exception) as caught:
        client(proxy, "gemini").whole()
    assert sent == [1] and time.monotonic() - began < 1
    details = caught.value.details["error"]["details"]
    assert {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"} in details


def test_passing_answers_tell_what_is_left_at_anthropic(proxy):
    made = client(proxy, "anthropic")
    with proxy.armed("counted"):
        raw = made.client.messages.with_raw_response.create(**made.asked)
    headers = raw.headers
    assert headers["anthropic-ratelimit-requests-limit"] == "600"
    reset = headers["anthropic-ratelimit-requests-reset"]
    told = time.mktime(time.strptime(reset, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert abs(told - time.time()) < 30, f"{reset} is not about now"


# ── Tools, and the helpers that put streams together ────────────────────────────────────────


def test_the_helper_puts_a_part_together_as_a_whole(proxy):
    made = client(proxy, "anthropic")
    for fault, reason in [("clean", None), ("length", "max_tokens")]:
        with proxy.armed(fault), made.client.messages.stream(**made.asked) as stream:
            message = stream.get_final_message()
        assert (message.content[0].text, message.stop_reason) == ("A refund", reason)
    assert message.usage.output_tokens == 2


def test_a_tool_call_that_is_cut_for_length_has_no_input(proxy):
    made = client(proxy, "anthropic")
    tool = {"name": "find_order", "input_schema": {"type": "object", "properties": {}}}
    with made.client.messages.stream(tools=[tool], **made.asked) as stream:
        assert stream.get_final_message().content[1].input == {"order": "4711"}
    with proxy.armed("length"), made.client.messages.stream(tools=[tool], **made.asked) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "max_tokens"
    assert [block.type for block in message.content] == ["thinking", "tool_use"]
    assert message.content[1].input == {}
