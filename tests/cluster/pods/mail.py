"""
A mail server that takes as many seconds for each mail as a file says, and refuses those with a word of another file.

It keeps none but the reports of the plain consumer, a line each.
"""

from __future__ import annotations

import socketserver
import time
from pathlib import Path

# Of the pod alone.
SECONDS = Path("/tmp/seconds")  # noqa: S108
REFUSED = Path("/tmp/refused")  # noqa: S108
REPORTS = Path("/tmp/reports")  # noqa: S108


class Session(socketserver.StreamRequestHandler):
    """One conversation of SMTP (RFC 5321), as far as a client needs it."""

    def handle(self) -> None:
        self._say("220 mail")
        sender = b""
        while line := self.rfile.readline().strip().upper():
            if line.startswith(b"MAIL FROM:"):
                sender = line
            if line == b"DATA":
                self._say("354 go on")
                text = b""
                while (part := self.rfile.readline()) not in {b"", b".\r\n"}:
                    text += part
                time.sleep(float(SECONDS.read_text()))
                word = REFUSED.read_bytes().strip()
                if word and word in text:
                    self._say("450 not now")
                    continue
                if b"<PACE>" in sender:
                    with REPORTS.open("ab") as reports:
                        reports.write(text)
            self._say("221 bye" if line == b"QUIT" else "250 mail")

    def _say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


SECONDS.write_text("0")
REFUSED.write_text("poison")
REPORTS.touch()
Server(("0.0.0.0", 2525), Session).serve_forever()  # noqa: S104 - a pod's own address
