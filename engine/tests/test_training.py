"""What a real engine computes, against a plain PyTorch loop and against itself with the work split otherwise."""

import contextlib
import hashlib
import os
import random
import struct
import tempfile
import unittest

import torch
from engine_driver import EngineDriver, Failed
from plain_loop import PlainLoop

import lockstep

# One microbatch is empty, and they differ in size. Sample 13 is the one that explodes in the task Exploding.
SAMPLES = [[3, 8], [1, 23], [13, 22, 5], [], [7, 0], [39, 38, 37, 36], [2, 4], [6, 6], [9, 10], [11, 30, 31], [12, 14], [15, 16]]
FINITE = [[i for i in ids if i != 13] for ids in SAMPLES]


@contextlib.contextmanager
def engine(name, **overrides):
    driver = EngineDriver()
    try:
        driver.load_class(name, **{"microbatches": len(SAMPLES), **overrides})
        yield driver
    finally:
        status = driver.close()
    assert status == 0, status


def largest_power_below(n):
    return 1 << (n - 1).bit_length() - 1


def nodes_of_block(lo, length, begin, end):
    """The fewest subtrees of the tree over lo..lo+length-1 that cover begin..end-1."""
    if begin <= lo and lo + length <= end:
        return [(lo, length)]
    if lo >= end or lo + length <= begin:
        return []
    left = largest_power_below(length)
    return nodes_of_block(lo, left, begin, end) + nodes_of_block(lo + left, length - left, begin, end)


def combine(lo, length, known):
    """Adds computed nodes (lo, length) -> value in the tree's order."""
    if (lo, length) in known:
        return known[lo, length]
    left = largest_power_below(length)
    return combine(lo, left, known) + combine(lo + left, length - left, known)


class SplitTest(unittest.TestCase):
    def check_splits(self, driver, count, draws):
        samples = FINITE[:count]
        whole = driver.compute(5, [(0, samples)])[0]
        expected = driver.vector(0)
        for blocks in draws:
            cuts = [0, *blocks, count]
            runs = [node for begin, end in zip(cuts, cuts[1:]) for node in nodes_of_block(0, count, begin, end)]
            random.Random(len(blocks)).shuffle(runs)
            partials = driver.compute(5, [(lo, samples[lo : lo + length]) for lo, length in runs])
            vectors = {run: driver.vector(place) for place, run in enumerate(runs)}
            self.assertEqual(combine(0, count, vectors).tobytes(), expected.tobytes(), runs)
            for key in ("loss", "weight"):
                self.assertEqual(combine(0, count, {run: p[key] for run, p in zip(runs, partials)}), whole[key])
            consumed = {p["lo"]: p["consumed"] for p in partials}
            self.assertEqual(sum((consumed[lo] for lo in sorted(consumed)), []), whole["consumed"])

    def test_any_split_of_the_microbatches_gives_the_same_bits(self):
        for name in ("Plain", "Randomised", "Dropped", "Normed", "TiedTask"):
            with self.subTest(name), engine(name) as driver:
                self.check_splits(driver, 12, [[], [6], [4, 8], [3, 6, 9], [1, 2, 11], list(range(1, 12)), [5]])
                self.check_splits(driver, 7, [[], [3], [2, 5], [1, 6], list(range(1, 7))])
                self.check_splits(driver, 8, [[], [4], [3], list(range(1, 8))])
                self.check_splits(driver, 1, [[]])

    def test_another_order_of_addition_gives_other_bits(self):
        # Otherwise the test above would prove nothing.
        with engine("Plain") as driver:
            driver.compute(5, [(lo, [ids]) for lo, ids in enumerate(FINITE)])
            leaves = [driver.vector(place) for place in range(12)]
            in_a_row = leaves[0]
            for leaf in leaves[1:]:
                in_a_row = in_a_row + leaf
            tree = combine(0, 12, {(lo, 1): leaf for lo, leaf in enumerate(leaves)})
            self.assertNotEqual(in_a_row.tobytes(), tree.tobytes())

    def test_randomness_belongs_to_seed_step_and_microbatch(self):
        with engine("Randomised") as driver:
            first = driver.compute(1, [(0, FINITE[:1]), (1, FINITE[:1]), (0, FINITE[:1])])
            other_step = driver.compute(2, [(0, FINITE[:1])])
            losses = [event["loss"] for event in first + other_step]
            self.assertEqual(losses[0], losses[2])
            self.assertEqual(len(set(losses)), 3)

    def test_so_does_that_of_the_learning_rate(self):
        rates = []
        for computed in (FINITE, FINITE[:3]):
            with engine("RandomRate") as driver:
                driver.compute(0, [(0, FINITE)])
                vector = driver.vector_memory(0)
                driver.compute(0, [(0, computed)])
                rates.append([driver.apply(step, vector, 20.0, 11)["lr"] for step in (0, 1)])
        self.assertEqual(rates[0], rates[1])
        self.assertNotEqual(rates[0][0], rates[0][1])

    def test_a_run_does_not_depend_on_what_was_in_the_memory(self):
        with engine("TiedTask") as driver:
            driver.compute(1, [(0, FINITE)])
            clean = driver.vector(0)
            os.pwrite(driver.exchange, b"\xff" * driver.vector_bytes, driver.offset(0))
            driver.compute(1, [(0, FINITE)])
            self.assertEqual(driver.vector(0).tobytes(), clean.tobytes())


class PlainLoopTest(unittest.TestCase):
    def compare(self, name, steps=6, tolerance=2e-5, clip=None, precision="fp32"):
        with engine(name, clip_grad_norm=clip, precision=precision) as driver:
            loop = PlainLoop(name, clip=clip, precision=precision)
            for step in range(steps):
                answer, expected = driver.train_step(step, FINITE), loop.step(step, FINITE)
                self.assertAlmostEqual(answer["loss"] / answer["weight"], expected.loss, delta=tolerance * 10)
                if clip is not None:
                    self.assertAlmostEqual(answer["grad_norm"], expected.grad_norm, delta=tolerance * 10)
                self.assertAlmostEqual(answer["lr"], expected.lr, places=12)
            self.assert_same_model(driver, loop, tolerance)

    def assert_same_model(self, driver, loop, tolerance):
        with tempfile.TemporaryDirectory() as folder:
            answer = driver.ask("export_model", path=f"{folder}/new/place")
            with open(f"{folder}/new/place/model.safetensors", "rb") as file:
                content = file.read()
            self.assertEqual((len(content), hashlib.sha256(content).hexdigest()), (answer["bytes"], answer["sha256"]))
            state = lockstep.load_model(f"{folder}/new/place/model.safetensors")
        expected = loop.model.state_dict()
        self.assertEqual(state.keys(), expected.keys())
        moved = 0
        for key, tensor in expected.items():
            torch.testing.assert_close(state[key], tensor, atol=tolerance, rtol=tolerance, msg=lambda text: f"{key}: {text}")
            moved += not torch.equal(tensor, loop.initial[key])
        self.assertGreater(moved, 0)

    def test_mean_loss_with_adam(self):
        self.compare("Plain")

    def test_sum_and_weight(self):
        self.compare("Summed")

    def test_learning_rate_and_its_scale(self):
        self.compare("Scheduled")

    def test_clipping(self):
        self.compare("Plain", clip=0.05)

    def test_clipping_that_never_bites(self):
        self.compare("Plain", clip=1e6)

    def test_an_optimizer_that_keeps_the_last_gradient(self):
        self.compare("Keeping")

    def test_shared_frozen_and_unreached_parameters(self):
        self.compare("TiedTask")

    def test_batch_norm_averages_its_statistics(self):
        # Batch norm over two samples is steep: Adam makes more of the roundings than elsewhere.
        self.compare("Normed", tolerance=2e-4)

    def test_bf16(self):
        self.compare("Plain", tolerance=5e-3, precision="bf16")

    def test_bf16_is_not_fp32(self):
        with engine("Plain") as plain:
            plain.compute(0, [(0, FINITE)])
            fp32 = plain.vector(0)
        with engine("Plain", precision="bf16") as half:
            half.compute(0, [(0, FINITE)])
            self.assertNotEqual(half.vector(0).tobytes(), fp32.tobytes())


class VectorTest(unittest.TestCase):
    def test_an_unreached_parameter_counts_nobody_and_is_left_alone(self):
        with engine("TiedTask") as driver:
            driver.compute(0, [(0, FINITE)])
            # out.bias, out.weight, unused.bias, unused.weight, inner.bias, inner.weight: registration reversed.
            counters = driver.vector(0)[-16:]
            filled = sum(1 for ids in FINITE if ids)
            self.assertEqual(counters.tolist(), [filled, filled, 0, 0, filled, filled] + [0] * 10)

    def test_consumed_is_the_hash_of_the_ids(self):
        with engine("Plain") as driver:
            partial = driver.compute(0, [(2, FINITE[2:4])])[0]
            expected = [hashlib.sha256(struct.pack(f"<{len(ids)}Q", *ids)).hexdigest()[:16] for ids in FINITE[2:4]]
            self.assertEqual(partial["consumed"], expected)
            self.assertEqual((partial["lo"], partial["length"], partial["weight"]), (2, 2, len(FINITE[2])))

    def test_reduced_memory_is_only_read_by_apply(self):
        with engine("Normed") as driver:
            driver.compute(0, [(0, FINITE)])
            before = driver.vector_memory(0)
            driver.apply(0, before, 20.0, 11)
            self.assertEqual(driver.vector_memory(0), before)


class NotFiniteTest(unittest.TestCase):
    def test_skip_changes_nothing_and_says_so(self):
        with engine("Exploding", on_nonfinite="skip") as driver:
            driver.train_step(0, FINITE)
            before = driver.ask("digest")
            answer = driver.train_step(1, SAMPLES)
            self.assertTrue(answer["skipped"])
            self.assertIsNone(answer["loss"])
            after = driver.ask("digest")
            self.assertEqual((before["weights"], before["state"]), (after["weights"], after["state"]))
            self.assertFalse(driver.train_step(2, FINITE)["skipped"])
            self.assertNotEqual(driver.ask("digest")["weights"], before["weights"])

    def test_fail_names_the_parameter(self):
        with engine("Exploding") as driver:
            with self.assertRaisesRegex(Failed, "gradient of parameter 2.bias is not finite at step 4") as caught:
                driver.train_step(4, SAMPLES)
            self.assertEqual(caught.exception.kind, "user")


if __name__ == "__main__":
    unittest.main()
