"""One call of each official client, unmodified: its settings come from the environment, as an app's
would. Each gives what user code sees, or the class of what it raises.

    python clients.py openai anthropic …      prints one JSON object, by name
"""

import asyncio
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ASK = [{"role": "user", "content": "How do refunds work?"}]


def openai_whole():
    import openai

    client = openai.OpenAI(api_key="sk-test", max_retries=0, timeout=20)
    answer = client.chat.completions.create(model="gpt-4o", messages=ASK)
    return answer.choices[0].message.content


def openai_stream():
    import openai

    client = openai.OpenAI(api_key="sk-test", max_retries=0, timeout=20)
    events = client.chat.completions.create(model="gpt-4o", messages=ASK, stream=True)
    return "".join(event.choices[0].delta.content or "" for event in events)


def openai_async():
    import openai

    async def ask():
        client = openai.AsyncOpenAI(api_key="sk-test", max_retries=0, timeout=20)
        events = await client.chat.completions.create(model="gpt-4o", messages=ASK, stream=True)
        return "".join([event.choices[0].delta.content or "" async for event in events])

    return asyncio.run(ask())


def openai_responses():
    import openai

    client = openai.OpenAI(api_key="sk-test", max_retries=0, timeout=20)
    events = client.responses.create(model="gpt-4o", input="How do refunds work?", stream=True)
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def openai_embeddings():
    import openai

    client = openai.OpenAI(api_key="sk-test", max_retries=0, timeout=20)
    answer = client.embeddings.create(
        model="text-embedding-3-small", input="refund", encoding_format="float"
    )
    return answer.data[0].embedding


def anthropic_whole():
    import anthropic

    client = anthropic.Anthropic(api_key="sk-ant-test", max_retries=0, timeout=20)
    answer = client.messages.create(model="claude-sonnet-5", max_tokens=64, messages=ASK)
    return answer.content[0].text


def anthropic_stream():
    import anthropic

    client = anthropic.Anthropic(api_key="sk-ant-test", max_retries=0, timeout=20)
    with client.messages.stream(model="claude-sonnet-5", max_tokens=64, messages=ASK) as events:
        return "".join(events.text_stream)


def gemini_whole():
    from google import genai

    client = genai.Client(api_key="test")
    return client.models.generate_content(model="gemini-2.5-flash", contents="refunds?").text


def gemini_stream():
    from google import genai

    client = genai.Client(api_key="test")
    events = client.models.generate_content_stream(model="gemini-2.5-flash", contents="refunds?")
    return "".join(event.text for event in events)


def ollama_whole():
    import ollama

    return ollama.Client().chat(model="llama3.2", messages=ASK).message.content


def ollama_stream():
    import ollama

    events = ollama.Client().chat(model="llama3.2", messages=ASK, stream=True)
    return "".join(event.message.content for event in events)


def httpx_get():
    import httpx

    return httpx.get(os.environ["WAYS_PLAIN_URL"] + "/hello", timeout=20).json()


def requests_get():
    import requests

    return requests.get(os.environ["WAYS_PLAIN_URL"] + "/hello", timeout=20).json()


def urllib_get():
    import urllib.request

    with urllib.request.urlopen(os.environ["WAYS_PLAIN_URL"] + "/hello", timeout=20) as answer:
        return json.load(answer)


def aiohttp_get():
    import aiohttp

    async def ask():
        async with aiohttp.ClientSession(trust_env=True) as session:
            async with session.get(os.environ["WAYS_PLAIN_URL"] + "/hello") as answer:
                return await answer.json()

    return asyncio.run(ask())


def curl_get():
    out = subprocess.run(
        ["curl", "-sS", "--max-time", "20", os.environ["WAYS_PLAIN_URL"] + "/hello"],
        capture_output=True, text=True, check=True,
    )
    return json.loads(out.stdout)


def node(name):
    def run():
        out = subprocess.run(
            ["node", os.path.join(HERE, "clients.mjs"), name], capture_output=True, text=True
        )
        if out.returncode:
            raise RuntimeError(out.stderr.strip().splitlines()[-1])
        return json.loads(out.stdout)

    return run


def qdrant_grpc():
    from qdrant_client import QdrantClient

    port = int(os.environ["WAYS_QDRANT_GRPC_PORT"])
    client = QdrantClient(
        host=os.environ.get("WAYS_QDRANT_HOST", "127.0.0.1"), grpc_port=port, prefer_grpc=True,
        check_compatibility=False, timeout=20,
    )
    found = client.query_points("documents", query=[0.1, 0.2, 0.3], limit=3)
    return [[point.id, round(point.score, 3)] for point in found.points]


def qdrant_rest():
    from qdrant_client import QdrantClient

    client = QdrantClient(url=os.environ["WAYS_QDRANT_URL"], check_compatibility=False, timeout=20)
    found = client.query_points("documents", query=[0.1, 0.2, 0.3], limit=3)
    return [[point.id, round(point.score, 3)] for point in found.points]


def milvus_grpc():
    from pymilvus import MilvusClient

    client = MilvusClient(uri=os.environ["MILVUS_URI"], timeout=20)
    found = client.search("documents", data=[[0.1, 0.2, 0.3]], limit=3, anns_field="vector")
    return [[point["id"], round(point["distance"], 3)] for point in found[0]]


def weaviate_grpc():
    import weaviate

    host, port, grpc_port = os.environ["WAYS_WEAVIATE"].split(":")
    client = weaviate.connect_to_custom(
        http_host=host, http_port=int(port), http_secure=False,
        grpc_host=host, grpc_port=int(grpc_port), grpc_secure=False, skip_init_checks=True,
    )
    try:
        found = client.collections.get("Documents").query.near_vector([0.1, 0.2, 0.3], limit=3)
        return [str(point.uuid) for point in found.objects]
    finally:
        client.close()


def psycopg_rows():
    """A query with parameters, rows in a stream, and an error of the server's own."""
    import psycopg

    with psycopg.connect(os.environ["WAYS_POSTGRES"], autocommit=True, connect_timeout=20) as db:
        sums = db.execute("select sum(n), %s from generate_series(1, 1000) n", ("ü",)).fetchone()
        rows = [row for row, in db.cursor().stream("select n from generate_series(1, 500) n")]
        try:
            db.execute("select 1/0")
        except psycopg.errors.DivisionByZero as error:
            return [*sums, len(rows), rows[-1], error.sqlstate]


def redis_commands():
    import redis

    with redis.Redis.from_url(os.environ["WAYS_REDIS"], socket_timeout=20) as db:
        db.set("key", "value" * 1000)
        with db.pipeline(transaction=True) as pipe:
            answers = pipe.incr("count").expire("count", 1).get("key").execute()
        db.delete("count")
        return [answers[0], len(answers[2]), db.get("none")]


def grpc_echo():
    """Both directions at once: each message comes back before the next is sent."""
    import grpc

    with grpc.insecure_channel(os.environ["WAYS_GRPC"]) as channel:
        import queue

        to_send, got = queue.Queue(), []
        call = channel.stream_stream("/echo.Echo/Both")(iter(to_send.get, None), timeout=20)
        for number in range(50):
            to_send.put(b"message %d" % number)
            got.append(next(call).decode())
        to_send.put(None)
        got += [message.decode() for message in call]
        big = channel.unary_unary("/echo.Echo/Once")(b"x" * 3_000_000, timeout=20)
        return [len(got), got[-1], len(big)]


def grpc_status():
    """A status with a message and trailers comes as the server sent it."""
    import grpc

    with grpc.insecure_channel(os.environ["WAYS_GRPC"]) as channel:
        try:
            channel.unary_unary("/echo.Echo/Fail")(b"", timeout=20)
        except grpc.RpcError as error:
            return [error.code().name, error.details(), [list(it) for it in error.trailing_metadata()]]


CLIENTS = {
    name: thing for name, thing in list(globals().items())
    if callable(thing) and name.split("_")[0] in {
        "openai", "anthropic", "gemini", "ollama", "httpx", "requests", "urllib", "aiohttp", "curl",
        "qdrant", "milvus", "weaviate", "grpc", "psycopg", "redis",
    }
} | {
    "node_openai": node("openai"),
    "node_openai_stream": node("openai_stream"),
    "node_anthropic": node("anthropic"),
    "node_vercel": node("vercel"),
    "node_fetch": node("fetch"),
}


def main():
    for name in sys.argv[1:] or CLIENTS:
        try:
            said = {"value": CLIENTS[name]()}
        except Exception as error:  # noqa: BLE001: what is raised is what the test wants to know
            said = {"error": type(error).__name__, "text": str(error)[:300]}
        print(json.dumps({"name": name} | said), flush=True)


if __name__ == "__main__":
    main()
