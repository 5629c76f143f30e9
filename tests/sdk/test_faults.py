"""What user code sees through the proxy, with each fault and without."""

import asyncio

import openai
import pytest
from qdrant_client import models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from conftest import Heard, at_least, say, stream


# ── Nothing armed ───────────────────────────────────────────────────────────────────────────


def test_without_a_fault_nothing_changes(serve):
    served = serve()
    client = served.openai()
    whole = say(client)
    heard = Heard(say(client, stream=True))
    assert heard.text == whole.choices[0].message.content
    assert (heard.finish, heard.error) == ("stop", None)
    assert len(client.sent) == 2
    embedded = client.embeddings.create(model="text-embedding-3-small", input="a refund")
    found = served.qdrant().query_points("documents", query=embedded.data[0].embedding, limit=3)
    assert len(found.points) == 3


def test_a_fault_elsewhere_touches_nothing(serve):
    served = serve("error: { status: 503, as: overloaded }", where="{ path: /v1/embeddings }")
    client = served.openai(max_retries=0)
    assert say(client).choices[0].finish_reason == "stop"
    with pytest.raises(openai.InternalServerError):
        client.embeddings.create(model="text-embedding-3-small", input="a refund")


# ── Answers that end too early ──────────────────────────────────────────────────────────────


def test_truncated_clean_looks_like_the_end(serve):
    client = serve("truncate: { after: 20 tokens, ending: clean }").openai()
    heard = Heard(stream(client))
    assert len(heard.pieces) == 20
    assert (heard.finish, heard.error) == (None, None)
    assert len(client.sent) == 1


def test_truncated_by_close_is_a_connection_error(serve):
    client = serve("truncate: { after: 20 tokens, ending: close }").openai()
    heard = Heard(stream(client))
    assert len(heard.pieces) == 20
    assert isinstance(heard.error, openai.APIConnectionError)
    assert "incomplete chunked read" in str(heard.error.__cause__)
    assert len(client.sent) == 1, "a stream that has begun is never retried"


def test_truncated_by_reset_is_a_connection_error(serve):
    client = serve("truncate: { after: 20 tokens, ending: reset }").openai()
    heard = Heard(stream(client))
    assert isinstance(heard.error, openai.APIConnectionError)
    assert "reset" in chain(heard.error)


def test_truncated_hanging_is_a_timeout(serve):
    client = serve("truncate: { after: 20 tokens, ending: hang }").openai(timeout=1)
    with at_least(1):
        heard = Heard(stream(client))
    assert len(heard.pieces) == 20
    assert isinstance(heard.error, openai.APITimeoutError)


def test_a_missing_end_marker_goes_unnoticed(serve):
    client = serve("truncate: { ending: no_done }").openai()
    heard = Heard(stream(client))
    assert len(heard.pieces) == 60
    assert (heard.finish, heard.error) == ("length", None)
    with client.chat.completions.with_streaming_response.create(
        model="gpt-4o", messages=[{"role": "user", "content": "Hi"}], stream=True
    ) as raw:
        text = raw.read().decode()
    assert '"finish_reason":"stop"' in text and "[DONE]" not in text


def test_truncated_for_length_says_so(serve):
    client = serve("truncate: { after: 20 tokens, ending: finish_length }").openai()
    heard = Heard(say(client, stream=True))
    assert len(heard.pieces) == 20
    assert (heard.finish, heard.error) == ("length", None)


def test_a_whole_answer_cut_short_is_asked_for_again(serve):
    client = serve("truncate: { after: 30%, ending: close }").openai()
    with pytest.raises(openai.APIConnectionError):
        say(client)
    assert len(client.sent) == 3


# ── Answers that come slowly ────────────────────────────────────────────────────────────────


def test_a_stall_runs_into_the_timeout(serve):
    client = serve("stall: { after: 20 tokens, pause: 30s }").openai(timeout=1)
    heard = Heard(stream(client))
    assert len(heard.pieces) == 20
    assert isinstance(heard.error, openai.APITimeoutError)


def test_keep_alives_hide_a_stall(serve):
    stall = "stall: { after: 20 tokens, pause: 2s, keep_alive: comments, every: 200ms }"
    client = serve(stall).openai(timeout=1)
    with at_least(2):
        heard = Heard(stream(client))
    assert (len(heard.pieces), heard.error) == (60, None)


def test_latency_is_never_less_than_asked_for(serve):
    client = serve("latency: { add: 300ms }").openai()
    with at_least(0.3):
        assert say(client).choices[0].finish_reason == "stop"
    with at_least(0.3):
        assert Heard(say(client, stream=True)).finish == "stop"


def test_slow_streams_keep_the_pace(serve):
    slow = "slow_stream: { time_to_first_token: +400ms, tokens_per_second: 40 }"
    client = serve(slow).openai()
    with at_least(0.4 + 40 / 40):
        heard = Heard(stream(client, tokens=41))
    assert len(heard.pieces) == 41
    assert heard.times[-1] - heard.times[0] >= 0.9


def test_a_saturated_machine_queues_and_refuses(serve):
    served = serve(
        "saturation: { slots: 1, decode_tokens_per_second: 40, queue_limit: 1, when_full: { status: 503 } }"
    )

    async def ask(client):
        return await client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "How do refunds work?"}],
            max_tokens=40,
            extra_body={"ignore_eos": True},
        )

    async def crowd():
        async with served.async_openai(max_retries=0) as client:
            return await asyncio.gather(*(ask(client) for _ in range(3)), return_exceptions=True)

    with at_least(1.8):
        answers = asyncio.run(crowd())
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    assert len(refused) == 1 and isinstance(refused[0], openai.InternalServerError), answers


# ── Refusals ────────────────────────────────────────────────────────────────────────────────


def test_a_rate_limit_costs_three_requests_and_says_why(serve):
    limit = "rate_limit: { requests_per_minute: 1, retry_after: 1s }"
    client = serve(limit).openai()
    say(client)
    with at_least(2), pytest.raises(openai.RateLimitError) as caught:
        say(client)
    assert len(client.sent) == 1 + 3
    counts = [request.headers["x-stainless-retry-count"] for request in client.sent[1:]]
    assert counts == ["0", "1", "2"]
    refusal = caught.value
    assert refusal.code == "rate_limit_exceeded"
    assert refusal.response.headers["retry-after"] == "1"
    assert refusal.response.headers["x-ratelimit-limit-requests"] == "1"
    assert refusal.response.headers["x-ratelimit-remaining-requests"] == "0"


def test_a_spent_quota_is_told_apart(serve):
    client = serve("error: { status: 429, as: quota }").openai()
    with pytest.raises(openai.RateLimitError) as caught:
        say(client)
    assert caught.value.code == "insufficient_quota"


def test_overload_is_retried_twice(serve):
    client = serve("error: { status: 503, as: overloaded }").openai()
    with pytest.raises(openai.InternalServerError, match="overloaded") as caught:
        say(client, stream=True)
    assert caught.value.status_code == 503
    assert len(client.sent) == 3


def test_a_bad_request_is_not_retried(serve):
    client = serve("error: { status: 400, as: context_length }").openai()
    with pytest.raises(openai.BadRequestError) as caught:
        say(client)
    assert caught.value.code == "context_length_exceeded"
    assert len(client.sent) == 1


def test_a_gateway_answers_in_html(serve):
    client = serve("error: { status: 502, as: html }").openai(max_retries=0)
    with pytest.raises(openai.InternalServerError) as caught:
        say(client)
    assert "html" in caught.value.response.headers["content-type"]


def test_an_error_inside_a_stream_has_no_status(serve):
    client = serve("error: { as: overloaded, after: 20 tokens }").openai()
    heard = Heard(stream(client))
    assert len(heard.pieces) == 20
    assert isinstance(heard.error, openai.APIError)
    assert not isinstance(heard.error, openai.APIStatusError)
    assert len(client.sent) == 1


# ── Outages ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["refuse", "reset", "close"])
def test_an_outage_is_a_connection_error(serve, mode):
    client = serve(f"outage: {{ mode: {mode} }}").openai(max_retries=1)
    with pytest.raises(openai.APIConnectionError) as caught:
        say(client)
    assert not isinstance(caught.value, openai.APITimeoutError)
    assert len(client.sent) == 2


def test_a_blackhole_is_a_timeout(serve):
    client = serve("outage: { mode: blackhole }").openai(timeout=1, max_retries=0)
    with at_least(1), pytest.raises(openai.APITimeoutError):
        say(client)


def test_an_outage_behind_a_gateway_is_a_503(serve):
    client = serve("outage: { mode: http_503 }").openai(max_retries=0)
    with pytest.raises(openai.InternalServerError) as caught:
        say(client)
    assert caught.value.status_code == 503


# ── The vector store ────────────────────────────────────────────────────────────────────────


def search(client):
    return client.query_points("documents", query=1, limit=3)


def test_a_store_that_fails_is_asked_once(serve):
    client = serve("error: { status: 503, as: unavailable }", target="vectors").qdrant()
    with pytest.raises(UnexpectedResponse) as caught:
        search(client)
    assert caught.value.status_code == 503


def test_a_store_may_fail_for_searches_alone(serve):
    client = serve(
        "error: { status: 500, as: server_error }", target="vectors", where="{ operation: search }"
    ).qdrant()
    point = models.PointStruct(id=1, vector=[1.0] + [0.0] * 1535)
    assert client.upsert("documents", points=[point]).status == models.UpdateStatus.COMPLETED
    with pytest.raises(UnexpectedResponse):
        search(client)


def test_a_store_with_a_rate_limit_says_when_to_return(serve):
    client = serve(
        "error: { status: 429, as: rate_limit, retry_after: 3s }", target="vectors"
    ).qdrant()
    with pytest.raises(ResourceExhaustedResponse) as caught:
        search(client)
    assert caught.value.retry_after_s == 3


def test_a_slow_store(serve):
    client = serve("latency: { add: 300ms }", target="vectors").qdrant()
    with at_least(0.3):
        assert len(search(client).points) == 3


@pytest.mark.parametrize("mode", ["refuse", "reset", "close"])
def test_a_store_that_is_gone(serve, mode):
    client = serve(f"outage: {{ mode: {mode} }}", target="vectors").qdrant()
    with pytest.raises(ResponseHandlingException):
        search(client)


def test_a_store_that_is_silent(serve):
    client = serve("outage: { mode: blackhole }", target="vectors").qdrant(timeout=1)
    with at_least(1), pytest.raises(ResponseHandlingException, match="timed out"):
        search(client)


def chain(error):
    """The text of an error and all its causes."""
    texts = []
    while error is not None:
        texts.append(f"{type(error).__name__} {error}")
        error = error.__cause__ or error.__context__
    return " ".join(texts).lower()
