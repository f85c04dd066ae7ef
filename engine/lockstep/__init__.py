"""Lockstep's engine package: what a researcher subclasses, and how a finished model is read."""

from lockstep.safetensors import load_model
from lockstep.task import Task

__all__ = ["Task", "load_model"]
