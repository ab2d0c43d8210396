"""A proxy before a server, which lets some of the calls fail: a status instead of an answer, or an answer that is lost."""

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = Literal["429", "503", "412", "403", "lost", "unheard"]
"""A status before the call is passed on; `lost`: it is passed on, and the answer is not; `unheard`: nothing is passed on."""


@dataclass
class Proxy:
    """Counts calls, from 1, and asks which of them fail.

    Attributes:
        fault: of a call by its number; None where it does not fail.
        calls: method and path of each.
    """

    port: int
    fault: Callable[[int], Fault | None] = lambda _: None
    calls: list[str] = field(default_factory=list)

    def __enter__(self) -> "Proxy":
        proxy, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def handle_one_request(self) -> None:
                try:
                    self.raw_requestline = self.rfile.readline(65537)
                except ConnectionResetError:
                    self.raw_requestline = b""
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with lock:
                    proxy.calls.append(f"{self.command} {self.path}")
                    fault = proxy.fault(len(proxy.calls))
                if fault == "unheard":
                    self.close_connection = True
                elif fault in (None, "lost"):
                    self.pass_on(body, answered=fault is None)
                else:
                    error = {"error": {"code": int(fault), "message": "as asked for", "errors": [{"message": "as asked for"}]}}
                    self.answer(int(fault), [("Content-Type", "application/json")], json.dumps(error).encode())

            def pass_on(self, body: bytes, answered: bool) -> None:
                server = http.client.HTTPConnection("127.0.0.1", proxy.port)
                server.request(self.command, self.path, body, dict(self.headers))
                got = server.getresponse()
                content = got.read()
                server.close()
                if not answered:
                    self.close_connection = True
                    return
                kept = [(name, value) for name, value in got.getheaders() if name.lower() not in _HOP]
                self.answer(got.status, kept, content)

            def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def host(self) -> str:
        """What to call instead of the server."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"


_HOP = {"content-length", "transfer-encoding", "connection"}
