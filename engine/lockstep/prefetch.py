"""Reading a microbatch, also before it is asked for: while the engine waits for a reduced gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, List, Optional, Sequence

from lockstep.batches import Consumed, make_batch
from lockstep.commands import Ahead
from lockstep.seeding import GeneratorStates, seed_microbatch

if TYPE_CHECKING:
    from lockstep.replica import Replica


@dataclass
class Microbatch:
    """What the user's loss() is given, on the device, and the hash of the ids that were read."""

    batch: Any
    consumed: str


def read_microbatch(replica: "Replica", step: int, number: int, ids: Sequence[int]) -> Microbatch:
    """Microbatch `number` of the step, with at least one sample. The generators are left as reading it leaves them."""
    consumed = Consumed()
    seed_microbatch(replica.load.seed, step, number)
    batch = make_batch(replica.task.collate, replica.samples.read(ids, consumed), replica.device)
    return Microbatch(batch, consumed.text())


class Prefetch:
    """Holds at most one microbatch. Whoever takes it finds the generators as if it had been read just now, so nothing that is
    computed depends on whether it was."""

    def __init__(self, replica: "Replica") -> None:
        self.replica = replica
        self.expected: Optional[Ahead] = None
        self.held: Optional[Microbatch] = None
        self.generators: Optional[GeneratorStates] = None

    def expect(self, ahead: Optional[Ahead]) -> None:
        """What will probably be computed next. Forgets what was expected before."""
        self.forget()
        if ahead is not None and ahead.samples:
            self.expected = ahead

    def forget(self) -> None:
        """For whatever lets the user's code touch the data set."""
        self.expected = self.held = self.generators = None

    def read(self) -> None:
        """Reads what is expected, if it has not been. An error is told when the microbatch is asked for and read again."""
        if self.expected is None or self.held is not None:
            return
        step, number, ids = self.expected.step, self.expected.microbatch, self.expected.samples
        try:
            self.held = read_microbatch(self.replica, step, number, ids)
        except Exception:
            # The device's memory may be full, too, and not be so when the microbatch is computed.
            self.forget()
            return
        self.generators = GeneratorStates.now()

    def take(self, step: int, number: int, ids: List[int]) -> Microbatch:
        """The microbatch, read before or now."""
        held, generators = self.held, self.generators
        hit = held is not None and self.expected == Ahead(step, number, ids)
        if self.expected is not None and self.expected.step <= step:
            self.forget()
        if not hit:
            return read_microbatch(self.replica, step, number, ids)
        generators.restore()
        return held
