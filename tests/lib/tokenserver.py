#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A token server for docker-registry, as small as can be.

    tokenserver.py USER PASSWORD SECONDS

Gives user:password tokens to pull, signed by a key of its own, good for SECONDS
though it says 300; refuses others. Prints "port 0 0 certificate" when it
listens; the certificate is the registry's rootcertbundle. Ends when its standard
input ends.
"""
import base64
import http.server
import json
import os
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

user, password, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3])
good = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
directory = tempfile.TemporaryDirectory(prefix="tokenserver")
key = os.path.join(directory.name, "key")
crt = os.path.join(directory.name, "crt")


def b64url(b):
    return base64.urlsafe_b64encode(b).rstrip(b"=").decode()


def make_token(service, scopes):
    with open(crt) as f:
        lines = [l.strip() for l in f if "-----" not in l]
    header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(lines)]}
    access = []
    for scope in scopes:
        kind, name, actions = scope.split(":")
        access.append({"type": kind, "name": name,
                       "actions": ["pull"] if "pull" in actions else []})
    now = int(time.time())
    claims = {"iss": "tests", "sub": user, "aud": service, "jti": str(now),
              "iat": now, "nbf": now - 10, "exp": now + seconds,
              "access": access}
    text = ".".join(b64url(json.dumps(o).encode()) for o in (header, claims))
    sign = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key],
                          input=text.encode(), check=True,
                          stdout=subprocess.PIPE).stdout
    return text + "." + b64url(sign)


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        q = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        if self.headers.get("Authorization") != good:
            self.send_error(401)
            return
        token = make_token(q["service"][0], q.get("scope", []))
        body = json.dumps({"token": token, "expires_in": 300}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
                "-days", "2", "-subj", "/CN=tests", "-keyout", key, "-out", crt],
               check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], 0, 0, crt, flush=True)
sys.stdin.read()
directory.cleanup()
