"""A small RAG chat with the official SDKs: embed, search, ask, stream.

    pip install -r requirements.txt
    brownout run flaky.yaml --exec "python app.py" --wait-for :8000

It reads OPENAI_BASE_URL, EMBEDDINGS_BASE_URL and QDRANT_URL, which `brownout run --exec` sets.
It is as people write such apps first: the SDK's own two retries are all it has.
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from openai import OpenAI
from qdrant_client import QdrantClient

KEY = os.environ.get("OPENAI_API_KEY", "no-key-needed")
llm = OpenAI(api_key=KEY, timeout=20)
embeddings = OpenAI(api_key=KEY, timeout=10, base_url=os.environ.get("EMBEDDINGS_BASE_URL"))
vectors = QdrantClient(url=os.environ.get("QDRANT_URL", "http://127.0.0.1:6333"), check_compatibility=False)


def context_for(question: str) -> str:
    vector = embeddings.embeddings.create(model="text-embedding-3-small", input=question).data[0].embedding
    hits = vectors.query_points("documents", query=vector, limit=3, with_payload=True).points
    return "\n".join(hit.payload["text"] for hit in hits)


def answer(question: str):
    messages = [
        {"role": "system", "content": "Answer from this context:\n" + context_for(question)},
        {"role": "user", "content": question},
    ]
    for chunk in llm.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True):
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


class Chat(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.reply(200, b"ok\n", "text/plain")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        pieces = answer(body["message"])
        try:
            first = next(pieces)
        except Exception as error:  # before the first token: an honest error
            return self.reply(500, json.dumps({"error": type(error).__name__}).encode(), "application/json")
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            self.event({"delta": first})
            for piece in pieces:
                self.event({"delta": piece})
        except Exception as error:  # in mid-answer: the status is gone, say it in the stream
            self.chunk(f"event: error\ndata: {json.dumps({'error': type(error).__name__})}\n\n".encode())
        else:
            self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def event(self, data):
        self.chunk(f"data: {json.dumps(data)}\n\n".encode())

    def chunk(self, data: bytes):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def reply(self, status: int, body: bytes, kind: str):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    Server((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))), Chat).serve_forever()
