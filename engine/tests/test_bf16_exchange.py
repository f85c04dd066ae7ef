"""Jobs with `exchange: bf16`: every node of the tree is rounded to bfloat16, and nothing else is."""

import unittest

import torch

import engine_path  # noqa: F401
from lockstep.bfloat16 import rounded_bits
from test_training import FINITE, combine, engine, nodes_of_block

TASKS = ("Plain", "Dropped", "Normed", "TiedTask")


class Vector:
    """`gradients` as fp32, every element exactly a bfloat16; `rest` as fp32. Adding rounds gradients, explicitly."""

    def __init__(self, gradients, rest):
        self.gradients, self.rest = gradients, rest

    @staticmethod
    def read(driver, place):
        memory = torch.frombuffer(bytearray(driver.vector_memory(place)), dtype=torch.uint8)
        cut = driver.bf16_bytes
        return Vector(memory[:cut].view(torch.bfloat16).float(), memory[cut:].view(torch.float32))

    @staticmethod
    def rounded(fp32, gradient_elements, rest_elements):
        padded = torch.zeros(gradient_elements)
        count = len(fp32) - rest_elements
        padded[:count] = fp32[:count]
        return Vector(widened(padded), fp32[count:])

    def __add__(self, right):
        return Vector(widened(self.gradients + right.gradients), self.rest + right.rest)

    def bits(self):
        return self.gradients.numpy().tobytes() + self.rest.numpy().tobytes()


def widened(values):
    return rounded_bits(values).view(torch.bfloat16).float()


def leaves_of(driver, step):
    driver.compute(step, [(lo, [ids]) for lo, ids in enumerate(FINITE)])


class Bf16ExchangeTest(unittest.TestCase):
    def test_leaves_and_sums_are_rounded_and_any_split_gives_the_same_bits(self):
        for name in TASKS:
            with self.subTest(name), engine(name) as plain, engine(name, exchange="bf16") as half:
                self.assertEqual(plain.bf16_bytes, 0)
                self.assertEqual(half.bf16_bytes % 64, 0)
                leaves_of(plain, 3)
                leaves_of(half, 3)
                leaves = [Vector.read(half, place) for place in range(12)]
                shape = (len(leaves[0].gradients), len(leaves[0].rest))
                for place, leaf in enumerate(leaves):
                    exact = torch.from_numpy(plain.vector(place))
                    self.assertEqual(leaf.bits(), Vector.rounded(exact, *shape).bits(), place)
                self.check_sums(half, leaves)

    def check_sums(self, driver, leaves):
        known = {(lo, 1): leaf for lo, leaf in enumerate(leaves)}
        for blocks in ([], [6], [4, 8], [1, 2, 11], [5]):
            cuts = [0, *blocks, 12]
            runs = [node for begin, end in zip(cuts, cuts[1:]) for node in nodes_of_block(0, 12, begin, end)]
            driver.compute(3, [(lo, FINITE[lo : lo + length]) for lo, length in runs])
            for place, run in enumerate(runs):
                self.assertEqual(Vector.read(driver, place).bits(), combine(*run, known).bits(), run)

    def test_a_reduced_vector_is_applied_as_the_fp32_vector_of_the_same_values(self):
        for name in TASKS:
            with self.subTest(name), engine(name, clip_grad_norm=0.5) as plain, engine(name, clip_grad_norm=0.5, exchange="bf16") as half:
                partial = half.compute(0, [(0, FINITE)])[0]
                sum_of_all = Vector.read(half, 0)
                elements = plain.vector_bytes // 4 - len(sum_of_all.rest)
                reduced = Vector(sum_of_all.gradients[:elements], sum_of_all.rest).bits()
                narrow = half.apply(0, half.vector_memory(0), partial["weight"], 11)
                wide = plain.apply(0, reduced, partial["weight"], 11)
                self.assertEqual(narrow["grad_norm"], wide["grad_norm"])
                self.assertEqual(half.ask("digest")["state"], plain.ask("digest")["state"])

    def test_a_gradient_beyond_the_largest_bf16_skips_the_step(self):
        with engine("Plain", exchange="bf16", on_nonfinite="skip") as driver:
            partial = driver.compute(0, [(0, FINITE)])[0]
            vector = bytearray(driver.vector_memory(0))
            vector[:2] = b"\x80\x7f"
            self.assertTrue(driver.apply(0, bytes(vector), partial["weight"], 11)["skipped"])
            self.assertFalse(driver.train_step(1, FINITE)["skipped"])


if __name__ == "__main__":
    unittest.main()
