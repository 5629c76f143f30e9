"""Stand-ins for what apps depend on: the answers of each provider as they are on the wire, over
HTTP/1.1 with and without TLS, and gRPC services that record what they were asked.

    python stub.py --port 18001 --tls-port 18002 --grpc-port 18003 --cert cert.pem --key key.pem

There may be several of --port and --grpc-port.

`GET /seen` tells what came, so that a test can compare an exchange with the one made directly.
"""

import argparse
import hashlib
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = "Refunds reach your account within five working days of the request .".split()
SEEN = []


def vector(text, size=8):
    digest = hashlib.sha256(text.encode()).digest()
    return [round(byte / 255, 4) for byte in digest[:size]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    # ── Reading and answering ────────────────────────────────────────────────────────────────

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def whole(self, value, kind="application/json", status=200):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("X-Request-Id", "req_stub")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, kind, pieces):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(0.002)
        self.wfile.write(b"0\r\n\r\n")

    # ── Which provider ──────────────────────────────────────────────────────────────────────

    def do_GET(self):
        if self.path == "/seen":
            self.whole(SEEN)
        elif self.path == "/v1/meta":
            self.whole({"version": "1.32.0", "hostname": "http://[::]:8080", "modules": {}})
        else:
            self.whole({"ok": True, "path": self.path})

    def do_POST(self):
        raw = self.body()
        SEEN.append({"path": self.path, "head": self.headers.items(), "body": hash(raw)})
        asked = json.loads(raw or b"{}")
        path = self.path.split("?")[0]
        if path.endswith("/chat/completions"):
            self.openai_chat(asked)
        elif path.endswith("/responses"):
            self.openai_responses(asked)
        elif path.endswith("/embeddings"):
            inputs = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
            data = [
                {"object": "embedding", "index": at, "embedding": vector(text)}
                for at, text in enumerate(inputs)
            ]
            usage = {"prompt_tokens": 3, "total_tokens": 3}
            self.whole({"object": "list", "model": asked["model"], "data": data, "usage": usage})
        elif path.endswith("/messages"):
            self.anthropic(asked)
        elif path.endswith(":streamGenerateContent"):
            pieces = [b"data: " + json.dumps(self.gemini(word)).encode() + b"\r\n\r\n" for word in WORDS]
            self.stream("text/event-stream", pieces)
        elif path.endswith(":generateContent"):
            self.whole(self.gemini(" ".join(WORDS)))
        elif path.endswith("/points/query"):
            points = [{"id": at, "version": 1, "score": 1 - at / 10} for at in (1, 2, 3)]
            self.whole({"result": {"points": points}, "status": "ok", "time": 0.001})
        elif path == "/api/chat":
            self.ollama(asked)
        else:
            self.whole({"error": f"no such path {path}"}, status=404)

    # ── Their answers ───────────────────────────────────────────────────────────────────────

    def openai_chat(self, asked):
        base = {"id": "chatcmpl-1", "created": 1, "model": asked["model"]}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": " ".join(WORDS)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 5, "completion_tokens": len(WORDS), "total_tokens": 17}
            self.whole(base | {"object": "chat.completion", "choices": [choice], "usage": usage})
            return

        def event(delta, finish=None):
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            chunk = base | {"object": "chat.completion.chunk", "choices": [choice]}
            return b"data: " + json.dumps(chunk).encode() + b"\n\n"

        events = [event({"role": "assistant", "content": ""})]
        events += [event({"content": word + " "}) for word in WORDS]
        events += [event({}, "stop"), b"data: [DONE]\n\n"]
        self.stream("text/event-stream; charset=utf-8", events)

    def openai_responses(self, asked):
        text = " ".join(WORDS)
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {
            "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
            "content": [part],
        }
        answer = {
            "id": "resp_1", "object": "response", "created_at": 1, "status": "completed",
            "model": asked["model"], "output": [item], "parallel_tool_calls": True,
            "tool_choice": "auto", "tools": [],
        }
        if not asked.get("stream"):
            self.whole(answer)
            return
        events = [("response.created", {"response": answer | {"status": "in_progress", "output": []}})]
        for word in WORDS:
            delta = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": word + " ",
                     "logprobs": []}
            events.append(("response.output_text.delta", delta))
        events.append(("response.completed", {"response": answer}))
        self.stream("text/event-stream", [
            f"event: {name}\ndata: {json.dumps({'type': name, 'sequence_number': at} | data)}\n\n".encode()
            for at, (name, data) in enumerate(events)
        ])

    def anthropic(self, asked):
        message = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"],
            "content": [{"type": "text", "text": " ".join(WORDS)}], "stop_reason": "end_turn",
            "stop_sequence": None, "usage": {"input_tokens": 8, "output_tokens": len(WORDS)},
        }
        if not asked.get("stream"):
            self.whole(message)
            return
        start = message | {"content": [], "stop_reason": None}
        events = [
            ("message_start", {"message": start}),
            ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
            ("ping", {}),
        ]
        for word in WORDS:
            delta = {"type": "text_delta", "text": word + " "}
            events.append(("content_block_delta", {"index": 0, "delta": delta}))
        stop = {"stop_reason": "end_turn", "stop_sequence": None}
        events += [
            ("content_block_stop", {"index": 0}),
            ("message_delta", {"delta": stop, "usage": {"output_tokens": len(WORDS)}}),
            ("message_stop", {}),
        ]
        self.stream("text/event-stream; charset=utf-8", [
            f"event: {name}\ndata: {json.dumps({'type': name} | data)}\n\n".encode()
            for name, data in events
        ])

    def gemini(self, text):
        content = {"role": "model", "parts": [{"text": text + " "}]}
        candidate = {"content": content, "finishReason": "STOP", "index": 0}
        usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash"}

    def ollama(self, asked):
        def line(text, done=False):
            value = {
                "model": asked["model"], "created_at": "2026-11-24T06:00:00Z",
                "message": {"role": "assistant", "content": text}, "done": done,
            }
            if done:
                value |= {"done_reason": "stop", "eval_count": len(WORDS), "total_duration": 5}
            return value

        if asked.get("stream", True):
            lines = [line(word + " ") for word in WORDS] + [line("", True)]
            pieces = [json.dumps(value).encode() + b"\n" for value in lines]
            self.stream("application/x-ndjson", pieces)
        else:
            self.whole(line(" ".join(WORDS), True))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512


def serve_http(port, context=None):
    server = Server(("0.0.0.0", port), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True, action="append")
    parser.add_argument("--tls-port", type=int)
    parser.add_argument("--grpc-port", type=int, action="append")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    options = parser.parse_args()
    for port in options.port:
        serve_http(port)
    if options.tls_port:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert, options.key)
        serve_http(options.tls_port, context)
    if options.grpc_port:
        import grpc_stub

        # Kept: a server that nobody holds is shut down.
        kept = grpc_stub.serve(options.grpc_port)  # noqa: F841
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
