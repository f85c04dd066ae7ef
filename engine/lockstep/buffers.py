"""The model's buffers (batch-norm statistics and the like): every microbatch starts from the step's values."""

from __future__ import annotations

from typing import Dict, List, Optional

import torch

from lockstep.failures import user_error
from lockstep.safetensors import TYPE_NAMES


class BufferSlot:
    """One buffer of one module. `start` is a copy of its value at the start of the step, if it is exchanged."""

    def __init__(self, module: torch.nn.Module, key: str, name: str, exchanged: bool) -> None:
        self.module = module
        self.key = key
        self.name = name
        self.exchanged = exchanged
        self.tensor: torch.Tensor = module._buffers[key]
        self.start = self.tensor.detach().clone() if exchanged else None
        self.version = self.tensor._version
        self.holds_nonfinite = False
        self.look()

    def look(self) -> None:
        """Whether the start of the step has values that cannot be subtracted. Adding finite changes makes none."""
        self.holds_nonfinite = self.exchanged and not bool(torch.isfinite(self.start).all())

    def current(self) -> Optional[torch.Tensor]:
        return self.module._buffers.get(self.key)


class Buffers:
    """All buffers of a model, shared ones once. The exchanged ones are those in its state_dict that are not boolean."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.slots = find_slots(model)
        self.exchanged = [slot for slot in self.slots if slot.exchanged]
        self.fixed = [slot for slot in self.slots if not slot.exchanged]
        for slot in self.exchanged:
            if slot.tensor.dtype not in TYPE_NAMES:
                raise user_error("model", f"buffer {slot.name} is {slot.tensor.dtype}, which can be neither exchanged nor saved")

    def persistent(self) -> List[BufferSlot]:
        """Those that are part of the training state: all in the state_dict, boolean ones too."""
        return [slot for slot in self.slots if slot.key not in slot.module._non_persistent_buffers_set]

    def shapes(self) -> List[torch.Size]:
        return [slot.tensor.shape for slot in self.exchanged]

    @torch.no_grad()
    def reset(self) -> None:
        """Gives every exchanged buffer its value of the start of the step."""
        for slot in self.exchanged:
            # The forward pass may have put another tensor in the buffer's place; ours goes back.
            slot.module._buffers[slot.key] = slot.tensor
            slot.tensor.copy_(slot.start)

    @torch.no_grad()
    def write_changes(self, views: List[torch.Tensor]) -> None:
        """Writes value minus start of each exchanged buffer, as fp32, to its view."""
        for slot, view in zip(self.exchanged, views):
            now = slot.current()
            if now is None or now.shape != slot.start.shape or now.dtype != slot.start.dtype:
                raise user_error("loss", f"loss() changed the shape or type of buffer {slot.name}")
            if now.dtype is torch.float32:
                torch.sub(now.detach(), slot.start, out=view)
            elif now.is_floating_point():
                # The difference is taken in the buffer's own type (doubles) so that no digit is lost first.
                view.copy_(now.detach() - slot.start)
            else:
                # A narrow type may not hold the difference: uint8 has no negative numbers.
                view.copy_(now.to(torch.int64) - slot.start.to(torch.int64))
            if slot.holds_nonfinite:
                # A mask of infinities, say: what is as it was has not changed, though it cannot be subtracted.
                view.masked_fill_(same_values(now.detach(), slot.start), 0.0)

    @torch.no_grad()
    def advance(self, sums: List[torch.Tensor], filled: int) -> None:
        """The next step starts from start + (sum of changes) / filled; integers from the rounded average."""
        for slot, total in zip(self.exchanged, sums):
            average = total / filled
            slot.start.add_(average.to(slot.start.dtype) if slot.start.is_floating_point() else average.round().to(torch.int64))
        self.reset()

    def accept(self) -> None:
        """Takes the buffers' present values as the start of the step (after a state was imported)."""
        for slot in self.exchanged:
            slot.start.copy_(slot.tensor)
            slot.look()
        for slot in self.fixed:
            slot.version = slot.tensor._version

    def check_fixed(self, phase: str) -> None:
        """Raises CommandFailed (user) for a buffer outside the exchange that changed, or one that came or went."""
        for slot in self.fixed:
            now = slot.current()
            if now is not slot.tensor or now._version != slot.version:
                raise user_error(
                    phase, f"{phase}() changed buffer {slot.name}, which is not exchanged (boolean or persistent=False); "
                    "make it persistent and not boolean, or do not change it"
                )

    def check_set(self, phase: str) -> None:
        now = sum(1 for _ in self.model.buffers())
        if now != len(self.slots):
            raise user_error(phase, f"{phase}() changed the number of the model's buffers from {len(self.slots)} to {now}")


def separate_elements(model: torch.nn.Module) -> None:
    """Gives every element of an expanded buffer a place of its own: nothing could be written to it otherwise."""
    separated: Dict[int, torch.Tensor] = {}
    for module in model.modules():
        for key, tensor in module._buffers.items():
            if tensor is not None and is_expanded(tensor):
                module._buffers[key] = separated.setdefault(id(tensor), tensor.detach().clone(memory_format=torch.contiguous_format))


def is_expanded(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and any(size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride()))


def same_values(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Element by element; NaN is the same as NaN."""
    return (left == right) | (torch.isnan(left) & torch.isnan(right))


def find_slots(model: torch.nn.Module) -> List[BufferSlot]:
    slots, seen = [], set()
    for prefix, module in model.named_modules():
        for key, tensor in module._buffers.items():
            if tensor is None or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            exchanged = key not in module._non_persistent_buffers_set and tensor.dtype is not torch.bool
            slots.append(BufferSlot(module, key, f"{prefix}.{key}" if prefix else key, exchanged))
    return slots
