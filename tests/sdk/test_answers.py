"""What user code sees of answers whose content is wrong: texts, structured output, tool calls."""

import json

import openai
import pydantic
import pytest
from typing import Literal

from conftest import Heard, say


class Trip(pydantic.BaseModel):
    city: str
    days: int
    unit: Literal["celsius", "fahrenheit"]


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}
QUESTION = "What is the weather in New York?"


def parse(client, **options):
    return client.chat.completions.parse(
        model="gpt-4o",
        messages=[{"role": "user", "content": QUESTION}],
        response_format=Trip,
        **options,
    )


def called(client, stream=False, **options):
    """The tool calls of an answer, and its finish reason."""
    answer = say(
        client, QUESTION, tools=[WEATHER], tool_choice="required", stream=stream, **options
    )
    if not stream:
        choice = answer.choices[0]
        calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]
        return calls, choice.finish_reason
    calls, finish = {}, None
    for event in answer:
        for choice in event.choices:
            for part in choice.delta.tool_calls or []:
                name, arguments = calls.get(part.index, ("", ""))
                calls[part.index] = (
                    name + (part.function.name or ""),
                    arguments + (part.function.arguments or ""),
                )
            finish = choice.finish_reason or finish
    return [calls[index] for index in sorted(calls)], finish


# ── Texts ───────────────────────────────────────────────────────────────────────────────────


def both(client, **options):
    """The same answer whole and streamed: text, finish reason, counts."""
    whole = say(client, **options)
    usage, pieces = None, []
    events = []
    for event in say(client, stream=True, stream_options={"include_usage": True}, **options):
        events.append(event)
        usage = event.usage or usage
    heard = Heard(events)
    choice = whole.choices[0]
    return [
        (choice.message.content, choice.finish_reason, whole.usage.completion_tokens),
        (heard.text, heard.finish, usage.completion_tokens),
    ]


def test_a_loop_goes_on_until_the_limit(serve):
    client = serve("degrade: { text: loop, repeat: token, after: 5 tokens }").openai()
    for text, finish, tokens in both(client, max_tokens=50):
        assert finish == "length"
        assert len(set(text.split()[5:])) == 1
        assert tokens >= 49


def test_an_empty_answer_is_no_error(serve):
    client = serve("degrade: { text: empty }").openai()
    assert both(client) == [("", "stop", 0)] * 2


def test_a_short_answer_says_that_it_is_complete(serve):
    client = serve("degrade: { text: shorten, to: 4 tokens }").openai()
    for text, finish, tokens in both(client):
        assert (finish, len(text.split()) <= 4) == ("stop", True)
        assert 3 <= tokens <= 5


def test_a_refusal_is_seen_as_one(serve):
    client = serve("degrade: { text: refusal }").openai()
    message = say(client).choices[0].message
    assert message.content is None and "can't assist" in message.refusal
    parsed = parse(client).choices[0].message
    assert parsed.parsed is None and parsed.refusal
    with client.chat.completions.stream(
        model="gpt-4o", messages=[{"role": "user", "content": QUESTION}]
    ) as stream:
        final = stream.get_final_completion().choices[0].message
    assert final.refusal == message.refusal and not final.content


def test_another_model_and_another_end(serve):
    client = serve("degrade: { model: other, finish: content_filter, usage: zero }").openai()
    answer = say(client)
    assert (answer.model, answer.choices[0].finish_reason) == ("other", "content_filter")
    assert answer.usage.total_tokens == 0
    with pytest.raises(openai.ContentFilterFinishReasonError):
        parse(client)
    client = serve("degrade: { finish: length }").openai()
    with pytest.raises(openai.LengthFinishReasonError):
        parse(client)


def test_missing_usage_is_none(serve):
    client = serve("degrade: { usage: missing }").openai()
    assert say(client).usage is None
    events = list(say(client, stream=True, stream_options={"include_usage": True}))
    assert all(event.usage is None for event in events)
    assert events[-1].choices[0].finish_reason == "stop", "the event that told it is gone"


def test_a_stale_answer_is_another_requests(serve):
    client = serve("degrade: { stale: anyone }").openai()
    first = say(client, "How do refunds work?").choices[0].message.content
    second = say(client, "What is a vector database?").choices[0].message.content
    assert second == first
    heard = Heard(say(client, "Who are you?", stream=True))
    again = Heard(say(serve().openai(), "What is a vector database?", stream=True))
    assert heard.text in (first, again.text) and heard.finish == "stop"


def test_tokens_of_another_script(serve):
    client = serve("degrade: { text: garble, rate: 30% }").openai()
    for text, finish, _ in both(client):
        assert finish == "stop" and not text.isascii()


# ── Structured output ───────────────────────────────────────────────────────────────────────


def test_without_a_fault_it_parses(serve):
    client = serve().openai()
    trip = parse(client).choices[0].message.parsed
    assert trip.city == "New York"
    assert called(client)[0][0][0] == "get_weather"


@pytest.mark.parametrize(
    "how",
    [
        "missing_key", "wrong_type, key: city", "invalid_enum", "null_value", "not_json", "preamble",
        "trailing_comma", "markdown_fence", "truncated_json",
    ],
)
def test_broken_output_raises_where_it_is_parsed(serve, how):
    client = serve(f"structured: {{ break: {how} }}").openai()
    with pytest.raises(pydantic.ValidationError):
        parse(client)
    assert len(client.sent) == 1, "nobody asks again"
    # The SDK's own reading of parts raises a plain ValueError, pydantic one of its own.
    with pytest.raises(ValueError):
        with client.chat.completions.stream(
            model="gpt-4o",
            messages=[{"role": "user", "content": QUESTION}],
            response_format=Trip,
        ) as stream:
            stream.get_final_completion()


def test_one_key_alone_is_broken(serve):
    client = serve("structured: { break: wrong_type, key: days }").openai()
    schema = {"type": "json_schema", "json_schema": {"name": "t", "schema": Trip.model_json_schema()}}
    whole = json.loads(say(client, QUESTION, response_format=schema).choices[0].message.content)
    streamed = json.loads(Heard(say(client, QUESTION, response_format=schema, stream=True)).text)
    assert whole == streamed
    assert isinstance(whole["days"], str) and whole["city"] == "New York"


# ── Tool calls ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [False, True])
def test_cut_arguments_do_not_parse(serve, stream):
    client = serve("tool_calls: { break: cut_arguments }").openai()
    [(name, arguments)], finish = called(client, stream)
    assert (name, finish) == ("get_weather", "tool_calls")
    with pytest.raises(json.JSONDecodeError):
        json.loads(arguments)
    client = serve("tool_calls: { break: cut_arguments, finish: length }").openai()
    assert called(client, stream)[1] == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_arguments_break_their_schema(serve, stream):
    client = serve("tool_calls: { break: missing_key, key: city }").openai()
    [(_, arguments)], _ = called(client, stream)
    assert list(json.loads(arguments)) == ["days"]


@pytest.mark.parametrize("stream", [False, True])
def test_unknown_doubled_and_missing_calls(serve, stream):
    client = serve("tool_calls: { break: unknown_tool }").openai()
    assert called(client, stream)[0][0][0] == "get_weather_v2"
    calls, _ = called(serve("tool_calls: { break: duplicate }").openai(), stream)
    assert len(calls) == 2 and calls[0] == calls[1]
    calls, finish = called(serve("tool_calls: { break: missing }").openai(), stream)
    assert (calls, finish) == ([], "tool_calls")


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_nobody_asked_for(serve, stream):
    client = serve("tool_calls: { break: spurious }").openai()
    answer = say(client, "Hello", tools=[WEATHER], tool_choice="none", stream=stream)
    if not stream:
        message = answer.choices[0].message
        assert message.content and answer.choices[0].finish_reason == "tool_calls"
        call = message.tool_calls[0]
    else:
        events = [event.choices[0] for event in answer if event.choices]
        assert events[-1].finish_reason == "tool_calls"
        call = next(event.delta.tool_calls[0] for event in events if event.delta.tool_calls)
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city", "days"}


def test_deltas_without_their_number(serve):
    client = serve("tool_calls: { break: no_index }").openai()
    events = list(say(client, QUESTION, tools=[WEATHER], tool_choice="required", stream=True))
    parts = [part for event in events for part in event.choices[0].delta.tool_calls or []]
    assert parts and all(part.index is None for part in parts)
