"""What user code sees of the responses API, of servers that speak OpenAI's format in their own way,
and of answers that come compressed."""

import json

import httpx
import openai
import pytest

from conftest import Heard, say
from upstreams import gzipped, sse, ungzipped, upstream

WORDS = [f"word{number} " for number in range(12)]
SSE = {"content-type": "text/event-stream"}


# ── The responses API ───────────────────────────────────────────────────────────────────────


def response(status="in_progress", output=()):
    return {
        "id": "resp_1", "object": "response", "created_at": 5, "status": status, "model": "gpt-5",
        "output": list(output), "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "error": None, "incomplete_details": None, "usage": None,
    }


def message(text):
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
        "content": [part],
    }


def responses(_, body):
    if not body.get("stream"):
        usage = {
            "input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 12,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 13,
        }
        whole = {**response("completed", [message("".join(WORDS))]), "usage": usage}
        return 200, {"content-type": "application/json"}, [json.dumps(whole).encode()]
    item = {**message(""), "status": "in_progress", "content": []}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    events = [
        {"type": "response.created", "response": response()},
        {"type": "response.in_progress", "response": response()},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": part},
        *({"type": "response.output_text.delta", **place, "delta": word} for word in WORDS),
        {"type": "response.output_text.done", **place, "text": "".join(WORDS)},
        {"type": "response.output_item.done", "output_index": 0, "item": message("".join(WORDS))},
        {
            "type": "response.completed",
            "response": response("completed", [message("".join(WORDS))]),
        },
    ]
    numbered = ({**event, "sequence_number": number} for number, event in enumerate(events))
    return 200, SSE, sse(*numbered, named=True)


@pytest.fixture
def served(serve_file):
    """served(answer, effect, kind) is the URL of a proxy in front of such an upstream."""
    running = []

    def start(answer, effect=None, kind="openai"):
        server = upstream(answer)
        running.append(server)
        line = f"  llm: {{ kind: {kind}, listen: 0, upstream: '{server.url}' }}\n"
        return serve_file(line, effect).url("llm")

    yield start
    for server in running:
        server.stop()


def client(url, **options):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="sk-test", timeout=20, **options)


def heard(url):
    return list(client(url).responses.create(model="gpt-5", input="hi", stream=True))


def deltas(events):
    return [event.delta for event in events if event.type == "response.output_text.delta"]


def test_responses_pass(served):
    events = heard(served(responses))
    assert deltas(events) == WORDS
    assert events[-1].response.output_text == "".join(WORDS)


def test_a_response_finished_for_length(served):
    url = served(responses, "truncate: { after: 5 tokens, ending: finish_length }")
    events = heard(url)
    assert deltas(events) == WORDS[:5]
    last = events[-1]
    assert (last.type, last.response.status) == ("response.incomplete", "incomplete")
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.id == "resp_1"
    assert last.response.output_text == "".join(WORDS[:5])
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(len(events))), "none is left out"
    whole = client(url).responses.create(model="gpt-5", input="hi")
    assert (whole.status, whole.usage.output_tokens) == ("incomplete", 5)
    assert "".join(WORDS).startswith(whole.output_text)


def test_a_response_that_fails_midstream(served):
    events = heard(served(responses, "error: { as: server_error, after: 5 tokens }"))
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "server_error"
    limited = heard(served(responses, "error: { as: rate_limit, after: 5 tokens }"))
    assert (limited[-1].type, limited[-1].code) == ("error", "rate_limit_exceeded")
    assert limited[-1].sequence_number == limited[-2].sequence_number + 1


def test_a_response_without_its_terminal_event(served):
    events = heard(served(responses, "truncate: { ending: no_done }"))
    assert (deltas(events), events[-1].type) == (WORDS, "response.output_item.done")


# ── Servers that speak OpenAI's format ──────────────────────────────────────────────────────


def chat(_, body):
    if not body.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "stop"}
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        return 200, {"content-type": "application/json"}, [json.dumps(whole).encode()]

    def chunk(delta, reason=None):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}

    events = [chunk({"role": "assistant"}), *(chunk({"content": word}) for word in WORDS)]
    return 200, SSE, sse(*events, chunk({}, "stop"), "[DONE]")


def test_vllm_fails_midstream_and_says_done(served):
    url = served(chat, "error: { as: server_error, after: 5 tokens }", "vllm")
    got = Heard(say(client(url), stream=True))
    assert got.pieces == WORDS[:5]
    assert isinstance(got.error, openai.APIError)
    assert got.error.body["code"] == 500
    raw = httpx.post(f"{url}/v1/chat/completions", json={"model": "m", "messages": [], "stream": True})
    assert raw.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    "kind, status, raised",
    [
        ("vllm", 503, openai.InternalServerError),
        ("sglang", 503, openai.InternalServerError),
        ("llama-cpp", 503, openai.InternalServerError),
        ("tgi", 429, openai.RateLimitError),
        ("openrouter", 503, openai.InternalServerError),
    ],
)
def test_overloaded_servers(served, kind, status, raised):
    url = served(chat, "error: { as: overloaded }", kind)
    with pytest.raises(raised) as error:
        say(client(url, max_retries=0))
    assert error.value.status_code == status


def test_what_is_spoken_is_found_out(served):
    url = served(chat, "error: { as: rate_limit }", "auto")
    with pytest.raises(openai.RateLimitError) as error:
        say(client(url, max_retries=0))
    assert error.value.code == "rate_limit_exceeded"


# ── Compressed answers ──────────────────────────────────────────────────────────────────────


def packed(path, body):
    status, headers, pieces = chat(path, body)
    return status, {**headers, "content-encoding": "gzip"}, gzipped(pieces)


@pytest.mark.parametrize("streamed", [True, False])
def test_compressed_answers_are_cut_and_stay_compressed(served, streamed):
    url = served(packed, "truncate: { after: 5 tokens, ending: finish_length }")
    body = {"model": "m", "messages": [], "stream": streamed}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        raw = b"".join(answer.iter_raw())
    assert b'"finish_reason":"length"' in ungzipped(raw).replace(b": ", b":")
    if streamed:
        got = Heard(say(client(url), stream=True))
        assert (got.pieces, got.finish, got.error) == (WORDS[:5], "length", None)


def test_a_compressed_answer_that_nothing_changes_says_the_same(served):
    plain = httpx.post(f"{served(chat)}/v1/chat/completions", json={"stream": True}).content
    url = served(packed, "drop: { after: 500 tokens }")
    with httpx.stream("POST", f"{url}/v1/chat/completions", json={"stream": True}) as answer:
        assert ungzipped(b"".join(answer.iter_raw())) == plain


def test_events_of_a_compressed_stream_come_one_by_one(served):
    url = served(packed, "slow_stream: { tokens_per_second: 20 }")
    got = Heard(say(client(url), stream=True))
    assert got.pieces == WORDS
    gaps = [later - earlier for earlier, later in zip(got.times, got.times[1:])]
    assert min(sorted(gaps)[len(gaps) // 2 :]) >= 0.03, gaps
