"""What user code sees of Bedrock through the proxy: boto3 against an upstream that speaks
Converse and InvokeModel in Amazon's eventstream, with each fault and without."""

import base64
import binascii
import http.server
import json
import struct
import threading

import boto3
import pytest
from botocore.config import Config
from botocore.eventstream import ChecksumMismatch
from botocore.exceptions import ClientError, EventStreamError

MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
WORDS = [f"word{number} " for number in range(12)]


def frame(kind, payload):
    """A frame, made by hand."""
    headers = b""
    named = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    for name, value in named.items():
        headers += bytes([len(name)]) + name.encode() + b"\x07"
        headers += struct.pack(">H", len(value)) + value.encode()
    body = json.dumps(payload).encode()
    start = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    start += struct.pack(">I", binascii.crc32(start)) + headers + body
    return start + struct.pack(">I", binascii.crc32(start))


def converse_stream():
    yield frame("messageStart", {"role": "assistant", "p": "abc"})
    for word in WORDS:
        yield frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}, "p": "ab"})
    yield frame("contentBlockStop", {"contentBlockIndex": 0})
    yield frame("messageStop", {"stopReason": "end_turn"})
    yield frame(
        "metadata",
        {
            "usage": {"inputTokens": 3, "outputTokens": len(WORDS), "totalTokens": 3 + len(WORDS)},
            "metrics": {"latencyMs": 5},
        },
    )


def claude_stream():
    def chunk(event):
        inner = base64.b64encode(json.dumps(event).encode()).decode()
        return frame("chunk", {"bytes": inner, "p": "abcdefgh"})

    yield chunk({"type": "message_start", "message": {"id": "m", "role": "assistant", "content": []}})
    for word in WORDS:
        delta = {"type": "text_delta", "text": word}
        yield chunk({"type": "content_block_delta", "index": 0, "delta": delta})
    yield chunk({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 12}})
    yield chunk({"type": "message_stop"})


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        call = self.path.rsplit("/", 1)[1]
        self.server.calls.append(call)
        if call.endswith("stream"):
            stream = converse_stream() if call == "converse-stream" else claude_stream()
            self.send_response(200)
            self.send_header("content-type", "application/vnd.amazon.eventstream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            whole = b"".join(stream)
            # Pieces whose borders have nothing to do with frames.
            for at in range(0, len(whole), 97):
                piece = whole[at : at + 97]
                self.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
            return
        answer = {
            "output": {"message": {"role": "assistant", "content": [{"text": "".join(WORDS)}]}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 3, "outputTokens": 12, "totalTokens": 15},
            "metrics": {"latencyMs": 5},
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def upstream():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.calls = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def bedrock(serve_file, upstream):
    """bedrock("truncate: …") is a client whose calls go through this effect."""

    def start(effect=None, kind="bedrock", attempts=3):
        url = f"http://127.0.0.1:{upstream.server_address[1]}"
        served = serve_file(f"  llm: {{ kind: {kind}, listen: 0, upstream: '{url}' }}\n", effect)
        config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts}, read_timeout=5, proxies={}
        )
        return boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=served.url("llm"),
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=config,
        )

    return start


MESSAGES = [{"role": "user", "content": [{"text": "hi"}]}]


def converse(client):
    """The words, the reason, the tokens, the error."""
    words, reason, tokens, error = [], None, None, None
    try:
        for event in client.converse_stream(modelId=MODEL, messages=MESSAGES)["stream"]:
            if "contentBlockDelta" in event:
                words.append(event["contentBlockDelta"]["delta"]["text"])
            reason = event.get("messageStop", {}).get("stopReason", reason)
            tokens = event.get("metadata", {}).get("usage", {}).get("outputTokens", tokens)
    except Exception as raised:  # noqa: BLE001: the tests say which one they want
        error = raised
    return words, reason, tokens, error


def invoke(client):
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 20, "messages": []})
    events = client.invoke_model_with_response_stream(modelId=MODEL, body=body)["body"]
    return [json.loads(event["chunk"]["bytes"]) for event in events]


def test_without_a_fault_nothing_changes(bedrock):
    client = bedrock()
    assert converse(client) == (WORDS, "end_turn", 12, None)
    assert [event["type"] for event in invoke(client)][-1] == "message_stop"
    whole = client.converse(modelId=MODEL, messages=MESSAGES)
    assert whole["output"]["message"]["content"][0]["text"] == "".join(WORDS)


def test_an_armed_fault_that_does_nothing_leaves_every_frame(bedrock):
    assert converse(bedrock("drop: { after: 500 tokens }")) == (WORDS, "end_turn", 12, None)


def test_a_silent_cut_goes_unnoticed(bedrock):
    words, reason, tokens, error = converse(bedrock("truncate: { after: 5 tokens }"))
    assert (words, reason, tokens, error) == (WORDS[:5], None, None, None)


def test_finished_for_length(bedrock):
    client = bedrock("truncate: { after: 5 tokens, ending: finish_length }")
    assert converse(client) == (WORDS[:5], "max_tokens", 5, None)
    events = invoke(client)
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"
    assert (len(events), events[-1]["type"]) == (8, "message_stop")
    whole = client.converse(modelId=MODEL, messages=MESSAGES)
    assert whole["stopReason"] == "max_tokens"
    assert whole["usage"]["outputTokens"] == 5


def test_a_connection_closed_midstream(bedrock):
    words, _, _, error = converse(bedrock("truncate: { after: 5 tokens, ending: close }"))
    assert words == WORDS[:5]
    assert "ended prematurely" in str(error) or "IncompleteRead" in str(error), repr(error)


def test_throttled_midstream(bedrock, upstream):
    words, reason, _, error = converse(bedrock("error: { as: rate_limit, after: 5 tokens }"))
    assert (words, reason) == (WORDS[:5], None)
    assert isinstance(error, EventStreamError)
    assert error.response["Error"]["Code"] == "throttlingException"
    assert "Too many requests" in str(error)
    assert upstream.calls == ["converse-stream"], "no SDK retries inside a stream"


def test_a_wrong_checksum(bedrock):
    words, _, _, error = converse(
        bedrock("corrupt: { how: checksum, after: 5 tokens, at_most: 1 }")
    )
    assert words == WORDS[:5]
    assert isinstance(error, ChecksumMismatch)


def test_damaged_payloads_pass_the_checksum(bedrock):
    words, reason, _, error = converse(
        bedrock("corrupt: { how: cut, after: 5 tokens, at_most: 1 }")
    )
    # botocore gives an event without its payload, which user code stumbles over.
    assert isinstance(error, (KeyError, TypeError)) or (error is None and len(words) == 11), repr(
        (words, reason, error)
    )
    assert not isinstance(error, ChecksumMismatch)


@pytest.mark.parametrize(
    "word, status, code, sent",
    [
        ("rate_limit", 429, "ThrottlingException", 3),
        ("slow_down", 429, "ModelNotReadyException", 3),
        ("overloaded", 503, "ServiceUnavailableException", 3),
        ("server_error", 500, "InternalServerException", 3),
        ("timeout", 408, "ModelTimeoutException", 1),
        ("context_length", 400, "ValidationException", 1),
        ("not_found", 404, "ResourceNotFoundException", 1),
        ("auth", 403, "UnrecognizedClientException", 1),
    ],
)
def test_failures(bedrock, word, status, code, sent):
    client = bedrock(f"error: {{ as: {word} }}")
    attempts = []
    client.meta.events.register("before-send.*", lambda **_: attempts.append(1))
    with pytest.raises(ClientError) as raised:
        client.converse(modelId=MODEL, messages=MESSAGES)
    answer = raised.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == status
    assert answer["Error"]["Code"] == code
    assert len(attempts) == sent
