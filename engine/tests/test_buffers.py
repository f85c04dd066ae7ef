"""Buffers from one step to the next: the average of what the microbatches made of them."""

import math
import unittest

import torch

import engine_path  # noqa: F401
from lockstep.buffers import Buffers


def after_a_step(start, values):
    """The buffer after a step in which each microbatch left one of `values` in it, and the sum of the changes."""
    model = torch.nn.Module()
    model.register_buffer("b", start)
    buffers, total = Buffers(model), torch.zeros(start.shape)
    for value in values:
        buffers.reset()
        model.b.copy_(value)
        view = torch.zeros(start.shape)
        buffers.write_changes([view])
        total += view
    buffers.advance([total], len(values))
    return model.b, total


class BuffersTest(unittest.TestCase):
    def test_a_value_that_is_not_finite_may_stay(self):
        # As in a mask that is added to scores of attention.
        for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
            with self.subTest(dtype):
                start = torch.tensor([-math.inf, math.inf, math.nan, 1.0], dtype=dtype)
                other = start.clone()
                other[3] = 3.0
                end, total = after_a_step(start.clone(), [start, other])
                self.assertEqual(total.tolist(), [0.0, 0.0, 0.0, 2.0])
                self.assertTrue(torch.equal(end.isnan(), start.isnan()))
                self.assertEqual(end[[0, 1, 3]].tolist(), [-math.inf, math.inf, 2.0])

    def test_but_not_change(self):
        start = torch.tensor([-math.inf, math.nan, 1.0])
        _, total = after_a_step(start, [torch.tensor([5.0, 5.0, math.inf])])
        self.assertFalse(torch.isfinite(total).any())

    def test_changes_of_narrow_integers_do_not_wrap_round(self):
        for dtype, start, values, end in ((torch.uint8, 10, (8, 12), 10), (torch.uint8, 200, (100, 102), 101), (torch.int8, 100, (-100, -98), -99)):
            with self.subTest(f"{dtype} {start}"):
                average, _ = after_a_step(torch.tensor([start], dtype=dtype), [torch.tensor([value]) for value in values])
                self.assertEqual(average.tolist(), [end])


if __name__ == "__main__":
    unittest.main()
