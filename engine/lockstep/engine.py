"""The engine's entry: answers a worker daemon's commands about one PyTorch model. See docs/engine_protocol.md.

    python3 -m lockstep.engine --control-in 3 --control-out 4 --exchange 5 --state 6 --snapshot 7
"""

from __future__ import annotations

import os

from lockstep import process

if __name__ == "__main__":
    # The process is bound to its parent before anything slow is imported.
    process.die_with_parent()
    from lockstep.server import main

    status = main()
    process.flush_prints()
    # The user's threads and exit handlers must not keep a stopped engine alive.
    os._exit(status)
