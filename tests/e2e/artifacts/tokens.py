"""Gives tokens for a registry to whoever knows the password, as the distribution project documents.

python3 tokens.py HOST PORT CERTIFICATE KEY SIGNS SIGNING_KEY USER:PASSWORD LOG
"""

import base64
import http.server
import json
import ssl
import subprocess
import sys
import time
import urllib.parse

host, port, certificate, key, signs, signing_key, known, log = sys.argv[1:]


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(audience, scopes):
    access = []
    for scope in scopes:
        kind, name, actions = scope.split(":")
        access.append({"type": kind, "name": name, "actions": actions.split(",")})
    with open(signs) as file:
        der = ssl.PEM_cert_to_DER_cert(file.read())
    header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
    now = int(time.time())
    claims = {"iss": "tokens", "sub": "somebody", "aud": audience, "jti": str(now)}
    # No clock is set better than to an hour.
    claims |= {"iat": now, "nbf": now - 3600, "exp": now + 3600, "access": access}
    text = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    signed = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", signing_key],
        input=text.encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return f"{text}.{encoded(signed.stdout)}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        wanted = "Basic " + base64.b64encode(known.encode()).decode()
        is_known = self.headers.get("Authorization") == wanted
        scopes = query.get("scope", [])
        with open(log, "a") as lines:
            lines.write(f"{200 if is_known else 401} {' '.join(scopes)}\n")
        answer = {"token": token(query["service"][0], scopes)} if is_known else {}
        body = json.dumps(answer).encode()
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
