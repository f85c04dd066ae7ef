"""What a worker's pre-flight and `lockstep doctor` want to know of the engine: whether it starts, and how fast it computes.

    python3 engine/preflight.py --gpu 0

Says what it finds step by step, one JSON object a line, so that what is missing can be named even when the interpreter dies of it:
that is why it is not in the package, which cannot be imported without PyTorch. It goes the way of an engine up to its first message,
at a low priority, so that engines that train do not notice.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import runpy
import time
from pathlib import Path
from typing import Any, Callable

# Beside an engine that keeps the processor busy it gets a tenth of it.
NICER_BY = 10
# Long enough to span what a scheduler does, short enough that the best of them was left alone.
RUNS, RUN_SECONDS = 8, 0.08
# On a processor a product takes some milliseconds; on a GPU it has to be large enough to fill it.
SIDE = {"cpu": 384, "cuda": 4096}
# A machine on which all of the runs would take longer is slow enough to be seen after fewer.
MOST_SECONDS = 5.0


def say(**found: Any) -> None:
    print(json.dumps(found), flush=True)


def lower_priority() -> None:
    try:
        os.nice(NICER_BY)
    except OSError:
        # It competes as an equal.
        pass


def look_at_interpreter() -> None:
    try:
        os.close(os.memfd_create("lockstep-preflight"))
        memfd = ""
    except (AttributeError, OSError) as error:
        memfd = str(error)
    say(python=platform.python_version(), memfd=memfd)


def look_at_torch() -> None:
    import torch

    import numpy  # noqa: F401  the engine needs it, too

    say(torch=torch.__version__, cuda=torch.version.cuda or "")


def start(gpu: int) -> Any:
    """The device of an engine, after all that an engine does before it says that it has started."""
    import torch

    from lockstep import process
    from lockstep.device import choose_device, fix_arithmetic
    from lockstep.fingerprint import fingerprint

    process.fix_thread_counts()
    fix_arithmetic()
    device = choose_device(gpu)
    fingerprint(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    say(device=device.type, device_name=name, gpus=torch.cuda.device_count() if device.type == "cuda" else 0)
    return device


def waited_seconds() -> float:
    """How long this thread has waited for a processor that others had, so that a busy machine does not look slow."""
    try:
        with open("/proc/thread-self/schedstat") as counters:
            return int(counters.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def rate_of(multiply: Callable[[], None]) -> float:
    """Calls a second of one run."""
    count, began, waited = 0, time.perf_counter(), waited_seconds()
    while True:
        multiply()
        count += 1
        seconds = time.perf_counter() - began - (waited_seconds() - waited)
        if seconds >= RUN_SECONDS:
            return count / seconds


def matmul_gflops(device: Any) -> float:
    """Of fp32 matrix products as an engine with one thread makes them: the best of several short runs."""
    import torch

    from lockstep.device import wait_for

    side = SIDE[device.type]
    left, right = (torch.randn(side, side, device=device) for _ in range(2))
    product = torch.empty(side, side, device=device)

    def multiply() -> None:
        torch.mm(left, right, out=product)
        wait_for(device)

    # The first product loads libraries and kernels.
    multiply()
    best, began = 0.0, time.perf_counter()
    for _ in range(RUNS):
        best = max(best, rate_of(multiply))
        if time.perf_counter() - began > MOST_SECONDS:
            break
    return best * 2 * side**3 / 1e9


def device_free_bytes(device: Any) -> int:
    """Memory of the GPU that nobody has; 0 on a processor."""
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="preflight", description="Says how fit the engine is.")
    parser.add_argument("--gpu", type=int, default=0, metavar="NUMBER")
    arguments = parser.parse_args()
    lower_priority()
    look_at_interpreter()
    try:
        look_at_torch()
        device = start(arguments.gpu)
        say(device_free_bytes=device_free_bytes(device))
        say(matmul_gflops=round(matmul_gflops(device), 3))
    except Exception as error:
        say(problem=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    # The process is bound to its parent before anything slow is imported.
    runpy.run_path(str(Path(__file__).parent / "lockstep" / "process.py"))["die_with_parent"]()
    main()
    # Exit handlers of libraries must not keep it alive.
    os._exit(0)
