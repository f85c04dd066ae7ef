"""The engine's main loop: one command in, its events out, one after the other."""

from __future__ import annotations

import argparse
import os
import platform
import time
from typing import Any, Callable, Dict, Optional

import torch

from lockstep import process
from lockstep.apply import apply_step
from lockstep.bucket_writer import Announce
from lockstep.commands import LARGEST_INTEGER, Apply, Compute, Fields, Load, Run
from lockstep.compute import RunReport, compute_run
from lockstep.control import Control, Malformed, parse_line
from lockstep.dataset_digest import dataset_digest
from lockstep.device import DeviceMemory, choose_device, fix_arithmetic
from lockstep.evaluation import evaluate, finish
from lockstep.exchange_vector import ExchangeVector
from lockstep.failures import CommandFailed, engine_error, from_engine
from lockstep.fingerprint import fingerprint
from lockstep.memory import ExchangeMemory
from lockstep.model_file import export_model, model_state
from lockstep.optimizer_state import pack_optimizer
from lockstep.replica import Replica
from lockstep.snapshot import SnapshotMemory, take_snapshot
from lockstep.state import export_state, import_state, state_digest, weights_digest


# Between two signs of life while microbatches are computed.
PROGRESS_SECONDS = 1.0


def known_number(value: Any) -> Optional[int]:
    """The id of a command, to be sent back; None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_INTEGER else None


class Engine:
    """Answers one command at a time. `replica` is None until a load succeeded."""

    def __init__(
        self, control: Control, exchange: ExchangeMemory, state_fd: int, snapshots: SnapshotMemory, device: torch.device
    ) -> None:
        self.control = control
        self.exchange = exchange
        self.state_fd = state_fd
        self.snapshots = snapshots
        self.device = device
        self.device_memory = DeviceMemory(device)
        self.replica: Optional[Replica] = None
        # By where they begin in the exchange memory.
        self.vectors: Dict[int, ExchangeVector] = {}
        self.load_failed = False
        self.answers: Dict[str, Callable[[Any, Fields], None]] = {
            "load": self.load,
            "compute": self.compute,
            "apply": self.apply,
            "digest": self.digest,
            "evaluate": self.evaluate,
            "finish": self.finish,
            "export_model": self.export_model,
            "export_state": self.export_state,
            "import_state": self.import_state,
            "snapshot": self.snapshot,
        }

    def serve(self) -> None:
        """Until the command `stop`, or the daemon closes its end."""
        for line in self.control.lines():
            try:
                command = parse_line(line)
            except Malformed as error:
                self.send_failure(None, engine_error("command", f"malformed command: {error}"))
                continue
            if command.get("command") == "stop":
                return
            self.answer(command)
            process.flush_prints()
            if self.replica is not None and not self.control.has_input():
                self.replica.prefetch.read()

    def answer(self, command: dict) -> None:
        name, number = command.get("command"), known_number(command.get("id"))
        try:
            if not isinstance(name, str) or name not in self.answers:
                raise Malformed(f"unknown command {name!r}")
            if self.load_failed:
                raise engine_error(name, "the load failed; only stop is accepted")
            self.answers[name](number, Fields(command))
        except CommandFailed as failure:
            self.send_failure(number, failure)
        except Malformed as error:
            self.send_failure(number, engine_error("command", f"malformed command: {error}"))
        except Exception as error:
            self.send_failure(number, from_engine(str(name), error))

    def send_failure(self, number: Any, failure: CommandFailed) -> None:
        self.control.send(
            "failed", id=number, phase=failure.phase, kind=failure.kind, message=failure.message, traceback=failure.trace
        )

    def loaded(self) -> Replica:
        if self.replica is None:
            raise engine_error("command", "no task is loaded")
        return self.replica

    def load(self, number: Any, fields: Fields) -> None:
        if self.replica is not None:
            raise engine_error("load", "a task is loaded already; start another engine")
        load = Load.parse(fields)
        # Whatever goes wrong from here on leaves modules imported and memory taken.
        self.load_failed = True
        replica = Replica(load, self.device)
        # What could not be saved is told now, not after the last step.
        model_state(replica.model)
        pack_optimizer(replica.optimizer)
        digest = dataset_digest(replica.samples)
        self.replica, self.load_failed = replica, False
        self.control.send(
            "loaded", id=number, vector_bytes=replica.layout.vector_bytes, bf16_bytes=replica.layout.bf16_bytes,
            parameters=replica.trainable_scalars(), dataset_length=replica.samples.length, dataset_digest=digest,
        )

    def vector(self, replica: Replica, at: int) -> ExchangeVector:
        """The exchange vector at byte `at` of the exchange memory."""
        region = self.exchange.region(at, replica.layout.vector_bytes)
        known = self.vectors.get(at)
        # The memory moves when its file has grown.
        if known is None or known.memory.data_ptr() != region.data_ptr():
            known = self.vectors[at] = ExchangeVector(replica.layout, region)
        return known

    def compute(self, number: Any, fields: Fields) -> None:
        replica, command = self.loaded(), Compute.parse(fields)
        for run in command.runs:
            target = self.vector(replica, run.at)
            report = RunReport()
            announce = self.announcer(number, command.step, run) if replica.load.deterministic else None
            partial = compute_run(replica, command.step, run, target, report, announce, self.progress_teller(number, command.step))
            # The answer to the command is about to follow its last partial.
            send = self.control.send_with_next if run is command.runs[-1] else self.control.send
            send(
                "partial", id=number, step=command.step, lo=run.lo, length=run.length, loss=partial.loss, weight=partial.weight,
                consumed=report.consumed, data_ms=round(report.data_ms, 3), compute_ms=round(report.compute_ms, 3),
            )
        replica.prefetch.expect(command.ahead)
        self.control.send("computed", id=number, step=command.step)

    def announcer(self, number: Any, step: int, run: Run) -> Announce:
        """Says how many buckets of the run's partial are final before all of it is. Only for jobs in which whoever computes
        them computes the same bytes, so that a partial whose engine then fails is still right as far as it was read."""
        return lambda buckets: self.control.send("buckets", id=number, step=step, lo=run.lo, length=run.length, buckets=buckets)

    def progress_teller(self, number: Any, step: int) -> Callable[[], None]:
        """So that an engine that computes for long is not taken for one that hangs."""
        said = time.monotonic()

        def tell() -> None:
            nonlocal said
            if time.monotonic() - said >= PROGRESS_SECONDS:
                said = time.monotonic()
                self.control.send("microbatch", id=number, step=step)

        return tell

    def apply(self, number: Any, fields: Fields) -> None:
        replica, command = self.loaded(), Apply.parse(fields)
        began = time.perf_counter()
        applied = apply_step(replica, command, self.vector(replica, command.at))
        apply_ms = round((time.perf_counter() - began) * 1000, 3)
        self.control.send(
            "applied", id=number, step=command.step, grad_norm=applied.grad_norm, lr=applied.lr, skipped=applied.skipped,
            apply_ms=apply_ms, device_memory=self.device_memory.look(),
        )

    def digest(self, number: Any, fields: Fields) -> None:
        replica = self.loaded()
        self.control.send("digest", id=number, weights=weights_digest(replica), state=state_digest(replica))

    def evaluate(self, number: Any, fields: Fields) -> None:
        self.control.send("evaluated", id=number, metrics=evaluate(self.loaded()))

    def finish(self, number: Any, fields: Fields) -> None:
        finish(self.loaded())
        self.control.send("finished", id=number)

    def export_model(self, number: Any, fields: Fields) -> None:
        count, sha256 = export_model(self.loaded(), fields.text("path"))
        self.control.send("exported", id=number, bytes=count, sha256=sha256)

    def export_state(self, number: Any, fields: Fields) -> None:
        count, sha256 = export_state(self.loaded(), self.state_fd)
        self.control.send("state_exported", id=number, bytes=count, sha256=sha256)

    def import_state(self, number: Any, fields: Fields) -> None:
        replica = self.loaded()
        import_state(replica, self.state_fd, fields.integer("bytes"))
        self.control.send("state_imported", id=number, state=state_digest(replica))

    def snapshot(self, number: Any, fields: Fields) -> None:
        replica = self.loaded()
        began = time.perf_counter()
        count = take_snapshot(replica, self.snapshots)
        self.control.send("snapshot_taken", id=number, bytes=count, copy_ms=round((time.perf_counter() - began) * 1000, 3))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lockstep.engine", description="Answers a worker daemon's commands.")
    for name in ("--control-in", "--control-out", "--exchange", "--state", "--snapshot"):
        parser.add_argument(name, type=int, required=True, metavar="DESCRIPTOR")
    parser.add_argument("--gpu", type=int, default=0, metavar="NUMBER")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    process.keep_from_children(
        arguments.control_in, arguments.control_out, arguments.exchange, arguments.state, arguments.snapshot
    )
    process.make_prints_prompt()
    process.fix_thread_counts()
    control = Control(arguments.control_in, arguments.control_out)
    fix_arithmetic()
    device = choose_device(arguments.gpu)
    control.send(
        "started", pid=os.getpid(), torch=torch.__version__, python=platform.python_version(), device=device.type,
        fingerprint=fingerprint(device),
    )
    try:
        exchange, snapshots = ExchangeMemory(arguments.exchange, device), SnapshotMemory(arguments.snapshot)
        Engine(control, exchange, arguments.state, snapshots, device).serve()
    except BrokenPipeError:
        return 1
    return 0
