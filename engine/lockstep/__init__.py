"""Lockstep's engine package: what a researcher subclasses, and how models and checkpoints are read."""

from lockstep.checkpoint import load_checkpoint
from lockstep.safetensors import load_model
from lockstep.task import Task

__all__ = ["Task", "load_checkpoint", "load_model"]
