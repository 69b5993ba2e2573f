"""Bounds the queue, but waits for a place in it. So the requests wait in another queue.

Seen: … under three times the load, and it rejected no request
"""

import os
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

waiting = queue.Queue(maxsize=16)  # 16 x 25 ms: the last one waits 0.4 s


def work():
    """Compute one cart after the other, in the order of their requests."""
    while True:
        done = waiting.get()
        time.sleep(0.025)  # the tax computer
        done.set()


class Cart(BaseHTTPRequestHandler):
    def do_GET(self):
        done = threading.Event()
        waiting.put(done)
        done.wait()
        self.respond(200, b"42 euros")

    def respond(self, status, data, headers=()):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    request_queue_size = 200  # connections that the system may keep until we accept them


threading.Thread(target=work, daemon=True).start()
Server(("127.0.0.1", int(os.environ["PORT"])), Cart).serve_forever()
