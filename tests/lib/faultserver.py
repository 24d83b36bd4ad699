#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An HTTP server that misbehaves on request.

    faultserver.py [PORT]

Listens on three loopback ports and prints them on one line: two of plain HTTP
(two hosts, for redirects across hosts) and one of TLS, then the path of the TLS
certificate. Ends when its standard input ends.

Byte i of every object is i % 251; the object has 1 MiB unless said otherwise.
The first word of the path says what happens; K is for how many requests of
that exact path, after which it is served properly:

    /ok/...               ranges, as they should be
    /whole/...            200 and everything, whatever range was asked for
    /whole-cut/N/K/...    the same, which ends after N bytes
    /whole-stall/N/K/...  the same, of which nothing comes after N bytes
    /cut/N/K/...          the connection ends after N bytes of the body
    /stall/N/K/...        nothing comes after N bytes of the body
    /loris/...            a byte every 20 ms
    /status/CODE/K/S/...  that status, with "Retry-After: S" unless S is -
    /wrong-range/...      206 for the range one byte further
    /no-range-header/...  206 without Content-Range
    /short/...            206 whose length is less than its range
    /long/...             206 whose body (chunked) is longer than its range
    /multipart/...        206 multipart/byteranges
    /wrong-total/...      206 of an object of another size
    /loop/...             a redirect to itself
    /to/WHERE/...         a redirect: ftp, user (user name in it), plain (http),
                          nowhere (no Location), relative
    /hops/N/...           N redirects, then the object
    /signed/...           a redirect to a signed URL on the other host
    /store/EPOCH/...      a signed URL; refused once its epoch is over; 400 when
                          it sees an Authorization header
    /v2/NAME/...          a registry; NAME says who may read: open, basic,
                          bearer, identity; signed-bearer redirects to the
                          store, hop-bearer to itself with "?hop"; liar-open
                          sends other bytes, whole-open ignores ranges, absent has nothing, busy is busy

    /token                the token server of bearer and identity
    /_expire/CODE         signed URLs made until now answer with CODE
    /_revoke              tokens made until now are no longer good
    /_log                 the requests until now, one per line, and forget them:
                          method, port, path, Range, kind of Authorization
"""
import base64
import os
import socket
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler

SIZE = 1 << 20
BODY = (bytes(range(251)) * (SIZE // 251 + 1))[:SIZE]
USER = "Basic " + base64.b64encode(b"user:pass word").decode()
IDENTITY = "identity+/="


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.counts = {}
        self.log = []
        self.epoch = 1
        self.expired_code = 403
        self.token = 1
        self.ports = []


state = State()


def first(path, k):
    """Is this one of the first k requests of path?"""
    with state.lock:
        n = state.counts.get(path, 0)
        state.counts[path] = n + 1
    return n < k


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    # ---- answers ----

    def simple(self, code, headers=(), body=b""):
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def redirect(self, where):
        self.simple(307, [("Location", where)], b"<a>elsewhere</a>")

    def wanted(self):
        """First and last byte, or None for everything."""
        r = self.headers.get("Range")
        if not r:
            return None
        a, b = r.split("=")[1].split("-")
        return int(a), min(int(b), SIZE - 1) if b else SIZE - 1

    def begin(self, code, length, content_range=None):
        self.send_response(code)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def begin_range(self):
        """Headers of a proper answer; gives the body."""
        w = self.wanted()
        if not w:
            self.begin(200, SIZE)
            return BODY
        if w[0] >= SIZE:
            self.simple(416, [("Content-Range", "bytes */%d" % SIZE)])
            return b""
        body = BODY[w[0]:w[1] + 1]
        self.begin(206, len(body), "bytes %d-%d/%d" % (w[0], w[1], SIZE))
        return body

    def ok(self):
        body = self.begin_range()
        if self.command != "HEAD":
            self.wfile.write(body)

    # ---- faults ----

    def do_cut(self, n, k):
        if not first(self.path, int(k)):
            return self.ok()
        self.wfile.write(self.begin_range()[:int(n)])
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def do_whole(self, what, n, k):
        self.begin(200, SIZE)
        if not first(self.path, k):
            self.wfile.write(BODY)
            return
        self.wfile.write(BODY[:n])
        self.wfile.flush()
        if what == "whole-stall":
            self.hang()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def hang(self):
        """Until the client goes, or a minute."""
        self.connection.settimeout(60)
        try:
            self.connection.recv(1)
        except OSError:
            pass

    def do_stall(self, n, k):
        if not first(self.path, int(k)):
            return self.ok()
        self.wfile.write(self.begin_range()[:int(n)])
        self.wfile.flush()
        self.hang()
        self.close_connection = True

    def do_loris(self):
        self.close_connection = True
        for b in self.begin_range()[:5000]:
            self.wfile.write(bytes([b]))
            self.wfile.flush()
            time.sleep(0.02)

    def do_status(self, code, k, after):
        if not first(self.path, int(k)):
            return self.ok()
        headers = [] if after == "-" else [("Retry-After", after)]
        self.simple(int(code), headers, b"no\n")

    def do_wrong(self, kind):
        a, b = self.wanted()
        body = BODY[a:b + 1]
        cr = "bytes %d-%d/%d" % (a, b, SIZE)
        if kind == "wrong-range":
            self.begin(206, len(body), "bytes %d-%d/%d" % (a + 1, b + 1, SIZE))
        elif kind == "wrong-total":
            self.begin(206, len(body), "bytes %d-%d/%d" % (a, b, SIZE + 1))
        elif kind == "no-range-header":
            self.begin(206, len(body))
        elif kind == "short":
            body = body[:-1]
            self.begin(206, len(body), cr)
        elif kind == "long":
            self.begin(206, None, cr)
            body += b"x"
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        elif kind == "multipart":
            body = b"--b\r\nContent-Range: %s\r\n\r\n%s\r\n--b--\r\n" % (
                cr.encode(), body)
            self.send_response(206)
            self.send_header("Content-Type", "multipart/byteranges; boundary=b")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
        self.wfile.write(body)

    def do_to(self, where):
        if where == "nowhere":
            return self.simple(302)
        self.redirect({
            "ftp": "ftp://127.0.0.1/x",
            "user": "http://u:secret@127.0.0.1:%d/ok/x" % state.ports[0],
            "plain": "http://127.0.0.1:%d/ok/x" % state.ports[0],
            "relative": "../../ok/x",
        }[where])

    def do_signed(self):
        with state.lock:
            epoch = state.epoch
        self.redirect("http://127.0.0.1:%d/store/%d/x?sig=secret" %
                      (state.ports[1], epoch))

    def do_store(self, epoch):
        if self.headers.get("Authorization"):
            return self.simple(400, body=b"two ways to authenticate")
        with state.lock:
            good = int(epoch) == state.epoch
            code = state.expired_code
        if not good:
            return self.simple(code, body=b"<Code>ExpiredToken</Code>")
        self.ok()

    # ---- a registry ----

    def token_text(self):
        with state.lock:
            return "token-%d" % state.token

    def challenge(self, name):
        if name == "basic":
            value = 'Basic realm="here"'
        else:
            scheme = "https" if self.server.is_tls else "http"
            value = ('Negotiate, Bearer realm="%s://127.0.0.1:%d/token",'
                     'service="a \\"b\\" c",scope="repository:%s:pull"' %
                     (scheme, self.server.server_address[1], name))
        self.simple(401, [("WWW-Authenticate", value)], b'{"errors":[]}')

    def do_v2(self, name):
        auth = self.headers.get("Authorization")
        if name == "basic":
            good = auth == USER
        elif name == "absent":
            return self.simple(404, body=b"{}")
        elif name == "busy":
            return self.simple(503, [("Retry-After", "30")])
        elif name in ("open", "liar-open", "whole-open"):
            good = True
        else:
            good = auth == "Bearer " + self.token_text()
        if not good:
            return self.challenge(name)
        if name.startswith("signed"):
            return self.do_signed()
        if name == "whole-open":
            self.begin(200, SIZE)
            return self.wfile.write(BODY)
        if name == "liar-open":
            return self.wfile.write(self.begin_range()[::-1])
        if name.startswith("hop") and not self.path.endswith("?hop"):
            return self.redirect(self.path + "?hop")
        self.ok()

    def do_token(self, query, form):
        if form:
            f = urllib.parse.parse_qs(form)
            good = f.get("refresh_token") == [IDENTITY]
        else:
            scope = query.get("scope", [""])[0]
            good = (query.get("service") == ['a "b" c'] and
                    (":anonymous" in scope or
                     self.headers.get("Authorization") == USER))
        if not good:
            return self.simple(401, body=b"{}")
        body = '{"access_token":"%s","expires_in":300}' % self.token_text()
        self.simple(200, [("Content-Type", "application/json")], body.encode())

    # ---- dispatch ----

    def control(self, words):
        with state.lock:
            if words[0] == "_expire":
                state.epoch += 1
                state.expired_code = int(words[1])
            elif words[0] == "_revoke":
                state.token += 1
            text = "".join(state.log)
            if words[0] == "_log":
                state.log = []
        self.simple(200, body=text.encode() if words[0] == "_log" else b"")

    def note(self):
        auth = (self.headers.get("Authorization") or "-").split(" ")[0]
        with state.lock:
            state.log.append("%s %d %s %s %s\n" % (
                self.command, state.ports.index(self.server.server_address[1]),
                self.path, self.headers.get("Range") or "-", auth))

    def handle_any(self):
        form = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(self.path)
        words = url.path.strip("/").split("/")
        what = words[0]
        if what.startswith("_"):
            return self.control(words)
        self.note()
        if what == "ok":
            self.ok()
        elif what == "whole":
            self.begin(200, SIZE)
            self.wfile.write(BODY)
        elif what.startswith("whole-"):
            self.do_whole(what, int(words[1]), int(words[2]))
        elif what == "cut":
            self.do_cut(words[1], words[2])
        elif what == "stall":
            self.do_stall(words[1], words[2])
        elif what == "loris":
            self.do_loris()
        elif what == "status":
            self.do_status(words[1], words[2], words[3])
        elif what == "loop":
            self.redirect(self.path)
        elif what == "to":
            self.do_to(words[1])
        elif what == "hops":
            n = int(words[1])
            self.redirect("/hops/%d/x" % (n - 1)) if n else self.ok()
        elif what == "signed":
            self.do_signed()
        elif what == "store":
            self.do_store(words[1])
        elif what == "v2":
            self.do_v2(words[1])
        elif what == "token":
            self.do_token(urllib.parse.parse_qs(url.query), form.decode())
        elif what in ("wrong-range", "no-range-header", "short", "long",
                      "multipart", "wrong-total"):
            self.do_wrong(what)
        else:
            self.simple(404, body=b"nothing here\n")

    def do_any(self):
        try:
            self.handle_any()
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_any


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    is_tls = False

    def handle_error(self, request, client_address):
        pass


class TlsServer(Server):
    is_tls = True

    def finish_request(self, request, client_address):
        # In the connection's own thread: a handshake may take its time.
        try:
            request = self.context.wrap_socket(request, server_side=True)
        except (OSError, ssl.SSLError):
            return
        self.RequestHandlerClass(request, client_address, self)
        try:
            request.close()
        except OSError:
            pass


def make_certificate(directory):
    crt = os.path.join(directory, "ca.crt")
    key = os.path.join(directory, "server.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-keyout", key, "-out", crt],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return crt, key


def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with tempfile.TemporaryDirectory(prefix="faultserver") as directory:
        crt, key = make_certificate(directory)
        servers = [Server(("127.0.0.1", port), Handler),
                   Server(("127.0.0.1", 0), Handler),
                   TlsServer(("127.0.0.1", 0), Handler)]
        servers[2].context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        servers[2].context.load_cert_chain(crt, key)
        state.ports = [s.server_address[1] for s in servers]
        for s in servers:
            threading.Thread(target=s.serve_forever, daemon=True).start()
        print(*state.ports, crt, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
