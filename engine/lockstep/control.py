"""The two control pipes: commands come in, events go out, one JSON object a line."""

from __future__ import annotations

import json
import math
import os
import select
from typing import Any, Iterator, Optional

# Twice the largest batch (once as what is to be computed, once as what follows), with the longest ids, and room.
LINE_BYTES = 64 * 1024 * 1024
READ_BYTES = 64 * 1024


class Malformed(Exception):
    """A line that is no command."""


class Control:
    """Reads commands from one descriptor and writes events to another. Neither is passed on to child processes."""

    def __init__(self, fd_in: int, fd_out: int) -> None:
        self.fd_in = fd_in
        self.fd_out = fd_out
        self.pending = bytearray()
        self.waiting = b""
        self.input = select.poll()
        self.input.register(fd_in, select.POLLIN)
        os.register_at_fork(after_in_child=self.forget_in_child)

    def forget_in_child(self) -> None:
        # A forked child that kept the pipes would hide the engine's death from the daemon.
        # A child's own child has them no more.
        for fd in (self.fd_in, self.fd_out):
            if fd >= 0:
                os.close(fd)
        self.fd_in = self.fd_out = -1

    def has_input(self) -> bool:
        """Whether there is something to read: the next command, or the end."""
        return bool(self.pending) or bool(self.input.poll(0))

    def send(self, event: str, **fields: Any) -> None:
        """Writes one event, and those that wait for it. Numbers that are not finite become null: JSON has no words for them."""
        self.send_with_next(event, **fields)
        view = memoryview(self.waiting)
        self.waiting = b""
        while view:
            view = view[os.write(self.fd_out, view):]

    def send_with_next(self, event: str, **fields: Any) -> None:
        """Keeps the event for a moment, so that the daemon is woken once for it and the one that is about to follow."""
        body = {"event": event, **{name: finite_or_null(value) for name, value in fields.items()}}
        self.waiting += json.dumps(body, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"

    def lines(self) -> Iterator[Optional[bytes]]:
        """Yields each line until the daemon closes the pipe; None stands for a line that was too long and is dropped."""
        dropping = False
        searched = 0
        while True:
            end = self.pending.find(b"\n", searched)
            if end >= 0:
                line = None if dropping or end > LINE_BYTES else bytes(self.pending[:end])
                del self.pending[: end + 1]
                dropping, searched = False, 0
                yield line
                continue
            if len(self.pending) > LINE_BYTES:
                dropping = True
                self.pending.clear()
            searched = len(self.pending)
            chunk = os.read(self.fd_in, READ_BYTES)
            if not chunk:
                return
            self.pending += chunk


def parse_line(line: Optional[bytes]) -> dict:
    """The JSON object of a line. Raises Malformed."""
    if line is None:
        raise Malformed(f"the line is longer than {LINE_BYTES} bytes")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the line is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Malformed("the line is not a JSON object")
    return value


def finite_or_null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
