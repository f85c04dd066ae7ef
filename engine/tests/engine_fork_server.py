"""Starts engines for the tests by fork, after PyTorch was imported once: importing it takes most of a short test.

One fixed training step is run first, since PyTorch 2 imports another second's worth only when it is first used.
Requests on the socket at descriptor 3: b"F" with seven descriptors (commands, events, exchange, state, snapshot, stdout,
stderr) forks an engine and answers its process id; b"W" and a process id waits for it and answers its exit status.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

import engine_path  # noqa: F401
import torch

from lockstep import process, server
from lockstep.fingerprint import fingerprint

INTEGER = struct.Struct("<q")


def serve(requests: socket.socket) -> None:
    while True:
        message, fds, _, _ = socket.recv_fds(requests, 64, 7)
        if not message:
            return
        if message[:1] == b"W":
            _, status = os.waitpid(INTEGER.unpack(message[1:])[0], 0)
            requests.send(INTEGER.pack(os.waitstatus_to_exitcode(status)))
            continue
        pid = os.fork()
        if pid == 0:
            run_engine(fds)
        for fd in fds:
            os.close(fd)
        requests.send(INTEGER.pack(pid))


def run_engine(fds: list) -> None:
    os.setsid()
    # Two steps, because a source may lie on the number of another's target.
    copies = [os.dup2(fd, 100 + place) for place, fd in enumerate(fds)]
    for fd, target in zip(copies, (3, 4, 5, 6, 7, 1, 2)):
        os.dup2(fd, target)
    os.closerange(8, 200)
    process.die_with_parent()
    sys.argv[1:] = ["--control-in", "3", "--control-out", "4", "--exchange", "5", "--state", "6", "--snapshot", "7"]
    status = server.main()
    process.flush_prints()
    os._exit(status)


if __name__ == "__main__":
    process.fix_thread_counts()
    fingerprint(torch.device("cpu"))
    serve(socket.socket(fileno=3))
