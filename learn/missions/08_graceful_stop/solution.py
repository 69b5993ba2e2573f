"""The cart service, at PORT: POST /pay takes as long as ?seconds= says; /ready; /busy.

A platform stops it with the signal STOP.
"""

import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STOP = getattr(signal, "SIGBREAK", signal.SIGTERM)  # SIGBREAK: Ctrl-Break on Windows

stopping = threading.Event()
busy = []  # one entry for each payment that is in progress


class Cart(BaseHTTPRequestHandler):
    def do_POST(self):
        busy.append(self)
        time.sleep(float(self.path.partition("seconds=")[2]))  # the bank is slow
        busy.remove(self)
        self.respond(200, "paid")

    def do_GET(self):
        if self.path == "/busy":
            self.respond(200, str(len(busy)))
        else:
            self.respond(503 if stopping.is_set() else 200, "")

    def respond(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


class Server(ThreadingHTTPServer):
    daemon_threads = False  # the process ends after the last request


def drain():
    """Serve two seconds longer, then end serve_forever."""
    time.sleep(2)
    server.shutdown()


def stop(*_):
    """Say "not ready", and drain. A handler must return: the server goes on meanwhile."""
    stopping.set()
    threading.Thread(target=drain).start()


server = Server(("127.0.0.1", int(os.environ["PORT"])), Cart)
signal.signal(STOP, stop)
server.serve_forever()
server.server_close()  # waits for the requests
