"""lockstep.load_checkpoint: plain PyTorch goes on where the engine was, and nothing damaged is ever returned."""

import hashlib
import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import torch
from checkpoint_writer import file_of, write_checkpoint, write_manifest
from engine_driver import EngineDriver
from engine_path import BUNDLE
from plain_loop import SEED, task_module
from torch.utils.data import default_collate

import lockstep
from lockstep.safetensors import make_image
from lockstep.tensor_bytes import tensor_bytes

READER = Path(__file__).resolve().parents[2] / "test" / "system" / "plain_checkpoint_reader.py"
STEPS = [[[3, 8], [1, 2]], [[4, 5], [6, 7]], [[9, 10, 11], [12, 14]], [[20, 21], [22, 23]]]


class ExactLoop:
    """A plain loop that takes every sum in the engine's order, so that no bit may differ."""

    def __init__(self, name):
        self.task = getattr(task_module(), name)()
        torch.manual_seed(SEED)
        self.model = self.task.model()
        self.data = self.task.dataset()
        self.optimizer = self.task.optimizer(self.model)

    def step(self, step, samples):
        start = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        leaves = [self.leaf(ids, start) for ids in samples]
        weight = sum(map(len, samples))
        for place, parameter in enumerate(self.model.parameters()):
            gradients = [gradients[place] for gradients, _ in leaves if gradients[place] is not None]
            parameter.grad = sum(gradients[1:], gradients[0]).div_(weight) if gradients else None
        rate = self.task.lr(step)
        for group in self.optimizer.param_groups if rate is not None else []:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        self.optimizer.step()
        for name, buffer in self.model.named_buffers():
            average = sum(change[name] for _, change in leaves) / len(leaves)
            average = average if buffer.is_floating_point() else average.round()
            buffer.copy_(start[name] + average.to(buffer.dtype))

    def leaf(self, ids, start):
        """The gradients, and the changes of the buffers in fp32, of one microbatch."""
        for name, buffer in self.model.named_buffers():
            buffer.copy_(start[name])
        self.optimizer.zero_grad(set_to_none=True)
        (self.task.loss(self.model, default_collate([self.data[i] for i in ids])) * len(ids)).backward()
        changes = {name: torch.sub(b, start[name]).float() if b.dtype is not torch.bool else b.float() * 0 for name, b in self.model.named_buffers()}
        return [p.grad for p in self.model.parameters()], changes


class CheckpointCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        threads = torch.get_num_threads()
        self.addCleanup(torch.set_num_threads, threads)
        torch.set_num_threads(1)

    def engine(self, name):
        driver = EngineDriver()
        self.addCleanup(driver.close)
        driver.load_class(name, seed=SEED)
        return driver

    def save(self, driver, step, **options):
        path = os.path.join(self.folder, f"step-{step:09}")
        write_checkpoint(path, os.pread(driver.snapshot, driver.ask("snapshot")["bytes"], 0), step, **options)
        return path

    def assert_same(self, one, other, where="it"):
        """Trees of plain values and tensors, these to the last bit."""
        self.assertIs(type(one), type(other), where)
        if isinstance(one, torch.Tensor):
            self.assertEqual((one.dtype, one.shape), (other.dtype, other.shape), where)
            self.assertEqual(tensor_bytes(one).tobytes(), tensor_bytes(other).tobytes(), where)
        elif isinstance(one, dict):
            self.assertEqual(one.keys(), other.keys(), where)
            for key in one:
                self.assert_same(one[key], other[key], f"{where}.{key}")
        elif isinstance(one, (list, tuple)):
            self.assertEqual(len(one), len(other), where)
            for place, (left, right) in enumerate(zip(one, other)):
                self.assert_same(left, right, f"{where}.{place}")
        else:
            self.assertEqual(one, other, where)


def weights_digest(tensors):
    """As the tools print it, for a model without buffers and shared parameters."""
    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        sha256.update(tensor_bytes(tensors[name]))
    return sha256.hexdigest()


class ContinueTest(CheckpointCase):
    def test_plain_pytorch_goes_on_bit_for_bit(self):
        for name in ("Plain", "Scheduled", "Normed", "TiedTask", "Mixed"):
            with self.subTest(name), tempfile.TemporaryDirectory() as self.folder:
                driver = self.engine(name)
                for step in (0, 1):
                    driver.train_step(step, STEPS[step])
                checkpoint = lockstep.load_checkpoint(self.save(driver, 2))
                loop = ExactLoop(name)
                self.assertEqual(checkpoint.model.keys(), loop.model.state_dict().keys())
                loop.model.load_state_dict(checkpoint.model)
                loop.optimizer.load_state_dict(checkpoint.optimizer)
                for step in (checkpoint.step, checkpoint.step + 1):
                    loop.step(step, STEPS[step])
                    driver.train_step(step, STEPS[step])
                after = lockstep.load_checkpoint(self.save(driver, 4))
                self.assert_same(dict(loop.model.state_dict()), after.model, name)
                self.assert_same(loop.optimizer.state_dict(), after.optimizer, name)
                self.assertFalse(all(torch.equal(after.model[key], checkpoint.model[key]) for key in after.model))

    def test_the_step_and_the_manifest_are_returned(self):
        path = self.save(self.engine("Plain"), 17)
        checkpoint = lockstep.load_checkpoint(path)
        with open(f"{path}/manifest.json") as file:
            self.assertEqual((checkpoint.step, checkpoint.manifest), (17, json.load(file)))

    def test_tensors_that_are_read_in_many_pieces(self):
        driver = self.engine("Wide")
        driver.train_step(0, STEPS[0])
        path = self.save(driver, 1)
        checkpoint = lockstep.load_checkpoint(path)
        self.assertEqual(driver.ask("digest")["weights"], weights_digest(checkpoint.model))
        heir = EngineDriver()
        self.addCleanup(heir.close)
        heir.load_class("Wide", init_from=path)
        self.assertEqual(heir.ask("digest")["weights"], driver.ask("digest")["weights"])

    def test_any_number_of_shards_gives_the_same(self):
        driver = self.engine("Mixed")
        driver.train_step(0, STEPS[0])
        whole = lockstep.load_checkpoint(self.save(driver, 1, shards=1))
        for shards in (2, 5, 40):
            read = lockstep.load_checkpoint(self.save(driver, shards, shards=shards))
            self.assert_same((read.model, read.optimizer), (whole.model, whole.optimizer))

    def test_a_reader_of_twenty_lines_measures_what_the_engine_measures(self):
        for name in ("Mixed", "TiedTask"):
            driver = self.engine(name)
            driver.train_step(0, STEPS[0])
            with tempfile.TemporaryDirectory() as self.folder:
                answer = subprocess.run(
                    [sys.executable, str(READER), self.save(driver, 1), BUNDLE, f"task.py:{name}", "{}", str(SEED)],
                    check=True, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
                ).stdout
            self.assertEqual(json.loads(answer), driver.ask("evaluate")["metrics"])
        lines = READER.read_text().partition("# The whole reader, in 20 lines.\n")[2].partition("\n\n\n")[0].splitlines()
        self.assertLessEqual(len(lines), 20)


# What the manifest becomes -> words of the error.
BAD_MANIFESTS = {
    "another format": (lambda m: {**m, "format": "x"}, "its format is not"),
    "a later version": (lambda m: {**m, "version": 2}, "version 2; this Lockstep reads version 1"),
    "no step": (lambda m: {k: v for k, v in m.items() if k != "step"}, "step is missing"),
    "a step that is a text": (lambda m: {**m, "step": "3"}, "step is not an integer"),
    "no state": (lambda m: {**m, "state": None}, "state is not an object"),
    "a state without an optimizer": (lambda m: with_state(m, header=m["state"]["header"].replace('"optimizer"', '"optimizes"')), "no optimizer"),
    "another optimizer": (lambda m: with_state(m, header=m["state"]["header"].replace("0.05", "0.06")), "the state's sha256 is"),
    "a tensor less": (lambda m: with_state(m, header=m["state"]["header"].replace("parameter.0.bias", "parameter.0.bios")), "'parameter.0.bias' is not what and where"),
    "a header that is no JSON": (lambda m: with_state(m, header="{" + m["state"]["header"]), "the header is not JSON"),
    "a state cut short": (lambda m: with_state(m, bytes=m["state"]["bytes"] - 4), "truncated"),
    "another state's sha256": (lambda m: with_state(m, sha256="0" * 64), "the state's sha256 is"),
    "a sha256 that is none": (lambda m: with_state(m, sha256="abc"), r"state\.sha256 is not 64 hexadecimal digits"),
    "no shards": (lambda m: {**m, "shards": []}, "runs end at byte"),
    "a shard that is a text": (lambda m: {**m, "shards": ["x"]}, r"shards\[0\] is not an object"),
    "a shard less": (lambda m: {**m, "shards": m["shards"][:-1]}, "runs end at byte"),
    "a shard twice": (lambda m: {**m, "shards": [m["shards"][0], *m["shards"]]}, r"shards\[1\]\.at is"),
    "shards in another order": (lambda m: {**m, "shards": m["shards"][::-1]}, r"shards\[0\]\.at is"),
    "a file elsewhere": (lambda m: with_shard(m, file="../x"), "not the name of a file in this folder"),
    "the folder itself": (lambda m: with_shard(m, file=".."), "not the name of a file in this folder"),
    "another shard's file": (lambda m: with_shard(m, file=m["shards"][1]["file"]), "as in manifest.json"),
    "another sha256": (lambda m: with_shard(m, sha256="f" * 64), "not f{64} as in manifest.json: it was changed or damaged"),
    "another size": (lambda m: with_shard(m, bytes=7), "not 7 as in manifest.json"),
}


def with_state(manifest, **changes):
    return {**manifest, "state": {**manifest["state"], **changes}}


def with_shard(manifest, **changes):
    return {**manifest, "shards": [{**manifest["shards"][0], **changes}, *manifest["shards"][1:]]}


class DamageTest(CheckpointCase):
    def setUp(self):
        super().setUp()
        self.driver = self.engine("Plain")
        self.driver.train_step(0, STEPS[0])
        self.path = self.save(self.driver, 1)
        self.manifest = self.read_manifest()
        self.shards = [os.path.join(self.path, shard["file"]) for shard in self.manifest["shards"]]
        lockstep.load_checkpoint(self.path)

    def read_manifest(self):
        with open(f"{self.path}/manifest.json") as file:
            return {key: value for key, value in json.load(file).items() if key != "digest"}

    def refused(self, words, file):
        with self.assertRaisesRegex(ValueError, words) as caught:
            lockstep.load_checkpoint(self.path)
        self.assertIn(file, str(caught.exception))

    def test_bad_manifests(self):
        for name, (change, words) in BAD_MANIFESTS.items():
            with self.subTest(name):
                changed = change(self.manifest)
                self.assertNotEqual(changed, self.manifest)
                write_manifest(self.path, changed)
                self.refused(words, self.path)

    def test_one_changed_bit_anywhere_in_the_manifest_is_noticed(self):
        file = f"{self.path}/manifest.json"
        good = Path(file).read_bytes()
        for at in range(len(good)):
            Path(file).write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
            self.refused("digest is not that of its content|not JSON|its format is not|of version", file)
        for content in (good[:-1], good + b"\n", good.replace(b"  ", b" "), json.dumps({**json.loads(good), "step": 4}).encode()):
            Path(file).write_bytes(content)
            self.refused("digest is not that of its content|not JSON", file)
        Path(file).write_bytes(good)
        lockstep.load_checkpoint(self.path)

    def test_manifests_that_are_no_json(self):
        file = f"{self.path}/manifest.json"
        Path(file).write_text(json.dumps([self.manifest]))
        self.refused("its format is not 'lockstep checkpoint'", file)
        for content in (b"", b"{", b"\xff", b"[" * 200_000, b"\x80\x04."):
            Path(file).write_bytes(content)
            self.refused("it is not JSON", file)
        os.remove(file)
        self.refused("has no manifest.json, so it is no checkpoint", self.path)
        os.mkfifo(file)
        self.refused("not a regular file", file)
        with self.assertRaisesRegex(OSError, "nowhere"):
            lockstep.load_checkpoint("/nowhere")

    def test_one_changed_bit_anywhere_in_a_shard_is_noticed(self):
        for file in self.shards:
            good = Path(file).read_bytes()
            for at in [*range(0, 40), *range(40, len(good), 37), len(good) - 1]:
                for bit in (0, 5):
                    Path(file).write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
                    self.refused("", file)
            Path(file).write_bytes(good)
        lockstep.load_checkpoint(self.path)

    def test_shards_that_are_cut_off_or_absent_or_no_files(self):
        for file in self.shards:
            good = Path(file).read_bytes()
            for content in (b"", good[:-1], good + b"\0", good[: len(good) // 2]):
                Path(file).write_bytes(content)
                self.refused(f"it has {len(content)} bytes, not {len(good)} as in manifest.json", file)
            os.remove(file)
            with self.assertRaisesRegex(FileNotFoundError, file):
                lockstep.load_checkpoint(self.path)
            os.mkfifo(file)
            self.refused("not a regular file", file)
            os.remove(file)
            Path(file).write_bytes(good)
        lockstep.load_checkpoint(self.path)

    def test_a_shard_with_other_names_for_the_same_bytes(self):
        good = Path(self.shards[0]).read_bytes()
        data_at = 8 + struct.unpack("<Q", good[:8])[0]
        header = json.loads(good[8:data_at])
        name = next(iter(header))
        content = file_of({**{k: v for k, v in header.items() if k != name}, "intruder": header[name]}, good[data_at:])
        Path(self.shards[0]).write_bytes(content)
        write_manifest(self.path, with_shard(self.manifest, bytes=len(content)))
        self.refused("'intruder' is not what and where the state's header says", self.shards[0])

    def test_a_tensor_without_elements_that_no_shard_has(self):
        image = b"".join(make_image({"parameter.a": torch.ones(3), "parameter.b": torch.empty(0)}, {"optimizer": "{}"}).pieces())
        self.path = os.path.join(self.folder, "empty")
        manifest = write_checkpoint(self.path, image, 1, shards=1)
        content = file_of({"parameter.a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}, image[-12:])
        Path(self.path, manifest["shards"][0]["file"]).write_bytes(content)
        facts = with_shard(manifest, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        write_manifest(self.path, facts)
        self.refused("no shard has tensor 'parameter.b'", self.path)

    def test_an_optimizer_that_cannot_be_read(self):
        for number, tree in enumerate(("{", "[]", '{"tensor":"absent","cpu":true}', '{"dict":[]}')):
            image = b"".join(make_image({"parameter.a": torch.ones(1)}, {"optimizer": tree}).pieces())
            self.path = os.path.join(self.folder, f"odd-{number}")
            write_checkpoint(self.path, image, 1, shards=1)
            self.refused("the optimizer's state", self.path)

    def test_shared_names_of_what_is_not_there(self):
        for number, shared in enumerate(("{", "[1]", '{"parameter.b":"parameter.c"}', '{"parameter.b":[]}')):
            metadata = {"optimizer": '{"dict":[["state",{"dict":[]}],["param_groups",{"list":[]}]]}', "shared": shared}
            image = b"".join(make_image({"parameter.a": torch.ones(1)}, metadata).pieces())
            self.path = os.path.join(self.folder, f"shared-{number}")
            write_checkpoint(self.path, image, 1, shards=1)
            self.refused("shared tensors that it does not have", f"{self.path}/manifest.json")


if __name__ == "__main__":
    unittest.main()
