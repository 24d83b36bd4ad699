"""A registry over an OCI layout, in this process: counts the bytes of blobs that
it sends, and can fall silent after some of them."""
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 64 << 10


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, has_body):
        try:
            self.answer_path(has_body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer_path(self, has_body):
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        self.server.methods.append(self.command)
        words = self.path.split("/")
        if self.path == "/v2/":
            return self.send(200, b"{}", {}, has_body)
        if len(words) < 5 or words[-2] not in ("manifests", "blobs"):
            return self.send(404, b"", {}, has_body)
        is_blob = words[-2] == "blobs"
        data, media_type = self.server.layout_file(words[-1], is_blob)
        if data is None:
            return self.send(404, b"", {}, has_body)
        headers = {"Content-Type": media_type}
        if not is_blob:
            if self.server.announce:
                headers["Docker-Content-Digest"] = self.server.announce(data)
            return self.send(200, data, headers, has_body)
        code = 200
        spec = self.headers.get("Range")
        if spec:
            first, last = (int(x) for x in spec.removeprefix("bytes=").split("-"))
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, code = data[first:last + 1], 206
        return self.send(code, data, headers, has_body, is_blob)

    def send(self, code, data, headers, has_body, is_metered=False):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for at in range(0, len(data) if has_body else 0, PIECE):
            piece = data[at:at + PIECE]
            if is_metered and not self.server.may_send(len(piece)):
                self.close_connection = True
                return
            self.wfile.write(piece)


class LayoutServer(ThreadingHTTPServer):
    """Serves while its block lasts. limit: bytes of blobs after which it waits
    (None: never); sent: those that it has sent; asked: paths and credentials;
    methods: of each, too; announce: from a manifest to the digest that is sent
    with it (None: none is sent)."""

    daemon_threads = True

    def __init__(self, layout, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.layout = layout
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.limit, self.sent = None, 0
        self.asked, self.methods = [], []
        self.announce = None
        self.is_closed = False
        self.moved = threading.Condition()

    def layout_file(self, name, is_blob):
        media_type = "application/octet-stream"
        if not name.startswith("sha256:"):
            with open(os.path.join(self.layout, "index.json"), encoding="utf-8") as f:
                name = json.load(f)["manifests"][0]["digest"]
        try:
            with open(os.path.join(self.layout, "blobs", *name.split(":")), "rb") as f:
                data = f.read()
        except FileNotFoundError:
            return None, None
        if not is_blob:
            media_type = json.loads(data)["mediaType"]
        return data, media_type

    def may_send(self, n):
        with self.moved:
            self.moved.wait_for(lambda: self.is_closed or self.limit is None or
                                self.sent < self.limit)
            self.sent += n
            self.moved.notify_all()
            return not self.is_closed

    def wait_until_silent(self, seconds=30):
        """Until limit has been reached."""
        with self.moved:
            assert self.moved.wait_for(lambda: self.sent >= self.limit, seconds)

    def set_limit(self, limit):
        """And forget what was sent."""
        with self.moved:
            self.limit, self.sent = limit, 0
            self.moved.notify_all()

    def handle_error(self, request, client_address):
        pass

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc):
        with self.moved:
            self.is_closed = True
            self.moved.notify_all()
        self.shutdown()
        self.server_close()
