"""The fingerprint: a hash of a small fixed training step. Engines that differ in it would compute different bits."""

from __future__ import annotations

import hashlib

import torch
from torch.nn import functional

from lockstep.device import computes_in_bfloat16
from lockstep.tensor_bytes import tensor_bytes


def fingerprint(device: torch.device) -> str:
    """sha256 over the PyTorch version, the kind of device, and what the step computed."""
    sha256 = hashlib.sha256(f"{torch.__version__} {device_kind(device)}".encode())
    with torch.enable_grad():
        for tensor in fixed_step(device):
            sha256.update(tensor_bytes(tensor))
    return sha256.hexdigest()


def device_kind(device: torch.device) -> str:
    # The step may happen to use only kernels that two versions of cuDNN share.
    return "cpu" if device.type == "cpu" else f"{torch.cuda.get_device_name(device)} cuDNN {torch.backends.cudnn.version()}"


def fixed_step(device: torch.device) -> list:
    """Layers whose kernels depend on the processor (convolution, matrix product, norms, softmax), in the precisions that it
    has. Sizes are odd, so that vectorised loops and their remainders both run."""
    generator = torch.Generator().manual_seed(0)
    weights = [noise(generator, device, shape) for shape in ((8, 3, 3, 3), (8 * 9 * 9, 129), (129, 65))]
    images = noise(generator, device, (7, 3, 9, 9))
    optimizer = torch.optim.Adam(weights, lr=0.01)
    for narrow in (False, True) if computes_in_bfloat16(device) else (False,):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=narrow):
            hidden = functional.batch_norm(functional.conv2d(images, weights[0], padding=1), None, None, training=True)
            hidden = functional.layer_norm(functional.gelu(hidden.flatten(1) @ weights[1]), (129,))
            loss = functional.cross_entropy((hidden @ weights[2]).float(), torch.arange(7, device=device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return [loss, *weights]


def noise(generator: torch.Generator, device: torch.device, shape: tuple) -> torch.Tensor:
    return (torch.randn(shape, generator=generator) * 0.1).to(device).requires_grad_()
