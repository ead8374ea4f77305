"""An OpenAI-compatible text generator on an n-gram model: the chute that `npm start` deploys.

Any program that answers plain HTTP on $HOST:$PORT is a chute; this one needs the standard library only. What it writes
is nonsense in the style of the texts it was trained on; tokens, usage and finish reasons are real.
"""
import hashlib
import json
import math
import os
import pathlib
import random
import re
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL_NAME = os.environ.get("CHUTE_NAME", "canopy/text-generator")
MODEL_FILE = pathlib.Path(__file__).resolve().parent / os.environ.get("CHUTE_MODEL_FILE", "model.json")
TOKEN = re.compile(r"\n+|[ \t]*(?:[A-Za-z_]+|[0-9]+|[^\sA-Za-z0-9_])")
CONTEXT_LENGTH = 8192
DEFAULT_MAX_TOKENS = 128
MOST_BODY_BYTES = 4 * 1024 * 1024
EMBEDDING_SIZE = 256
PAUSE_SECONDS = float(os.environ.get("CHUTE_TOKEN_PAUSE_MS", "4")) / 1000


class Refused(Exception):
    def __init__(self, status, message, code=None, param=None):
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


class Generator:
    def __init__(self, model):
        self.order = model["order"]
        self.vocabulary = model["vocabulary"]
        self.ids = {token: number for number, token in enumerate(self.vocabulary)}
        self.contexts = model["contexts"]

    def successors(self, history):
        """Those of the longest known context; the empty one is always known."""
        for length in range(min(self.order - 1, len(history)), -1, -1):
            found = self.contexts.get(" ".join(map(str, history[len(history) - length:])))
            if found:
                return found
        raise Refused(500, "the model is empty")

    def tokens(self, prompt, temperature, top_p, seed):
        """Endless tokens after a prompt. An unknown word breaks the context, as it would for any reader."""
        chance = random.Random(seed)
        history = []
        for token in TOKEN.findall(prompt):
            number = self.ids.get(token)
            history = history + [number] if number is not None else []
        while True:
            candidates, counts = self.successors(history)
            number = pick(candidates, counts, temperature, top_p, chance)
            history = (history + [number])[-(self.order - 1):]
            yield self.vocabulary[number]


def pick(candidates, counts, temperature, top_p, chance):
    if temperature == 0:
        return candidates[counts.index(max(counts))]
    top = max(counts)
    weights = [math.exp(math.log(count / top) / temperature) for count in counts]
    ranked = sorted(zip(weights, candidates), reverse=True)
    limit, total, kept = top_p * sum(weights), 0.0, []
    for weight, candidate in ranked:
        kept.append((weight, candidate))
        total += weight
        if total >= limit:
            break
    return chance.choices([candidate for _, candidate in kept], [weight for weight, _ in kept])[0]


def generate(generator, prompt, options):
    """Yields (text, None) per piece and at last ("", finish_reason). Text that may begin a stop word is held back."""
    held, stops = "", options["stop"]
    stream = generator.tokens(prompt, options["temperature"], options["top_p"], options["seed"])
    for _ in range(options["max_tokens"]):
        options["completion_tokens"] += 1
        held += next(stream)
        at = min((held.index(stop) for stop in stops if stop in held), default=None)
        if at is not None:
            yield held[:at], None
            yield "", "stop"
            return
        keep = max((length for stop in stops for length in range(1, len(stop)) if held.endswith(stop[:length])), default=0)
        piece, held = held[:len(held) - keep], held[len(held) - keep:]
        if piece:
            yield piece, None
    if held:
        yield held, None
    yield "", "length"


def number(body, name, default, low, high, whole=False):
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (whole and int(value) != value) or not low <= value <= high:
        raise Refused(400, "%s must be %s between %s and %s" % (name, "a whole number" if whole else "a number", low, high), "invalid_value", name)
    return value


def options_of(body):
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(item, str) and item for item in stops):
        raise Refused(400, "stop must be a string or up to four of them", "invalid_value", "stop")
    if body.get("n") not in (None, 1):
        raise Refused(400, "n must be 1", "invalid_value", "n")
    if body.get("model") not in (None, MODEL_NAME):
        raise Refused(404, "The model `%s` does not exist" % body.get("model"), "model_not_found", "model")
    most = body.get("max_completion_tokens")
    limit = number(body if most is None else {"max_tokens": most}, "max_tokens", DEFAULT_MAX_TOKENS, 1, CONTEXT_LENGTH, True)
    seed = number(body, "seed", None, -2**63, 2**63, True)
    return {
        "temperature": number(body, "temperature", 1.0, 0, 2),
        "top_p": number(body, "top_p", 1.0, 0, 1),
        "max_tokens": int(limit),
        "seed": random.SystemRandom().getrandbits(64) if seed is None else seed,
        "stop": stops,
        "completion_tokens": 0,
    }


def text_of(content):
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        return "".join(part["text"] for part in content)
    raise Refused(400, "content must be text", "invalid_value", "messages")


def chat_prompt(body):
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) and "role" in message for message in messages):
        raise Refused(400, "messages must be a non-empty list of {role, content}", "invalid_value", "messages")
    return "\n".join(text_of(message.get("content") or "") for message in messages) + "\n"


def completion_prompt(body):
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        raise Refused(400, "prompt must be a string", "invalid_value", "prompt")
    return prompt


def embed(text):
    """Hashed word and letter n-grams, length 1: near texts are near, without a download."""
    vector = [0.0] * EMBEDDING_SIZE
    words = re.findall(r"[a-z0-9]+", text.lower())
    grams = words + [word[at:at + 3] for word in (" %s " % word for word in words) for at in range(len(word) - 2)]
    for gram in grams:
        digest = hashlib.blake2b(gram.encode(), digest_size=8).digest()
        vector[int.from_bytes(digest[:4], "big") % EMBEDDING_SIZE] += 1.0 if digest[4] & 1 else -1.0
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / length for value in vector]


def usage_of(prompt_tokens, completion_tokens):
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": prompt_tokens + completion_tokens}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 120
    generator = None

    def log_message(self, form, *arguments):
        print("%s %s" % (self.command, form % arguments), flush=True)

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/health":
            return self.answer(200, {"status": "ok"})
        if path in ("/v1/models", "/get_models"):
            model = {"id": MODEL_NAME, "object": "model", "created": int(MODEL_FILE.stat().st_mtime), "owned_by": "canopy", "max_model_len": CONTEXT_LENGTH}
            return self.answer(200, {"object": "list", "data": [model]})
        self.fail(Refused(404, "no such path: " + path, "not_found"))

    def do_POST(self):
        path = self.path.split("?")[0]
        try:
            body = self.read_body()
            # Public paths, and the cords' internal ones: a gateway may call either.
            if path in ("/v1/chat/completions", "/chat", "/chat_stream"):
                return self.complete(body, chat_prompt(body), "chat.completion", body.get("stream") is True or path == "/chat_stream")
            if path in ("/v1/completions", "/completion", "/completion_stream"):
                return self.complete(body, completion_prompt(body), "text_completion", body.get("stream") is True or path == "/completion_stream")
            if path in ("/v1/embeddings", "/embed", "/embeddings"):
                return self.embeddings(body)
            if path == "/get_models":
                return self.do_GET()
            raise Refused(404, "no such path: " + path, "not_found")
        except Refused as refused:
            self.fail(refused)

    def read_body(self):
        size = self.headers.get("content-length")
        if size is not None:
            if int(size) > MOST_BODY_BYTES:
                self.close_connection = True
                raise Refused(413, "the body is larger than %d bytes" % MOST_BODY_BYTES, "too_large")
            raw = self.rfile.read(int(size))
        else:
            raw = self.read_chunked() if "chunked" in self.headers.get("transfer-encoding", "") else b""
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            raise Refused(400, "the body is not JSON", "invalid_json")
        if not isinstance(body, dict):
            raise Refused(400, "the body must be a JSON object", "invalid_json")
        return body

    def read_chunked(self):
        raw = b""
        while True:
            size = int(self.rfile.readline(64).split(b";")[0] or b"0", 16)
            raw += self.rfile.read(size)
            self.rfile.readline(8)
            if size == 0:
                return raw
            if len(raw) > MOST_BODY_BYTES:
                self.close_connection = True
                raise Refused(413, "the body is larger than %d bytes" % MOST_BODY_BYTES, "too_large")

    def complete(self, body, prompt, kind, is_stream):
        options = options_of(body)
        prompt_tokens = len(TOKEN.findall(prompt))
        if prompt_tokens + options["max_tokens"] > CONTEXT_LENGTH:
            raise Refused(400, "prompt and max_tokens exceed the context of %d tokens" % CONTEXT_LENGTH, "context_length_exceeded", "messages")
        is_chat = kind == "chat.completion"
        head = {"id": ("chatcmpl-" if is_chat else "cmpl-") + uuid.uuid4().hex, "created": int(time.time()), "model": MODEL_NAME}
        pieces = generate(self.generator, prompt, options)
        if is_stream:
            return self.stream(body, head, kind, is_chat, pieces, prompt_tokens, options)
        text, finish = "", None
        for piece, finish in pieces:
            text += piece
        choice = {"index": 0, "finish_reason": finish, "logprobs": None}
        choice.update({"message": {"role": "assistant", "content": text}} if is_chat else {"text": text})
        self.answer(200, dict(head, object=kind, choices=[choice], usage=usage_of(prompt_tokens, options["completion_tokens"])))

    def stream(self, body, head, kind, is_chat, pieces, prompt_tokens, options):
        wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        head = dict(head, object="chat.completion.chunk" if is_chat else kind)
        extra = {"usage": None} if wants_usage else {}
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("cache-control", "no-cache")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            if is_chat:
                self.event(dict(head, choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}], **extra))
            for piece, finish in pieces:
                if piece and PAUSE_SECONDS:
                    time.sleep(PAUSE_SECONDS)
                part = {"delta": {"content": piece} if piece else {}} if is_chat else {"text": piece}
                self.event(dict(head, choices=[dict(part, index=0, finish_reason=finish)], **extra))
            if wants_usage:
                self.event(dict(head, choices=[], usage=usage_of(prompt_tokens, options["completion_tokens"])))
            self.chunk(b"data: [DONE]\n\n")
            self.chunk(b"")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the caller left: nothing more is computed

    def embeddings(self, body):
        given = body.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise Refused(400, "input must be a string or a list of strings", "invalid_value", "input")
        options_of({"model": body.get("model")})
        vectors = [embed(text) for text in texts]
        if body.get("encoding_format") == "base64":
            import base64
            import struct
            vectors = [base64.b64encode(struct.pack("<%df" % len(vector), *vector)).decode() for vector in vectors]
        count = sum(len(TOKEN.findall(text)) for text in texts)
        data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
        self.answer(200, {"object": "list", "data": data, "model": MODEL_NAME, "usage": {"prompt_tokens": count, "total_tokens": count}})

    def event(self, data):
        self.chunk(b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n")

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def fail(self, refused):
        kind = "invalid_request_error" if refused.status < 500 else "server_error"
        self.answer(refused.status, {"error": {"message": str(refused), "type": kind, "param": refused.param, "code": refused.code}})

    def answer(self, status, body):
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main():
    Handler.generator = Generator(json.loads(MODEL_FILE.read_text(encoding="utf-8")))
    server = Server((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080"))), Handler)
    import signal
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print("serving %s on port %d" % (MODEL_NAME, server.server_address[1]), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
