"""The official clients against the simulator, as they are."""

import json
import math

import openai
import pytest
from pydantic import BaseModel
from qdrant_client import models
from qdrant_client.http.exceptions import UnexpectedResponse

from conftest import Heard, say, stream

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def cosine(a, b):
    length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b)) / length


# ── OpenAI ──────────────────────────────────────────────────────────────────────────────────


def test_whole_and_streamed_answers_agree(openai_sim):
    whole = say(openai_sim)
    assert whole.choices[0].finish_reason == "stop"
    assert whole._request_id.startswith("req_")
    streamed = say(openai_sim, stream=True, stream_options={"include_usage": True})
    events = list(streamed)
    assert events[-1].choices == [] and events[-1].usage == whole.usage
    heard = Heard(events)
    assert heard.text == whole.choices[0].message.content
    assert heard.finish == "stop"
    assert len(heard.pieces) == whole.usage.completion_tokens


def test_length_and_stop(openai_sim):
    assert say(openai_sim, max_tokens=5).choices[0].finish_reason == "length"
    assert say(openai_sim, max_completion_tokens=5).usage.completion_tokens == 5
    assert "." not in say(openai_sim, stop=["."]).choices[0].message.content
    assert len(Heard(stream(openai_sim, tokens=123)).pieces) == 123


def test_context_is_quoted(openai_sim):
    answer = say(
        openai_sim,
        "Context:\n[1] A refund takes five working days to arrive.\n\nQuestion: How long does a refund take?",
        max_tokens=60,
    )
    assert "five working days" in answer.choices[0].message.content


def test_tool_calls(openai_sim):
    asked = "What is the weather in Paris?"
    whole = say(openai_sim, asked, tools=[WEATHER]).choices[0]
    assert whole.finish_reason == "tool_calls" and whole.message.content is None
    call = whole.message.tool_calls[0]
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    with openai_sim.chat.completions.stream(
        model="gpt-4o", messages=[{"role": "user", "content": asked}], tools=[WEATHER]
    ) as streamed:
        final = streamed.get_final_completion().choices[0]
    assert final.message.tool_calls[0].function.arguments == call.function.arguments
    after = openai_sim.chat.completions.create(
        model="gpt-4o",
        tools=[WEATHER],
        messages=[
            {"role": "user", "content": asked},
            {"role": "assistant", "tool_calls": [call.model_dump()]},
            {"role": "tool", "tool_call_id": call.id, "content": "The weather in Paris is mild and dry."},
        ],
    )
    assert "mild and dry" in after.choices[0].message.content


def test_json_and_structured_output(openai_sim):
    class Step(BaseModel):
        explanation: str
        output: str

    class Reasoning(BaseModel):
        steps: list[Step]
        answer: str
        confidence: float

    loose = say(openai_sim, response_format={"type": "json_object"})
    assert isinstance(json.loads(loose.choices[0].message.content), dict)
    parsed = openai_sim.chat.completions.parse(
        model="gpt-4o",
        messages=[{"role": "user", "content": "Solve 8x + 7 = -23"}],
        response_format=Reasoning,
    )
    assert parsed.choices[0].message.parsed.steps


def test_completions(openai_sim):
    options = {"model": "gpt-3.5-turbo-instruct", "prompt": "Once upon a time", "max_tokens": 20}
    whole = openai_sim.completions.create(**options)
    pieces = [event.choices[0].text for event in openai_sim.completions.create(**options, stream=True)]
    assert "".join(pieces) == whole.choices[0].text
    assert whole.choices[0].finish_reason == "length"


def test_embeddings(openai_sim):
    def embed(texts, **options):
        answer = openai_sim.embeddings.create(model="text-embedding-3-small", input=texts, **options)
        return [entry.embedding for entry in answer.data]

    asked, near, far = embed(
        ["How do I reset my password?", "Resetting a password", "Invoices are sent each month"]
    )
    assert len(asked) == 1536
    assert cosine(asked, near) > cosine(asked, far) + 0.2
    assert embed("How do I reset my password?") == [asked]
    as_numbers = embed("How do I reset my password?", encoding_format="float")[0]
    assert max(abs(a - b) for a, b in zip(asked, as_numbers)) < 1e-6
    assert len(embed("short", dimensions=256)[0]) == 256
    assert len(embed([[1, 2, 3], [4, 5]])) == 2


def test_models(openai_sim):
    assert "gpt-4o-mini" in [model.id for model in openai_sim.models.list()]
    assert openai_sim.models.retrieve("gpt-4o").object == "model"


def test_mistakes(openai_sim):
    with pytest.raises(openai.BadRequestError, match="input"):
        openai_sim.embeddings.create(model="text-embedding-3-small", input="")
    with pytest.raises(openai.BadRequestError) as caught:
        openai_sim.chat.completions.create(model="gpt-4o", messages=[])
    assert caught.value.param == "messages"
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        openai_sim.post("/nothing", cast_to=object)


# ── Qdrant ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def collection(qdrant_sim):
    name = "things"
    qdrant_sim.create_collection(
        name, vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE)
    )
    qdrant_sim.upsert(
        name,
        points=[
            models.PointStruct(id=n, vector=[1, n, 0, 0], payload={"city": "AB"[n % 2], "n": n})
            for n in range(20)
        ],
    )
    yield name
    assert qdrant_sim.delete_collection(name)


def test_collections(qdrant_sim, collection):
    assert collection in [one.name for one in qdrant_sim.get_collections().collections]
    assert qdrant_sim.collection_exists(collection)
    assert not qdrant_sim.collection_exists("nothing")
    assert qdrant_sim.get_collection(collection).points_count == 20
    with pytest.raises(UnexpectedResponse, match="already exists"):
        qdrant_sim.create_collection(
            collection, vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT)
        )
    qdrant_sim.create_payload_index(collection, "city", models.PayloadSchemaType.KEYWORD)
    assert "city" in qdrant_sim.get_collection(collection).payload_schema
    assert qdrant_sim.get_aliases().aliases == []


def test_search(qdrant_sim, collection):
    wanted = models.Filter(
        must=[
            models.FieldCondition(key="city", match=models.MatchValue(value="B")),
            models.FieldCondition(key="n", range=models.Range(gte=3)),
        ]
    )
    found = qdrant_sim.query_points(collection, query=[1.0, 2.0, 0, 0], query_filter=wanted, limit=3)
    assert [point.id for point in found.points] == [3, 5, 7]
    assert found.points[0].payload == {"city": "B", "n": 3}
    near = qdrant_sim.query_points(collection, query=[1.0, 2.0, 0, 0], score_threshold=0.9999)
    assert [point.id for point in near.points] == [2]
    by_id = qdrant_sim.query_points(collection, query=5, limit=2, with_payload=False, with_vectors=True)
    assert 5 not in [point.id for point in by_id.points]
    assert by_id.points[0].payload is None and len(by_id.points[0].vector) == 4
    batch = qdrant_sim.query_batch_points(
        collection,
        [models.QueryRequest(query=[1.0, 0, 0, 0], limit=2), models.QueryRequest(query=3, limit=4)],
    )
    assert [len(answer.points) for answer in batch] == [2, 4]


def test_reading(qdrant_sim, collection):
    seen, offset = [], None
    while True:
        points, offset = qdrant_sim.scroll(collection, limit=7, offset=offset)
        seen += [point.id for point in points]
        if offset is None:
            break
    assert seen == list(range(20))
    found = qdrant_sim.retrieve(collection, ids=[1, 999], with_payload=["n"])
    assert [(point.id, point.payload) for point in found] == [(1, {"n": 1})]
    odd = models.Filter(must_not=[models.FieldCondition(key="city", match=models.MatchAny(any=["A"]))])
    assert qdrant_sim.count(collection, count_filter=odd).count == 10


def test_changing(qdrant_sim, collection):
    uuid = "123e4567-e89b-42d3-a456-426614174000"
    qdrant_sim.upsert(collection, points=models.Batch(ids=[uuid], vectors=[[0, 0, 0, 1]], payloads=[{}]))
    qdrant_sim.set_payload(collection, {"x": 1}, points=[uuid])
    qdrant_sim.overwrite_payload(collection, {"y": 1}, points=[1])
    qdrant_sim.delete_payload(collection, ["n"], points=[2])
    read = {point.id: point.payload for point in qdrant_sim.retrieve(collection, ids=[uuid, 1, 2])}
    assert read == {uuid: {"x": 1}, 1: {"y": 1}, 2: {"city": "A"}}
    qdrant_sim.delete(collection, points_selector=[uuid])
    gone = models.Filter(must=[models.FieldCondition(key="n", range=models.Range(lt=10))])
    qdrant_sim.delete(collection, points_selector=models.FilterSelector(filter=gone))
    assert qdrant_sim.count(collection).count == 12
    qdrant_sim.upload_points(
        collection, [models.PointStruct(id=100 + n, vector=[n, 1, 1, 1]) for n in range(150)]
    )
    assert qdrant_sim.count(collection).count == 162


def test_named_vectors(qdrant_sim):
    qdrant_sim.create_collection(
        "named",
        vectors_config={
            "text": models.VectorParams(size=3, distance=models.Distance.DOT),
            "image": models.VectorParams(size=2, distance=models.Distance.EUCLID),
        },
    )
    qdrant_sim.upsert(
        "named",
        points=[
            models.PointStruct(id=1, vector={"text": [1, 2, 3], "image": [0, 0]}),
            models.PointStruct(id=2, vector={"text": [3, 2, 1], "image": [5, 5]}),
        ],
    )
    by_text = qdrant_sim.query_points("named", query=[1.0, 0, 0], using="text")
    assert [(point.id, point.score) for point in by_text.points] == [(2, 3.0), (1, 1.0)]
    by_image = qdrant_sim.query_points("named", query=[1.0, 0], using="image", with_vectors=["image"])
    assert by_image.points[0].id == 1 and by_image.points[0].vector == {"image": [0.0, 0.0]}
    assert qdrant_sim.delete_collection("named")


def test_wrong_vectors(qdrant_sim, collection):
    with pytest.raises(UnexpectedResponse, match="expected dim: 4, got 2") as caught:
        qdrant_sim.query_points(collection, query=[1.0, 2.0])
    assert caught.value.status_code == 400
    with pytest.raises(UnexpectedResponse, match="Not found: Collection") as caught:
        qdrant_sim.query_points("nothing", query=[1.0, 2.0])
    assert caught.value.status_code == 404


def test_questions_find_their_documents(openai_sim, qdrant_sim):
    embedded = openai_sim.embeddings.create(
        model="text-embedding-3-small", input="How do I cancel my subscription?"
    )
    found = qdrant_sim.query_points("documents", query=embedded.data[0].embedding, limit=3)
    assert {point.payload["topic"] for point in found.points} == {"subscription"}
