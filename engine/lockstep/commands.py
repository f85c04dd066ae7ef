"""The commands of the engine protocol as checked, typed values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Tuple

from lockstep.control import Malformed

LARGEST_INTEGER = 2**53 - 1
PAGE_BYTES = 4096


class Fields:
    """Takes the fields of one command by name. Raises Malformed with the field's name."""

    def __init__(self, values: Mapping[str, Any], where: str = "") -> None:
        self.values = values
        self.where = where

    def take(self, name: str) -> Any:
        if name not in self.values:
            raise Malformed(f"{self.where}{name} is missing")
        return self.values[name]

    def integer(self, name: str, low: int = 0, high: int = LARGEST_INTEGER) -> int:
        return checked_integer(self.take(name), self.where + name, low, high)

    def offset(self, name: str) -> int:
        value = self.integer(name)
        if value % PAGE_BYTES:
            raise Malformed(f"{self.where}{name} is {value}, not a multiple of {PAGE_BYTES}")
        return value

    def number(self, name: str) -> float:
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise Malformed(f"{self.where}{name} is not a finite number")
        return float(value)

    def positive(self, name: str) -> float:
        value = self.number(name)
        if value <= 0:
            raise Malformed(f"{self.where}{name} is {value}, not above zero")
        return value

    def text(self, name: str) -> str:
        value = self.take(name)
        if not isinstance(value, str) or "\0" in value:
            raise Malformed(f"{self.where}{name} is not a text without NUL")
        return value

    def choice(self, name: str, choices: Tuple[str, ...]) -> str:
        value = self.take(name)
        if value not in choices:
            raise Malformed(f"{self.where}{name} is not one of {', '.join(choices)}")
        return value

    def boolean(self, name: str) -> bool:
        value = self.take(name)
        if not isinstance(value, bool):
            raise Malformed(f"{self.where}{name} is not true or false")
        return value

    def mapping(self, name: str) -> dict:
        value = self.take(name)
        if not isinstance(value, dict):
            raise Malformed(f"{self.where}{name} is not an object")
        return value

    def list(self, name: str) -> list:
        value = self.take(name)
        if not isinstance(value, list):
            raise Malformed(f"{self.where}{name} is not a list")
        return value


def checked_integer(value: Any, name: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Malformed(f"{name} is not an integer from {low} to {high}")
    return value


@dataclass(frozen=True)
class Load:
    bundle: str
    task: str
    seed: int
    microbatches: int
    precision: str
    exchange: str
    clip_grad_norm: Optional[float]
    on_nonfinite: str
    deterministic: bool
    params: dict
    init_from: Optional[str]

    @staticmethod
    def parse(fields: Fields) -> "Load":
        return Load(
            bundle=fields.text("bundle"),
            task=fields.text("task"),
            seed=fields.integer("seed"),
            microbatches=fields.integer("microbatches", low=1),
            precision=fields.choice("precision", ("fp32", "bf16")),
            exchange=fields.choice("exchange", ("fp32", "bf16")),
            clip_grad_norm=None if fields.take("clip_grad_norm") is None else fields.positive("clip_grad_norm"),
            on_nonfinite=fields.choice("on_nonfinite", ("skip", "fail")),
            deterministic=fields.boolean("deterministic"),
            params=fields.mapping("params"),
            init_from=None if fields.take("init_from") is None else fields.text("init_from"),
        )


@dataclass(frozen=True)
class Ahead:
    """A microbatch that will probably be computed later. It may be read while there is nothing else to do."""

    step: int
    microbatch: int
    samples: List[int]

    @staticmethod
    def parse(fields: Fields) -> "Ahead":
        return Ahead(fields.integer("step"), fields.integer("microbatch"), checked_samples(fields.list("samples"), f"{fields.where}samples"))


def checked_samples(ids: Any, name: str) -> List[int]:
    if not isinstance(ids, list):
        raise Malformed(f"{name} holds something that is not a list")
    # There are hundreds in every step, so whether any is wrong is seen without a loop in Python.
    if ids and (set(map(type, ids)) != {int} or min(ids) < 0 or max(ids) > LARGEST_INTEGER):
        for sample in ids:
            checked_integer(sample, f"{name}: an id", 0, LARGEST_INTEGER)
    return ids


@dataclass(frozen=True)
class Run:
    """Microbatches lo..lo+length-1, and where in the exchange memory the sum of their gradients goes."""

    lo: int
    length: int
    at: int
    samples: List[List[int]]

    @staticmethod
    def parse(fields: Fields) -> "Run":
        length = fields.integer("length", low=1)
        samples = fields.list("samples")
        if len(samples) != length:
            raise Malformed(f"{fields.where}samples has {len(samples)} lists for {length} microbatches")
        for ids in samples:
            checked_samples(ids, f"{fields.where}samples")
        return Run(lo=fields.integer("lo"), length=length, at=fields.offset("at"), samples=samples)


@dataclass(frozen=True)
class Compute:
    step: int
    runs: List[Run]
    ahead: Optional[Ahead]

    @staticmethod
    def parse(fields: Fields) -> "Compute":
        runs = []
        for index, run in enumerate(fields.list("runs")):
            if not isinstance(run, dict):
                raise Malformed(f"runs[{index}] is not an object")
            runs.append(Run.parse(Fields(run, f"runs[{index}].")))
        ahead = fields.take("ahead")
        if ahead is not None and not isinstance(ahead, dict):
            raise Malformed("ahead is not an object")
        return Compute(fields.integer("step"), runs, None if ahead is None else Ahead.parse(Fields(ahead, "ahead.")))


@dataclass(frozen=True)
class Apply:
    step: int
    at: int
    weight: float
    filled: int

    @staticmethod
    def parse(fields: Fields) -> "Apply":
        return Apply(fields.integer("step"), fields.offset("at"), fields.positive("weight"), fields.integer("filled", low=1))
