"""An interpreter on a processor that is throttled: it gets a twentieth of the time once it has imported PyTorch.

    python3 throttled_python.py /usr/bin/python3 ARGUMENTS...

What it runs is the real interpreter, stopped and continued as cpulimit does. Importing is left alone, so that tests do not take minutes.
"""

import os
import runpy
import signal
import sys
import time
from pathlib import Path

PERIOD, SHARE = 0.06, 0.05

real, arguments = sys.argv[1], sys.argv[2:]
process = Path(__file__).resolve().parents[2] / "engine" / "lockstep" / "process.py"
runpy.run_path(str(process))["die_with_parent"]()
child = os.fork()
if child == 0:
    os.execv(real, [real, *arguments])


def has_imported() -> bool:
    try:
        return "libtorch_cpu" in Path(f"/proc/{child}/maps").read_text()
    except OSError:
        return False


def wait(seconds: float) -> None:
    """Until then, or until the interpreter has ended, whose exit status is then that of this process."""
    time.sleep(seconds)
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended != 0:
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


while not has_imported():
    wait(0.02)
while True:
    os.kill(child, signal.SIGSTOP)
    wait(PERIOD * (1 - SHARE))
    os.kill(child, signal.SIGCONT)
    wait(PERIOD * SHARE)
