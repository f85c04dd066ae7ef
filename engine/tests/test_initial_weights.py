"""The field init_from: a new job begins with the weights of a checkpoint or of a finished model, and with nothing else of it."""

import os
import tempfile
import textwrap
import unittest
from pathlib import Path

import torch
from checkpoint_writer import write_checkpoint
from engine_driver import EngineDriver, Failed

import lockstep
from lockstep.commands import Load
from lockstep.failures import CommandFailed
from lockstep.replica import Replica
from lockstep.safetensors import make_image
from lockstep.state import state_image
from lockstep.tensor_bytes import tensor_bytes

STEPS = [[[3, 8], [1, 2]], [[4, 5], [6, 7]]]
TASK = """
import random
import numpy
import torch
from torch import nn
import lockstep

class T(lockstep.Task):
    def model(self): return {model}
    def dataset(self):
        self.drawn = [random.random(), float(numpy.random.rand()), torch.rand(()).item()]
        return self.drawn
    def loss(self, model, batch): return model(torch.ones(3)).sum()
    def optimizer(self, model):
        self.drawn.append(torch.rand(()).item())
        return torch.optim.SGD(model.parameters(), lr=0.1)
"""
NETWORK = "nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, {classes}))"
TIED = """
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
            self.second.weight = self.first.weight
"""


class InitialWeightsCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.count = 0

    def new_path(self, ending=""):
        self.count += 1
        return os.path.join(self.folder, f"file_{id(self)}_{self.count}{ending}")

    def replica(self, model, init_from=None, before="", seed=1):
        path = self.new_path(".py")
        source = TASK.replace("{model}", model)
        Path(path).write_text(source.replace("class T(", f"{textwrap.dedent(before)}\nclass T("))
        load = Load(bundle=self.folder, task=f"{os.path.basename(path)}:T", seed=seed, microbatches=1, precision="fp32",
                    exchange="fp32", clip_grad_norm=None, on_nonfinite="fail", deterministic=True, params={}, init_from=init_from)
        return Replica(load, torch.device("cpu"))

    def checkpoint(self, replica):
        path = self.new_path()
        write_checkpoint(path, b"".join(state_image(replica).pieces()), 5)
        return path

    def model_file(self, tensors):
        path = self.new_path(".safetensors")
        Path(path).write_bytes(b"".join(make_image(tensors, {"format": "pt"}).pieces()))
        return path

    def refused(self, words, model, init_from, before=""):
        with self.assertRaises(CommandFailed) as caught:
            self.replica(model, init_from, before)
        failure = caught.exception
        self.assertEqual((failure.phase, failure.kind), ("init_from", "user"))
        for word in [init_from, *words]:
            self.assertIn(word, failure.message)

    def assert_same_state(self, one, other):
        self.assertEqual(one.keys(), other.keys())
        for name in one:
            self.assertEqual(tensor_bytes(one[name]).tobytes(), tensor_bytes(other[name]).tobytes(), name)


class EngineTest(InitialWeightsCase):
    def engine(self, name, **options):
        driver = EngineDriver()
        self.addCleanup(driver.close)
        driver.load_class(name, **options)
        return driver

    def image(self, driver):
        return os.pread(driver.state, driver.ask("export_state")["bytes"], 0)

    def read(self, driver):
        path = self.new_path()
        write_checkpoint(path, self.image(driver), 0)
        return lockstep.load_checkpoint(path)

    def test_weights_and_buffers_are_taken_and_nothing_else(self):
        for name in ("Plain", "Scheduled", "Normed", "TiedTask", "Mixed"):
            with self.subTest(name):
                trained, fresh = self.engine(name), self.engine(name)
                for step in (0, 1):
                    trained.train_step(step, STEPS[step])
                source, checkpoint = self.read(trained), self.new_path()
                write_checkpoint(checkpoint, self.image(trained), 2)
                model_folder = self.new_path()
                trained.ask("export_model", path=model_folder)
                for path in (checkpoint, f"{model_folder}/model.safetensors"):
                    heir = self.engine(name, init_from=path)
                    self.assertEqual(heir.ask("digest")["weights"], trained.ask("digest")["weights"])
                    begun = self.read(heir)
                    self.assert_same_state(begun.model, source.model)
                    self.assertEqual(begun.optimizer, self.read(fresh).optimizer)
                    self.assertEqual(begun.optimizer["state"], {})
                    heir.train_step(0, STEPS[0])

    def test_two_heirs_go_the_same_way_and_not_that_of_the_source(self):
        source = self.engine("Normed")
        source.train_step(0, STEPS[0])
        path = self.new_path()
        write_checkpoint(path, self.image(source), 1)
        heirs = [self.engine("Normed", init_from=path) for _ in range(2)]
        answers = [driver.train_step(1, STEPS[1]) for driver in [source, *heirs]]
        self.assertEqual(len({answer["loss"] for answer in answers}), 1)
        digests = [driver.ask("digest")["state"] for driver in [source, *heirs]]
        self.assertEqual(digests[1], digests[2])
        self.assertNotEqual(digests[0], digests[1])  # Adam's state is new.

    def test_the_engine_says_what_was_wrong(self):
        driver = EngineDriver()
        self.addCleanup(driver.close)
        with self.assertRaisesRegex(Failed, "/nowhere cannot be read: No such file or directory") as caught:
            driver.load_class("Plain", init_from="/nowhere")
        self.assertEqual((caught.exception.phase, caught.exception.kind), ("init_from", "user"))
        with self.assertRaisesRegex(Failed, "only stop is accepted"):
            driver.load_class("Plain")


class MatchTest(InitialWeightsCase):
    def sources(self, model):
        """The same weights as a checkpoint and as a model file."""
        replica = self.replica(model, seed=2)
        return self.checkpoint(replica), self.model_file(replica.model.state_dict())

    def test_a_head_of_another_size_names_both_shapes(self):
        for path in self.sources(NETWORK.format(classes=10)):
            self.refused(
                ["2.weight is of shape (10, 4) and type float32 in", "but of shape (2, 4) and type float32 in the model"],
                NETWORK.format(classes=2), path,
            )

    def test_another_type_is_named(self):
        for path in self.sources("nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).bfloat16()"):
            self.refused(["0.weight is of shape (4, 3) and type bfloat16", "type float32 in the model"],
                         "nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))", path)

    def test_what_is_missing_is_named(self):
        for path in self.sources("nn.Sequential(nn.Linear(3, 4))"):
            self.refused(["has no parameter 1.weight of shape (4,) and type float32, which the model has"],
                         "nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))", path)
        for path in self.sources("nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False))"):
            self.refused(["has no buffer 1.running_mean of shape (4,)"], "nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))", path)

    def test_what_is_too_much_is_named(self):
        for path in self.sources("nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))"):
            self.refused(["has 1.bias of shape (1,) and type float32, which the model does not have"], "nn.Sequential(nn.Linear(3, 4))", path)

    def test_other_names_are_named_with_what_is_there_instead(self):
        path = self.model_file({"module.weight": torch.ones(4, 3), "module.bias": torch.ones(4)})
        self.refused(["has no parameter weight of shape (4, 3)", "it has module."], "nn.Linear(3, 4)", path)

    def test_buffers_that_are_not_persistent_are_not_looked_for(self):
        before = "class M(nn.Linear):\n    def __init__(self): super().__init__(3, 4); self.register_buffer('mask', torch.ones(3), persistent=False)\n"
        path = self.model_file({"weight": torch.ones(4, 3), "bias": torch.ones(4)})
        self.assertEqual(self.replica("M()", path, before).model.weight.tolist(), [[1.0] * 3] * 4)
        path = self.model_file({"weight": torch.ones(4, 3), "bias": torch.ones(4), "mask": torch.ones(3)})
        self.refused(["has mask of shape (3,)"], "M()", path, before)


class SharedTest(InitialWeightsCase):
    def test_a_shared_parameter_under_any_of_its_names_or_all(self):
        weight, biases = torch.randn(3, 3), {"first.bias": torch.zeros(3), "second.bias": torch.ones(3)}
        weight[0, 0] = float("nan")
        for names in (["first.weight"], ["second.weight"], ["first.weight", "second.weight"]):
            path = self.model_file({**biases, **{name: weight.clone() for name in names}})
            model = self.replica("Tied()", path, TIED).model
            self.assertIs(model.first.weight, model.second.weight)
            self.assertEqual(tensor_bytes(model.first.weight).tobytes(), tensor_bytes(weight).tobytes())
            self.assertEqual(model.second.bias.tolist(), [1.0] * 3)

    def test_names_of_one_parameter_with_different_values(self):
        path = self.model_file({"first.bias": torch.zeros(3), "second.bias": torch.ones(3), "first.weight": torch.zeros(3, 3), "second.weight": -torch.zeros(3, 3)})
        self.refused(["second.weight", "in the model first.weight and second.weight are one tensor"], "Tied()", path, TIED)

    def test_none_of_the_names(self):
        path = self.model_file({"first.bias": torch.zeros(3), "second.bias": torch.ones(3)})
        self.refused(["has no parameter first.weight of shape (3, 3)"], "Tied()", path, TIED)

    def test_a_checkpoint_of_a_model_that_shares_fits_one_that_does_not_and_the_other_way_if_equal(self):
        apart = TIED.replace("self.second.weight = self.first.weight", "pass")
        tied = self.replica("Tied()", before=TIED, seed=5)
        path = self.checkpoint(tied)
        self.assert_same_state(self.replica("Tied()", path, TIED).model.state_dict(), tied.model.state_dict())
        self.assert_same_state(self.replica("Tied()", path, apart).model.state_dict(), tied.model.state_dict())
        self.refused(["are one tensor"], "Tied()", self.checkpoint(self.replica("Tied()", before=apart)), TIED)


class SeedTest(InitialWeightsCase):
    def test_what_follows_draws_the_same_numbers(self):
        model = NETWORK.format(classes=2)
        plain, path = self.replica(model), self.checkpoint(self.replica(model, seed=3))
        heir = self.replica(model, path)
        self.assertEqual(heir.task.drawn, plain.task.drawn)
        self.assertEqual(len(set(plain.task.drawn)), 4 - 1)  # The optimizer's generator is seeded as the data set's was.
        self.assertFalse(torch.equal(heir.model[0].weight, plain.model[0].weight))


class BadFileTest(InitialWeightsCase):
    def test_files_that_are_not_safetensors(self):
        good = Path(self.model_file({"weight": torch.ones(4, 3), "bias": torch.ones(4)})).read_bytes()
        zipped, old = self.new_path(".pt"), self.new_path(".pt")
        torch.save(torch.ones(3), zipped)
        torch.save(torch.ones(3), old, _use_new_zipfile_serialization=False)
        fifo, folder, damaged = self.new_path(), self.new_path(), self.new_path(".safetensors")
        os.mkfifo(fifo)
        os.mkdir(folder)
        Path(damaged).write_bytes(good[:-1])
        for path, words in {
            zipped: "it looks like a file that torch.save wrote (a pickle), not like safetensors",
            old: "it looks like a file that torch.save wrote (a pickle), not like safetensors",
            fifo: "not a regular file",
            "/dev/null": "not a regular file",
            folder: "has no manifest.json, so it is no checkpoint",
            damaged: "the file is truncated",
            f"{folder}/absent": "cannot be read: No such file or directory",
        }.items():
            with self.subTest(path):
                self.refused([words], "nn.Linear(3, 4)", path)

    def test_damaged_checkpoints(self):
        path = self.checkpoint(self.replica("nn.Linear(3, 4)"))
        shard = os.path.join(path, "shard-00001-of-00003.safetensors")
        good = Path(shard).read_bytes()
        for change, words in {
            "a bit": "it was changed or damaged", "an end": "as in manifest.json: it was cut off or changed", "everything": "No such file",
        }.items():
            Path(shard).write_bytes(good[:-1] + (b"" if change == "an end" else bytes([good[-1] ^ 1])))
            if change == "everything":
                os.remove(shard)
            self.refused([shard, words], "nn.Linear(3, 4)", path)


if __name__ == "__main__":
    unittest.main()
