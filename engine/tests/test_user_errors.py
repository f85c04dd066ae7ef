"""Every mistake that user code can make gets its own line, its phase and its kind."""

import os
import tempfile
import textwrap
import unittest
from pathlib import Path

import torch
from engine_driver import EngineDriver, Failed
from engine_path import BUNDLE

from lockstep.commands import Load
from lockstep.dataset_digest import dataset_digest
from lockstep.failures import CommandFailed
from lockstep.model_file import model_state
from lockstep.optimizer_state import pack_optimizer
from lockstep.replica import Replica

GOOD = """
import torch
from torch import nn
import lockstep

class T(lockstep.Task):
    def model(self): return nn.Linear(2, 1)
    def dataset(self): return [1, 2, 3]
    def loss(self, model, batch): return model(torch.ones(2)).sum()
    def optimizer(self, model): return torch.optim.SGD(model.parameters(), lr=0.1)
"""
LAZY_OPTIMIZER = """
    def optimizer(self, model):
        class Keeper(torch.optim.SGD):
            pass
        optimizer = Keeper(model.parameters(), lr=0.1)
        optimizer.param_groups[0]["callback"] = print
        return optimizer
"""
EXTRA_STATE = """
    def model(self):
        class Extra(nn.Linear):
            def get_extra_state(self): return {"seen": 1}
        return Extra(2, 1)
"""
CLOSURE = """
    def optimizer(self, model):
        class Closing(torch.optim.Optimizer):
            def step(self, closure): closure()
        return Closing(model.parameters(), {})
"""

# What is appended to GOOD's class -> (phase, kind, words of the message).
BAD_TASKS = {
    "def model(self): raise ValueError('no\\nmodel')": ("model", "user", r"model\(\) raised ValueError: no model$"),
    "def model(self): return None": ("model", "user", "NoneType, not a torch.nn.Module"),
    "def model(self): return nn.ReLU()": ("model", "user", "without parameters"),
    "def model(self): return nn.Linear(1, 1).requires_grad_(False)": ("model", "user", "no parameter requires a gradient"),
    "def model(self): return nn.Linear(1, 1).double()": ("model", "user", "weight is torch.float64"),
    "def model(self): return nn.LazyLinear(3)": ("model", "user", "weight is lazy"),
    "def model(self): raise MemoryError": ("model", "resource", r"model\(\) raised MemoryError"),
    "def model(self): return nn.Linear(2**40, 2**10)": ("model", "resource", "memory"),
    "def model(self): m = nn.Linear(2, 1); m.register_buffer('b', torch.zeros(2, dtype=torch.cfloat)); return m": ("model", "user", "buffer b is torch.complex64"),
    "def model(self): m = nn.Linear(2, 1); m.c = nn.Parameter(torch.zeros(2, dtype=torch.cfloat), requires_grad=False); return m": ("model", "user", "parameter c is torch.complex64, which cannot be saved"),
    EXTRA_STATE: ("model", "user", "state_dict has _extra_state, a dict; only tensors can be saved"),
    "def dataset(self): return 5": ("dataset", "user", "int, which has no __len__"),
    "def dataset(self): return {1, 2}": ("dataset", "user", "set, which has no __getitem__"),
    "def dataset(self): return []": ("dataset", "user", "is empty"),
    "def dataset(self): return [object()]": ("dataset", "user", "object, which has no canonical bytes; give the data set a `digest`"),
    "def dataset(self): return open('data/train.txt')": ("dataset", "user", "No such file or directory: 'data/train.txt'; a relative path begins at"),
    "def dataset(self): return open('/nowhere/train.txt')": ("dataset", "user", "No such file or directory: '/nowhere/train.txt'$"),
    "def dataset(self): exit(0)": ("dataset", "user", r"dataset\(\) called exit\(0\)"),
    "def optimizer(self, model): return 'adam'": ("optimizer", "user", "str, not a torch.optim.Optimizer"),
    "def optimizer(self, model): return torch.optim.SGD([nn.Parameter(torch.ones(4))], lr=1.0)": ("optimizer", "user", r"shape \(4,\) in group 0"),
    "def optimizer(self, model): return torch.optim.SGD([], lr=1.0)": ("optimizer", "user", "empty parameter list"),
    "def optimizer(self, model): return torch.optim.LBFGS(model.parameters())": ("optimizer", "user", "LBFGS .*closure"),
    "def __init__(self): raise KeyboardInterrupt": ("import", "user", r"T.__init__\(\) raised KeyboardInterrupt"),
    "def __init__(self): self.params['absent']": ("import", "user", "KeyError: 'absent'"),
    CLOSURE: ("optimizer", "user", "Closing .*closure"),
    LAZY_OPTIMIZER: ("optimizer", "user", "callback is a builtin_function_or_method, which cannot be saved"),
}


def load(bundle, task, **overrides):
    options = dict(
        seed=1, microbatches=1, precision="fp32", exchange="fp32", clip_grad_norm=None, on_nonfinite="fail", deterministic=True, params={},
        init_from=None
    )
    replica = Replica(Load(bundle=bundle, task=task, **{**options, **overrides}), torch.device("cpu"))
    model_state(replica.model)
    pack_optimizer(replica.optimizer)
    dataset_digest(replica.samples)


class LoadErrorTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.bundle = self.folder / "bundle"
        self.bundle.mkdir()
        self.count = 0

    def write(self, source):
        # A name of its own for each, because Python keeps what it imported.
        self.count += 1
        name = f"task_{id(self)}_{self.count}.py"
        (self.bundle / name).write_text(source)
        return name

    def check(self, task, phase, kind, words):
        with self.assertRaisesRegex(CommandFailed, words) as caught:
            load(str(self.bundle), task)
        failure = caught.exception
        self.assertEqual((failure.phase, failure.kind), (phase, kind))
        self.assertNotIn("\n", failure.message)
        self.assertNotIn("lockstep/", failure.trace)
        return failure

    def test_the_good_task_loads(self):
        load(str(self.bundle), self.write(GOOD) + ":T")

    def test_each_method(self):
        for extra, (phase, kind, words) in BAD_TASKS.items():
            with self.subTest(extra):
                self.check(self.write(GOOD + "\n" + textwrap.indent(textwrap.dedent(extra), "    ")) + ":T", phase, kind, words)

    def test_missing_methods(self):
        for method in ("model", "dataset", "loss", "optimizer"):
            lines = [line for line in GOOD.splitlines() if f"def {method}(" not in line]
            self.check(self.write("\n".join(lines)) + ":T", "import", "user", rf"class T in .* does not define {method}\(\)")

    def test_imports(self):
        self.check(self.write("import absent_module") + ":T", "import", "user", "No module named 'absent_module'")
        failure = self.check(self.write("x = 1\ndef broken(:\n") + ":T", "import", "user", "SyntaxError")
        self.assertIn("line 2", failure.trace)
        self.check(self.write("raise SystemExit(4)") + ":T", "import", "user", r"called exit\(4\)")
        self.check(self.write(GOOD) + ":Absent", "import", "user", "has no class Absent")
        self.check(self.write(GOOD) + ":torch", "import", "user", "not a subclass of lockstep.Task")
        self.check(self.write("class T: pass") + ":T", "import", "user", "not a subclass of lockstep.Task")

    def test_paths(self):
        outside = self.folder / "outside.py"
        outside.write_text("raise AssertionError('this must never run')")
        (self.bundle / "link.py").symlink_to(outside)
        (self.bundle / "folder").symlink_to(self.folder)
        (self.bundle / "directory.py").mkdir()
        os.mkfifo(self.bundle / "fifo.py")
        for file, words in {
            "../outside.py": "without '..'",
            "a/../../outside.py": "without '..'",
            str(outside): "relative path",
            "outside.txt": "relative path",
            "": "relative path",
            "link.py": "leads out of the bundle",
            "folder/outside.py": "leads out of the bundle",
            "directory.py": "not a file",
            "fifo.py": "not a file",
            "absent.py": "not a file",
            "tаsk.py": "not a file",
            "$(reboot).py": "not a file",
        }.items():
            with self.subTest(file):
                self.check(f"{file}:T", "import", "user", words)
        for task in ("task.py", "task.py:", "task.py:a-b", "task.py:T;rm", "task.py:__import__('os')", "", ":" * 9):
            with self.subTest(task):
                self.check(task, "import", "user", "file.py:Class|relative path")
        with self.assertRaisesRegex(CommandFailed, "is not a folder"):
            load(str(self.folder / "none"), "task.py:T")

    def test_a_link_inside_the_bundle_is_followed(self):
        (self.bundle / f"inner_{id(self)}.py").symlink_to(self.bundle / self.write(GOOD))
        load(str(self.bundle), f"inner_{id(self)}.py:T")

    def test_the_bundle_is_left_as_it_was(self):
        load(str(self.bundle), self.write(GOOD) + ":T")
        self.assertEqual(len(list(self.bundle.iterdir())), 1)


# params["how"] of the task Evil -> (command, phase, kind, words of the message).
EVIL = {
    "raise": ("compute", "loss", "user", r"^loss\(\) raised KeyError: 'from loss'$"),
    "note": ("compute", "loss", "user", r"^loss\(\) raised ValueError: itself$"),
    "exit": ("compute", "loss", "user", r"loss\(\) called exit\(3\)"),
    "interrupt": ("compute", "loss", "user", "KeyboardInterrupt"),
    "memory": ("compute", "loss", "resource", "MemoryError: no room"),
    "vector": ("compute", "loss", "user", r"shape \(2,\), not a single number"),
    "float": ("compute", "loss", "user", "is a float, not a tensor"),
    "no_grad": ("compute", "loss", "user", "no gradient"),
    "integer": ("compute", "loss", "user", "torch.int64, not a floating-point number"),
    "three": ("compute", "loss", "user", "returned 3 values"),
    "nan_weight": ("compute", "loss", "user", "weight .* is nan"),
    "huge_weight": ("compute", "loss", "user", "weight .* is inf"),
    "zero_weight": ("compute", "loss", "user", "weight .* is 0.0"),
    "text_weight": ("compute", "loss", "user", "weight .* is a str|weight .* str, not a number"),
    "backward": ("compute", "loss", "user", r"backward pass of loss\(\) raised ValueError: in backward"),
    "collate": ("compute", "collate", "user", "cannot stack"),
    "writes_parameter": ("compute", "loss", "user", r"loss\(\) changed parameter 0.weight"),
    "adds_parameter": ("compute", "loss", "user", "added parameter extra"),
    "replaces_parameter": ("compute", "loss", "user", "removed or replaced parameter 0.weight"),
    "freezes": ("compute", "loss", "user", "parameter 0.weight was frozen"),
    "unfreezes": ("compute", "loss", "user", r"loss\(\) made parameter still require a gradient"),
    "writes_buffer": ("compute", "loss", "user", "changed buffer flag"),
    "lr_nan": ("apply", "lr", "user", r"lr\(0\) returned nan"),
    "lr_huge": ("apply", "lr", "user", r"lr\(0\) returned inf"),
    "lr_text": ("apply", "lr", "user", "returned a str"),
    "evaluate_writes": ("evaluate", "evaluate", "user", "changed parameter 2.bias"),
    "evaluate_list": ("evaluate", "evaluate", "user", "list, not a dict"),
    "evaluate_nan": ("evaluate", "evaluate", "user", "accuracy = nan"),
    "evaluate_huge": ("evaluate", "evaluate", "user", "accuracy = inf"),
    "evaluate_text": ("evaluate", "evaluate", "user", "accuracy = a str"),
    "evaluate_key": ("evaluate", "evaluate", "user", "name is 3"),
    "evaluate_many": ("evaluate", "evaluate", "user", "257 metrics; at most 256"),
    "evaluate_long_name": ("evaluate", "evaluate", "user", "129 characters; at most 128"),
}


class RunningErrorTest(unittest.TestCase):
    def run_command(self, driver, command):
        if command == "compute":
            driver.compute(0, [(0, [[1, 2], [3]])])
        elif command == "apply":
            driver.train_step(0, [[1, 2], [3]])
        else:
            driver.ask(command)

    def test_each_mistake_while_running(self):
        for how, (command, phase, kind, words) in EVIL.items():
            with self.subTest(how):
                driver = EngineDriver()
                try:
                    driver.load_class("Evil", params={"how": how})
                    with self.assertRaisesRegex(Failed, "") as caught:
                        self.run_command(driver, command)
                    self.assertRegex(caught.exception.message, words)
                    self.assertEqual((caught.exception.phase, caught.exception.kind), (phase, kind))
                    self.assertNotIn("lockstep/", caught.exception.traceback)
                finally:
                    self.assertEqual(driver.close(), 0)

    def test_the_traceback_begins_in_the_users_file(self):
        driver = EngineDriver()
        try:
            driver.load_class("Evil", params={"how": "raise"})
            with self.assertRaises(Failed) as caught:
                self.run_command(driver, "compute")
            first_frame = caught.exception.traceback.splitlines()[1]
            self.assertIn(f'File "{BUNDLE}/task.py"', first_frame)
            self.assertIn("in loss", first_frame)
        finally:
            driver.close()

    def test_after_a_failed_load_only_stop_is_taken(self):
        driver = EngineDriver()
        with self.assertRaisesRegex(Failed, "has no class Absent"):
            driver.load_class("Absent")
        for command in ("digest", "load"):
            with self.assertRaisesRegex(Failed, "only stop is accepted"):
                driver.ask(command)
        driver.send("stop")
        self.assertEqual(driver.close(), 0)


if __name__ == "__main__":
    unittest.main()
