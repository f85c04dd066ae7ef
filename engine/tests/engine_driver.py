"""Drives a real engine process over its real pipes and memory files, as the worker daemon does."""

from __future__ import annotations

import atexit
import fcntl
import functools
import json
import os
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy

from engine_path import BUNDLE, ENGINE_FOLDER

PAGE = 4096
DEADLINE_S = 60
INTEGER = struct.Struct("<q")


class Failed(Exception):
    """The engine answered `failed`."""

    def __init__(self, event: Dict[str, Any]) -> None:
        super().__init__(f"{event['phase']}/{event['kind']}: {event['message']}\n{event['traceback']}")
        self.phase, self.kind, self.message, self.traceback = (event[k] for k in ("phase", "kind", "message", "traceback"))


class ForkServer:
    """The process that all engines of a test run are forked from; started with the first."""

    def __init__(self) -> None:
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.requests.settimeout(DEADLINE_S)
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("engine_fork_server.py"))],
            preexec_fn=lambda: os.dup2(theirs.fileno(), 3, inheritable=True), close_fds=False,
            # What these tests compare is computed on the processor, also where there is a GPU.
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        theirs.close()

    def fork(self, fds: Sequence[int]) -> int:
        socket.send_fds(self.requests, [b"F"], fds)
        return INTEGER.unpack(self.requests.recv(64))[0]

    def wait(self, pid: int) -> int:
        self.requests.send(b"W" + INTEGER.pack(pid))
        return INTEGER.unpack(self.requests.recv(64))[0]

    def close(self) -> None:
        self.requests.close()
        self.process.wait()


@functools.lru_cache(maxsize=None)
def fork_server() -> ForkServer:
    server = ForkServer()
    atexit.register(server.close)
    return server


class EngineDriver:
    """A running engine. `events` holds everything that it ever wrote to its control pipe."""

    def __init__(self) -> None:
        self.exchange = os.memfd_create("exchange", os.MFD_CLOEXEC)
        self.state = os.memfd_create("state", os.MFD_CLOEXEC)
        self.snapshot = os.memfd_create("snapshot", os.MFD_CLOEXEC)
        self.stdout = tempfile.TemporaryFile()
        self.stderr = tempfile.TemporaryFile()
        command_in, self.command_out = os.pipe()
        self.event_in, event_out = os.pipe()
        self.events: List[Dict[str, Any]] = []
        self.buffer = b""
        self.next_id = 0
        self.vector_bytes = self.bf16_bytes = 0
        self.pid = self.start(
            [command_in, event_out, self.exchange, self.state, self.snapshot, self.stdout.fileno(), self.stderr.fileno()]
        )
        os.close(command_in)
        os.close(event_out)
        self.started = self.read_event()
        assert self.started["event"] == "started", self.started

    def start(self, fds: Sequence[int]) -> int:
        """fds: commands, events, exchange, state, snapshot, stdout, stderr. Returns the engine's process id."""
        return fork_server().fork(fds)

    def wait(self) -> int:
        """The exit status, once it has exited."""
        return fork_server().wait(self.pid)

    # -- the wire

    def send_bytes(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.command_out, data):]

    def send(self, command: str, **fields: Any) -> int:
        self.next_id += 1
        self.send_bytes(json.dumps({"command": command, "id": self.next_id, **fields}).encode() + b"\n")
        return self.next_id

    def read_event(self, deadline_s: float = DEADLINE_S) -> Dict[str, Any]:
        ends = time.monotonic() + deadline_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.event_in, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                if not selector.select(max(0.0, ends - time.monotonic())):
                    raise TimeoutError("the engine said nothing")
                chunk = os.read(self.event_in, 65536)
                if not chunk:
                    raise EOFError(f"the engine closed its pipe; stderr: {self.read_prints(self.stderr)}")
                self.buffer += chunk
        line, self.buffer = self.buffer.split(b"\n", 1)
        event = json.loads(line, parse_constant=refuse_constant)
        self.events.append(event)
        return event

    def ask(self, command: str, **fields: Any) -> Dict[str, Any]:
        """Sends one command and returns its last event; `partial` events before it are under "partials", `buckets`
        events under "buckets"."""
        if command == "compute":
            fields.setdefault("ahead", None)
        number = self.send(command, **fields)
        before = {"partial": [], "buckets": [], "microbatch": []}
        while True:
            event = self.read_event()
            assert event["id"] == number, event
            if event["event"] == "failed":
                raise Failed(event)
            if event["event"] not in before:
                return {**event, "partials": before["partial"], "buckets": before["buckets"]}
            before[event["event"]].append(event)

    # -- commands

    def load_class(self, name: str, **overrides: Any) -> Dict[str, Any]:
        return self.load(BUNDLE, f"task.py:{name}", **overrides)

    def load(self, bundle: str, task: str, **overrides: Any) -> Dict[str, Any]:
        options = dict(
            seed=7, microbatches=4, precision="fp32", exchange="fp32", clip_grad_norm=None, on_nonfinite="fail", deterministic=True,
            params={}, init_from=None,
        )
        answer = self.ask("load", bundle=bundle, task=task, **{**options, **overrides})
        self.vector_bytes, self.bf16_bytes = answer["vector_bytes"], answer["bf16_bytes"]
        return answer

    def compute(self, step: int, runs: Sequence[tuple], ahead: Optional[dict] = None) -> List[Dict[str, Any]]:
        """runs: (lo, samples of each microbatch), each partial going to the region of its place in the list."""
        self.size_exchange(len(runs) + 1)
        body = [
            {"lo": lo, "length": len(samples), "at": self.offset(place), "samples": samples}
            for place, (lo, samples) in enumerate(runs)
        ]
        return self.ask("compute", step=step, runs=body, ahead=ahead)["partials"]

    def apply(self, step: int, vector: bytes, weight: float, filled: int) -> Dict[str, Any]:
        self.size_exchange(1)
        os.pwrite(self.exchange, vector, self.offset(0))
        return self.ask("apply", step=step, at=self.offset(0), weight=weight, filled=filled)

    def train_step(self, step: int, samples: Sequence[Sequence[int]]) -> Dict[str, Any]:
        """A whole step by this engine alone: the partial of one run over everything is the reduced vector."""
        partial = self.compute(step, [(0, samples)])[0]
        filled = sum(1 for ids in samples if ids)
        return {**partial, **self.apply(step, self.vector_memory(0), partial["weight"], filled)}

    # -- memory

    def offset(self, place: int) -> int:
        region = -(-self.vector_bytes // PAGE) * PAGE
        return place * region

    def size_exchange(self, regions: int) -> None:
        if os.fstat(self.exchange).st_size < self.offset(regions):
            os.ftruncate(self.exchange, self.offset(regions))

    def vector_memory(self, place: int) -> bytes:
        return os.pread(self.exchange, self.vector_bytes, self.offset(place))

    def vector(self, place: int) -> numpy.ndarray:
        """Of a job with `exchange: fp32`."""
        return numpy.frombuffer(self.vector_memory(place), dtype="<f4").copy()

    # -- the process

    def read_prints(self, file: Any) -> str:
        file.seek(0)
        return file.read().decode("utf-8", "replace")

    def close(self) -> int:
        """Ends the engine by closing its commands. Returns its exit status."""
        os.close(self.command_out)
        status = self.wait()
        for fd in (self.event_in, self.exchange, self.state, self.snapshot):
            os.close(fd)
        self.stdout.close()
        self.stderr.close()
        return status


class ExecutedEngineDriver(EngineDriver):
    """An engine that is started as the daemon starts it: `python3 -m lockstep.engine`."""

    def start(self, fds: Sequence[int]) -> int:
        # High copies first: the pipes may have been given the very numbers that they must not yet have.
        high = {target: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for target, fd in zip((3, 4, 5, 6, 7), fds)}

        def place() -> None:
            for target, fd in high.items():
                os.dup2(fd, target, inheritable=True)

        # close_fds would close 3 to 7 after `place` has put them there; all others close on exec by themselves.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lockstep.engine", "--control-in", "3", "--control-out", "4", "--exchange", "5", "--state", "6",
             "--snapshot", "7"],
            stdin=subprocess.DEVNULL, stdout=self.stdout, stderr=self.stderr, preexec_fn=place, close_fds=False,
            start_new_session=True, env={**os.environ, "PYTHONPATH": str(ENGINE_FOLDER), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        for fd in high.values():
            os.close(fd)
        return self.process.pid

    def wait(self) -> int:
        return self.process.wait(DEADLINE_S)


def refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")
