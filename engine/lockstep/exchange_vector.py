"""The exchange vector: gradients, buffer changes and counters of one partial, in one run of bytes."""

from __future__ import annotations

from typing import List, NamedTuple, Sequence

import torch

ALIGNMENT_ELEMENTS = 16
ALIGNMENT_BYTES = 64


class Span(NamedTuple):
    """Where a tensor lies: elements from the beginning of its part."""

    begin: int
    shape: torch.Size

    @property
    def count(self) -> int:
        return self.shape.numel()


class Part:
    """Tensors of one type in a row. Each begins at a multiple of 16 elements; the whole is a multiple of 64 bytes long.

    `gaps` are the indices of the elements that belong to no tensor.
    """

    def __init__(self, dtype: torch.dtype, shapes: Sequence[torch.Size]) -> None:
        self.dtype = dtype
        self.element_bytes = torch.empty(0, dtype=dtype).element_size()
        self.spans: List[Span] = []
        end = 0
        for shape in shapes:
            self.spans.append(Span(end, shape))
            end = rounded_up(end + shape.numel(), ALIGNMENT_ELEMENTS)
        self.elements = rounded_up(end, ALIGNMENT_BYTES // self.element_bytes)
        self.bytes = self.elements * self.element_bytes
        self.gaps = self.find_gaps()

    def find_gaps(self) -> torch.Tensor:
        begins = [span.begin for span in self.spans[1:]] + [self.elements]
        gaps = [torch.arange(span.begin + span.count, begin) for span, begin in zip(self.spans, begins)]
        return torch.cat(gaps) if gaps else torch.arange(0)

    def views(self, flat: torch.Tensor) -> List[torch.Tensor]:
        return [flat[span.begin : span.begin + span.count].view(span.shape) for span in self.spans]


def rounded_up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


class ExchangeLayout:
    """First the gradients in reverse order of registration, in `gradient_type`; then, in fp32, the buffer changes and one
    counter a parameter."""

    def __init__(self, gradients: Sequence[torch.Size], buffers: Sequence[torch.Size], gradient_type: torch.dtype) -> None:
        self.gradients = Part(gradient_type, gradients)
        self.rest = Part(torch.float32, [*buffers, torch.Size([len(gradients)])])
        self.vector_bytes = self.gradients.bytes + self.rest.bytes
        self.bf16_bytes = self.gradients.bytes if gradient_type is torch.bfloat16 else 0


class ExchangeVector:
    """`memory` is layout.vector_bytes of uint8; the other attributes are views of it."""

    def __init__(self, layout: ExchangeLayout, memory: torch.Tensor) -> None:
        self.layout = layout
        self.memory = memory
        self.gradient_part = memory[: layout.gradients.bytes].view(layout.gradients.dtype)
        self.rest = memory[layout.gradients.bytes :].view(layout.rest.dtype)
        self.gradients = layout.gradients.views(self.gradient_part)
        *self.buffers, self.counters = layout.rest.views(self.rest)

    def add(self, right: "ExchangeVector") -> None:
        """Adds element by element. bfloat16 elements are added as floats, and the sum is rounded to nearest, ties to even."""
        self.gradient_part.add_(right.gradient_part)
        self.rest.add_(right.rest)

    def copy_values(self, other: "ExchangeVector") -> None:
        """Takes the values of a vector of the same model, whose gradients may be of another type."""
        count = min(len(self.gradient_part), len(other.gradient_part))
        self.gradient_part[:count].copy_(other.gradient_part[:count])
        self.rest.copy_(other.rest)

    def clear_gaps(self) -> None:
        for part, flat in ((self.layout.gradients, self.gradient_part), (self.layout.rest, self.rest)):
            if len(part.gaps):
                flat[part.gaps.to(flat.device)] = 0.0


class VectorPool:
    """Scratch vectors of one layout, kept for reuse: the steady state allocates none."""

    def __init__(self, layout: ExchangeLayout, device: torch.device) -> None:
        self.layout = layout
        self.device = device
        self.free: List[ExchangeVector] = []

    def take(self) -> ExchangeVector:
        if self.free:
            return self.free.pop()
        return ExchangeVector(self.layout, torch.zeros(self.layout.vector_bytes, dtype=torch.uint8, device=self.device))

    def give_back(self, vector: ExchangeVector) -> None:
        self.free.append(vector)
