"""What a command can fail with, and how an exception becomes one line that a user can act on."""

from __future__ import annotations

import os
import traceback
from contextlib import contextmanager
from typing import Callable, Iterator, Optional, Union

import torch

PACKAGE_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
MESSAGE_CHARACTERS = 1000
TRACEBACK_CHARACTERS = 64 * 1024
OUT_OF_MEMORY_WORDS = (
    "can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory", "_STATUS_ALLOC_FAILED",
)
# An assertion in a kernel is about the values that it was given; any other error of CUDA is about the device.
DEVICE_WORDS = ("CUDA error:", "CUDNN_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_INTERNAL_ERROR")
DEVICE_ASSERTION_WORDS = "device-side assert triggered"


class CommandFailed(Exception):
    """A command cannot be answered. `kind` is "user", "resource" or "engine"; `phase` names the method or action."""

    def __init__(self, phase: str, kind: str, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.phase = phase
        self.kind = kind
        self.message = one_line(message)
        self.trace = trace


def user_error(phase: str, message: str) -> CommandFailed:
    """The user's code ran, but what it gave is wrong."""
    return CommandFailed(phase, "user", message)


def engine_error(phase: str, message: str) -> CommandFailed:
    """The daemon asked for something impossible, or the machine failed."""
    return CommandFailed(phase, "engine", message)


@contextmanager
def user_code(phase: str, what: Union[str, Callable[[], str], None] = None) -> Iterator[None]:
    """Runs the user's code: whatever it raises, exit() included, becomes a CommandFailed that names `what`."""
    try:
        yield
    except CommandFailed:
        raise
    except BaseException as error:
        name = what() if callable(what) else what or f"{phase}()"
        raise CommandFailed(phase, kind_of(error, "user"), describe(name, error), user_trace(error)) from None


def from_engine(phase: str, error: Exception) -> CommandFailed:
    """An exception that escaped from the engine's own code."""
    # CUDA tells what the user's code did wrong only later.
    kind = kind_of(error, "user" if DEVICE_ASSERTION_WORDS in last_line(error) else "engine")
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return CommandFailed(phase, kind, describe(phase, error), trace[-TRACEBACK_CHARACTERS:])


def kind_of(error: BaseException, otherwise: str) -> str:
    if is_out_of_memory(error):
        return "resource"
    return "engine" if is_failed_device(error) else otherwise


def is_failed_device(error: BaseException) -> bool:
    """Whosever code it came up in: a broken GPU must not end the job as a mistake of the user's would."""
    if not isinstance(error, RuntimeError):
        return False
    text = last_line(error)
    return DEVICE_ASSERTION_WORDS not in text and any(words in text for words in DEVICE_WORDS)


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    if not isinstance(error, (RuntimeError, OSError)):
        return False
    text = last_line(error)
    return any(words in text for words in OUT_OF_MEMORY_WORDS)


def describe(what: str, error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"{what} called exit({error.code!r}); a task must return, not exit"
    return f"{what} raised {last_line(error)}{path_hint(error)}"


def path_hint(error: BaseException) -> str:
    if not isinstance(error, FileNotFoundError) or not isinstance(error.filename, str) or os.path.isabs(error.filename):
        return ""
    return "; a relative path begins at the folder of the job's code: name other data by an absolute path"


def last_line(error: BaseException) -> str:
    # traceback's formatter survives exceptions whose own __str__ raises.
    summary = traceback.TracebackException(type(error), error, None)
    # They would come last. The traceback has them.
    summary.__notes__ = None
    return one_line(list(summary.format_exception_only())[-1])


def one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MESSAGE_CHARACTERS else line[: MESSAGE_CHARACTERS - 3] + "..."


def user_trace(error: BaseException) -> str:
    """The traceback, beginning at the first frame that is not the engine's."""
    frames = error.__traceback__
    while frames is not None and is_engine_frame(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))[-TRACEBACK_CHARACTERS:]


def is_engine_frame(filename: str) -> bool:
    return filename.startswith((PACKAGE_FOLDER, "<frozen importlib")) or filename.endswith(f"{os.sep}contextlib.py")
