"""Stores each request that comes, as `capture.py FOLDER`: `port` is where it listens on loopback, `NNN.json` are the
requests. Answers 200. Ends after five minutes if nobody ended it before."""

import base64
import itertools
import json
import os
import pathlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

folder = pathlib.Path(sys.argv[1])
numbers = itertools.count()


def write(name: str, text: str) -> None:
    """Whole, or not there."""
    partial = folder / f"{name}.partial"
    partial.write_text(text)
    os.replace(partial, folder / name)


class Capture(BaseHTTPRequestHandler):
    timeout = 30

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = {
            "path": self.path,
            "headers": dict(self.headers.items()),
            "body": base64.b64encode(body).decode(),
        }
        write(f"{next(numbers):03}.json", json.dumps(request))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Capture)
write("port", str(server.server_address[1]))
end = threading.Timer(300, server.shutdown)
end.daemon = True
end.start()
server.serve_forever()
