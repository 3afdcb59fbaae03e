"""A mail server that takes as many seconds for each mail as a file says, and keeps none."""

from __future__ import annotations

import socketserver
import time
from pathlib import Path

SECONDS = Path("/tmp/seconds")  # noqa: S108 - of the pod alone


class Session(socketserver.StreamRequestHandler):
    """One conversation of SMTP (RFC 5321), as far as a client needs it."""

    def handle(self) -> None:
        self._say("220 mail")
        while line := self.rfile.readline().strip().upper():
            if line == b"DATA":
                self._say("354 go on")
                while self.rfile.readline().rstrip(b"\r\n") != b".":
                    pass
                time.sleep(float(SECONDS.read_text()))
            self._say("221 bye" if line == b"QUIT" else "250 mail")

    def _say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


SECONDS.write_text("0")
Server(("0.0.0.0", 2525), Session).serve_forever()  # noqa: S104 - a pod's own address
