"""What the engine does to its own process before any user code runs."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """The kernel kills the engine when its daemon dies. If the daemon died before this call, the control pipe ends."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os._exit(1)


def keep_from_children(*fds: int) -> None:
    for fd in fds:
        os.set_inheritable(fd, False)


def make_prints_prompt() -> None:
    """The user's prints become log lines at once, and bytes that are no text never raise."""
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    sys.stderr.reconfigure(line_buffering=True, errors="backslashreplace")
    faulthandler.enable(file=sys.stderr)


def flush_prints() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            # The user's code closed or replaced it, with anything, or the daemon is gone, which the control pipe tells better.
            pass


def fix_thread_counts() -> None:
    """The intra-op count comes from the daemon (OMP_NUM_THREADS); operators never run beside one another."""
    import torch

    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > 0:
        torch.set_num_threads(int(threads))
    # PyTorch refuses a second call, even with the same number.
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
