"""The reduced vector's way to the optimizer: divided, and looked at, piece by piece."""

import unittest
from types import SimpleNamespace
from unittest import mock

import torch

import engine_path  # noqa: F401
from lockstep import apply
from lockstep.exchange_vector import ExchangeLayout, ExchangeVector, VectorPool

SHAPES = [torch.Size([37, 11]), torch.Size([5]), torch.Size([203])]


class AverageTest(unittest.TestCase):
    def setUp(self):
        patch = mock.patch.object(apply, "PIECE", 64)
        patch.start()
        self.addCleanup(patch.stop)

    def reduced_and_replica(self, dtype):
        layout = ExchangeLayout(SHAPES, [torch.Size([3])], dtype)
        reduced = ExchangeVector(layout, torch.zeros(layout.vector_bytes, dtype=torch.uint8))
        reduced.gradient_part.copy_(torch.randn(len(reduced.gradient_part), generator=torch.Generator().manual_seed(3)))
        reduced.rest.fill_(2.0)
        pool = VectorPool(ExchangeLayout(SHAPES, [torch.Size([3])], torch.float32), torch.device("cpu"))
        return reduced, SimpleNamespace(device=torch.device("cpu"), reduced_pool=pool)

    def test_it_has_the_bits_of_one_division_of_fp32(self):
        for dtype in (torch.float32, torch.bfloat16):
            reduced, replica = self.reduced_and_replica(dtype)
            average = replica.reduced_pool.take()
            self.assertTrue(apply.take_average(replica, reduced, 7.0, average))
            for view, sums in zip(average.gradients, reduced.gradients):
                self.assertTrue(torch.equal(view, sums.float() / 7.0))
            self.assertTrue(torch.equal(average.rest, reduced.rest))

    def test_what_is_not_finite_is_seen_wherever_it_is(self):
        reduced, replica = self.reduced_and_replica(torch.float32)
        average = replica.reduced_pool.take()
        for flat in (reduced.gradient_part, reduced.rest):
            for place in range(len(flat)):
                kept = flat[place].item()
                for value in (float("nan"), float("inf"), float("-inf")):
                    flat[place] = value
                    self.assertFalse(apply.take_average(replica, reduced, 7.0, average))
                flat[place] = kept
        self.assertTrue(apply.take_average(replica, reduced, 7.0, average))

    def test_large_numbers_are_finite_whose_squares_are_not(self):
        reduced, replica = self.reduced_and_replica(torch.float32)
        reduced.gradient_part.fill_(1e30)
        self.assertTrue(apply.take_average(replica, reduced, 7.0, replica.reduced_pool.take()))


if __name__ == "__main__":
    unittest.main()
