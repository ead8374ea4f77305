"""Any HTTP server is a chute: digests, echoes and badges, standard library only."""
import hashlib
import html
import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

MOST_BODY_BYTES = 16 * 1024 * 1024
BADGE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="20" role="img">'
    '<rect width="%d" height="20" fill="#444"/><rect x="%d" width="%d" height="20" fill="#2a7"/>'
    '<g fill="#fff" font-family="monospace" font-size="12"><text x="6" y="14">%s</text><text x="%d" y="14">%s</text></g></svg>'
)


def badge(label, value):
    left, right = 12 + 8 * len(label), 12 + 8 * len(value)
    return BADGE % (left + right, left, left, right, html.escape(label), left + 6, html.escape(value))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self):
        url = urlsplit(self.path)
        query = {name: values[0][:100] for name, values in parse_qs(url.query).items()}
        if url.path == "/health":
            return self.answer(200, {"status": "ok"})
        if url.path == "/badge":
            text = badge(query.get("label", "chute"), query.get("value", "hot"))
            return self.send(200, "image/svg+xml", text.encode())
        self.answer(404, {"detail": "Not Found"})

    def do_POST(self):
        body = self.read_body()
        if body is None:
            return self.answer(413, {"detail": "the body is larger than %d bytes" % MOST_BODY_BYTES})
        path = self.path.split("?")[0]
        if path == "/digest":
            return self.answer(200, {"sha256": hashlib.sha256(body).hexdigest(), "size_bytes": len(body)})
        if path == "/echo":
            return self.send(200, self.headers.get("content-type", "application/octet-stream"), body)
        self.answer(404, {"detail": "Not Found"})

    def read_body(self):
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            size = int(self.headers.get("content-length", 0))
            if size > MOST_BODY_BYTES:
                self.close_connection = True
                return None
            return self.rfile.read(size)
        body = b""
        while len(body) <= MOST_BODY_BYTES:
            size = int(self.rfile.readline(64).split(b";")[0] or b"0", 16)
            body += self.rfile.read(size)
            self.rfile.readline(8)
            if size == 0:
                return body
        self.close_connection = True
        return None

    def answer(self, status, body):
        self.send(status, "application/json", json.dumps(body).encode())

    def send(self, status, content_type, raw):
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


class Server(ThreadingHTTPServer):
    daemon_threads = True


if __name__ == "__main__":
    server = Server((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080"))), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
