"""The exchange vector: gradients, buffer changes and counters of one partial, flat, in fp32."""

from __future__ import annotations

from typing import List, NamedTuple, Sequence

import torch

ALIGNMENT_ELEMENTS = 16


class Span(NamedTuple):
    begin: int
    shape: torch.Size

    @property
    def count(self) -> int:
        return self.shape.numel()


class ExchangeLayout:
    """Where each tensor lies: gradients in reverse order of registration, buffer changes, one counter a parameter.

    Every span begins at a multiple of 16 elements, and so does the end; `gaps` are the indices in between.
    """

    def __init__(self, gradients: Sequence[torch.Size], buffers: Sequence[torch.Size]) -> None:
        self.end = 0
        self.gradients = [self.add(shape) for shape in gradients]
        self.gradient_end = self.end
        self.buffers = [self.add(shape) for shape in buffers]
        self.counters = self.add(torch.Size([len(self.gradients)]))
        self.elements = self.end
        self.gaps = self.find_gaps()

    def add(self, shape: torch.Size) -> Span:
        span = Span(self.end, shape)
        self.end += -(-span.count // ALIGNMENT_ELEMENTS) * ALIGNMENT_ELEMENTS
        return span

    def find_gaps(self) -> torch.Tensor:
        gaps: List[torch.Tensor] = []
        for span in [*self.gradients, *self.buffers, self.counters]:
            used = span.begin + span.count
            gaps.append(torch.arange(used, -(-used // ALIGNMENT_ELEMENTS) * ALIGNMENT_ELEMENTS))
        return torch.cat(gaps)


class ExchangeVector:
    """One flat fp32 tensor of `layout.elements`, and views of its parts."""

    def __init__(self, layout: ExchangeLayout, flat: torch.Tensor) -> None:
        self.layout = layout
        self.flat = flat
        self.gradients = [view(flat, span) for span in layout.gradients]
        self.buffers = [view(flat, span) for span in layout.buffers]
        self.counters = view(flat, layout.counters)

    def clear_gaps(self) -> None:
        if len(self.layout.gaps):
            self.flat[self.layout.gaps.to(self.flat.device)] = 0.0


def view(flat: torch.Tensor, span: Span) -> torch.Tensor:
    return flat[span.begin : span.begin + span.count].view(span.shape)


class VectorPool:
    """Scratch vectors of one layout, kept for reuse: the steady state allocates none."""

    def __init__(self, layout: ExchangeLayout, device: torch.device) -> None:
        self.layout = layout
        self.device = device
        self.free: List[ExchangeVector] = []

    def take(self) -> ExchangeVector:
        if self.free:
            return self.free.pop()
        return ExchangeVector(self.layout, torch.zeros(self.layout.elements, dtype=torch.float32, device=self.device))

    def give_back(self, vector: ExchangeVector) -> None:
        self.free.append(vector)
