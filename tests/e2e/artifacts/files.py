"""Serves a directory over TLS, with ranges; writes down what it sent, and breaks off where it is told
to, or waits there until nobody listens any more.

python3 files.py HOST PORT DIRECTORY CERTIFICATE KEY LOG
"""

import http.server
import os
import re
import socket
import ssl
import sys
import threading

host, port, directory, certificate, key, log = sys.argv[1:]
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = directory + self.path
        if not os.path.isfile(path):
            self.send_error(404)
            self.note(0, 0)
            return
        with open(path, "rb") as file:
            content = file.read()
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        held, cut = self.once(path + ".hold"), None
        if held is None:
            cut = self.once(path + ".cut")
        rest = rest[: held or cut]
        self.wfile.write(rest)
        self.note(start, len(rest))
        if held is not None:
            self.rfile.read(1)

    # The first to ask for this is treated so: after so many bytes.
    def once(self, path):
        with lock:
            try:
                with open(path) as file:
                    return int(file.read())
            except FileNotFoundError:
                return None
            finally:
                if os.path.exists(path):
                    os.remove(path)

    def note(self, start, sent):
        with lock, open(log, "a") as lines:
            lines.write(f"{self.path} {start} {sent}\n")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


server = Server((host, int(port)), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
