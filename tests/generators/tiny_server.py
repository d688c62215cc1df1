"""A server small enough for tests of supervision: answers /health with 200 and tells about itself at /about.

    python tiny_server.py PORT [MODE]

MODE: die (says why and ends at once), slow (never ready), family (starts a child in a session of its own that starts one, too), hang (stops
answering once /hang was asked), stubborn (ignores SIGTERM), crash (dies at /about).
"""

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, mode = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
if mode == "die":
    print("Traceback (most recent call last):\n  the model is too large for this GPU", flush=True)
    sys.exit(3)
if mode == "slow":
    time.sleep(600)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleeper = "import time; time.sleep(600)"
if mode == "family":
    nested = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {sleeper!r}]); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", nested], start_new_session=True)
hung = False


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        global hung
        if self.headers.get("Authorization") != f"Bearer {os.environ['TINY_KEY']}":
            self.send_error(401)
            return
        if mode == "crash" and self.path == "/about":
            os.kill(os.getpid(), signal.SIGKILL)
        hung = hung or self.path == "/hang"
        if hung and self.path != "/hang":
            time.sleep(600)
        body = json.dumps({"pid": os.getpid(), "argv": sys.argv, "environment": dict(os.environ)}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
