"""The model's parameters: which take part in the exchange, and the check that only the optimizer changes them."""

from __future__ import annotations

from typing import List, NamedTuple, Tuple

import torch

from lockstep.failures import engine_error, user_error
from lockstep.safetensors import TYPE_NAMES

EXCHANGED_TYPES = (torch.float32, torch.float16, torch.bfloat16)


class NamedParameter(NamedTuple):
    name: str
    parameter: torch.nn.Parameter


def all_parameters(model: torch.nn.Module) -> List[NamedParameter]:
    """Every parameter once, shared ones under their first name, in order of registration."""
    return [NamedParameter(name, parameter) for name, parameter in model.named_parameters()]


def check_parameters(named: List[NamedParameter]) -> None:
    """Raises CommandFailed (user) for what the exchange or a file cannot carry."""
    for name, parameter in named:
        if isinstance(parameter, torch.nn.UninitializedParameter):
            raise user_error("model", f"parameter {name} is lazy and has no shape yet; run the model once in model()")
        if parameter.requires_grad and parameter.dtype not in EXCHANGED_TYPES:
            raise user_error(
                "model", f"parameter {name} is {parameter.dtype}; gradients are exchanged as float32, so use float32 or narrower"
            )
        if parameter.dtype not in TYPE_NAMES:
            raise user_error("model", f"parameter {name} is {parameter.dtype}, which cannot be saved")
    if not named:
        raise user_error("model", "model() returned a module without parameters")
    if not any(parameter.requires_grad for _, parameter in named):
        raise user_error("model", "model() returned a module in which no parameter requires a gradient")


class ParameterGuard:
    """Notices parameters that were added, removed, replaced, reshaped or changed outside the optimizer's step.

    A change through `.data` that keeps the storage leaves no trace in PyTorch and is not seen.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.named = all_parameters(model)
        self.states: List[Tuple[int, int]] = []
        self.accept()

    def accept(self) -> None:
        """What the parameters are now is what they must be at the next check."""
        self.states = [(parameter._version, parameter.data_ptr()) for _, parameter in self.named]

    def check_values(self, phase: str) -> None:
        """Raises CommandFailed (user) that names the parameter."""
        for (name, parameter), (version, pointer) in zip(self.named, self.states):
            if parameter._version != version or parameter.data_ptr() != pointer:
                raise user_error(phase, f"{phase}() changed parameter {name}; only the optimizer may change parameters")

    def check_set(self, phase: str) -> None:
        """Raises CommandFailed (user) that names the parameter that came, went or is another one."""
        now = dict(self.model.named_parameters())
        for name, parameter in self.named:
            if now.pop(name, None) is not parameter:
                raise user_error(phase, f"{phase}() removed or replaced parameter {name}; the set of parameters is fixed once loaded")
        if now:
            raise user_error(phase, f"{phase}() added parameter {next(iter(now))}; the set of parameters is fixed once loaded")


class TrainableSet:
    """The parameters that require a gradient, in the exchange's order: reversed registration."""

    def __init__(self, named: List[NamedParameter]) -> None:
        self.named = [entry for entry in reversed(named) if entry.parameter.requires_grad]
        self.parameters = [entry.parameter for entry in self.named]
        self.shapes = [parameter.shape for parameter in self.parameters]
        self.frozen = [entry for entry in named if not entry.parameter.requires_grad]

    def check(self, phase: str) -> None:
        for (name, parameter), shape in zip(self.named, self.shapes):
            if not parameter.requires_grad:
                raise user_error(phase, f"parameter {name} was frozen after the model was loaded; freeze it in model()")
            if parameter.shape != shape:
                raise user_error(phase, f"parameter {name} changed its shape from {tuple(shape)} to {tuple(parameter.shape)}")
        for name, parameter in self.frozen:
            # Its gradient would be this worker's own.
            if parameter.requires_grad:
                raise user_error(phase, f"{phase}() made parameter {name} require a gradient; which parameters do is fixed once loaded")

    def clear_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def write_gradient(self, place: int, view: torch.Tensor) -> None:
        """Copies the gradient of a parameter (of its shape, any float type) to `view`, rounded to the view's type; zeros if
        there is none."""
        name, parameter = self.named[place]
        gradient = parameter.grad
        if gradient is None:
            view.zero_()
        elif gradient.layout is not torch.strided:
            raise user_error("loss", f"the gradient of parameter {name} is sparse; build the layer with sparse=False")
        else:
            view.copy_(gradient)

    def write_counters(self, counters: torch.Tensor) -> None:
        """One for each parameter that received a gradient, else zero."""
        counters.copy_(torch.tensor([0.0 if parameter.grad is None else 1.0 for parameter in self.parameters]))

    def read_gradients(self, views: List[torch.Tensor], counters: List[float], copy: bool) -> None:
        """Sets each `grad` from its view, or from a copy of it; a parameter that no microbatch reached keeps None, as in plain
        PyTorch."""
        if len(views) != len(self.parameters):
            raise engine_error("apply", "the exchange vector belongs to another model")
        for parameter, view, counter in zip(self.parameters, views, counters):
            parameter.grad = view.to(parameter.dtype, copy=copy) if counter > 0 else None
