"""Finds and imports the user's task class without leaving the job's bundle."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from types import ModuleType
from typing import Type

from lockstep.failures import user_code, user_error
from lockstep.task import Task

REQUIRED_METHODS = ("model", "dataset", "loss", "optimizer")
CLASS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


def load_task_class(bundle: str, task: str) -> Type[Task]:
    """Imports `task` ("file.py:Class") from the folder `bundle`. Raises CommandFailed (user, phase "import")."""
    file, separator, name = task.rpartition(":")
    if not separator or not CLASS_NAME.fullmatch(name):
        raise user_error("import", f"task is {task!r}; it must read file.py:Class")
    module = import_file(bundle, file)
    return checked_class(module, file, name)


def file_in_bundle(bundle: str, file: str) -> str:
    """The real path of `file`, which must be a regular file inside `bundle`, links followed."""
    if not os.path.isdir(bundle):
        raise user_error("import", f"the bundle {bundle!r} is not a folder")
    if not file.endswith(".py") or os.path.isabs(file) or ".." in file.split("/") or "\0" in file or "\\" in file:
        raise user_error("import", f"task file {file!r} must be a relative path to a .py file inside the bundle, without '..'")
    root = os.path.realpath(bundle)
    path = os.path.realpath(os.path.join(root, file))
    if os.path.commonpath([root, path]) != root:
        raise user_error("import", f"task file {file!r} is a link that leads out of the bundle")
    if not os.path.isfile(path):
        raise user_error("import", f"task file {file!r} is not a file in the bundle")
    return path


def import_file(bundle: str, file: str) -> ModuleType:
    path = file_in_bundle(bundle, file)
    # The bundle stays as the user sent it, and a stale cache can never be run instead.
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.path.dirname(path))
    sys.argv = [path]
    stem = os.path.basename(path)[: -len(".py")]
    name = stem if stem not in sys.modules else f"task_{stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with user_code("import", f"importing {file}"):
        spec.loader.exec_module(module)
    return module


def checked_class(module: ModuleType, file: str, name: str) -> Type[Task]:
    found = getattr(module, name, None)
    if found is None:
        raise user_error("import", f"{file} has no class {name}")
    if not isinstance(found, type) or not issubclass(found, Task):
        raise user_error("import", f"{name} in {file} is not a subclass of lockstep.Task")
    for method in REQUIRED_METHODS:
        if getattr(found, method) is getattr(Task, method):
            raise user_error("import", f"class {name} in {file} does not define {method}()")
    return found
