"""The layout of the exchange vector."""

import unittest

import torch

import engine_path  # noqa: F401
from lockstep.exchange_vector import ExchangeLayout, ExchangeVector


class LayoutTest(unittest.TestCase):
    def test_every_span_begins_at_a_multiple_of_sixteen(self):
        layout = ExchangeLayout([torch.Size([3, 7]), torch.Size([]), torch.Size([16])], [torch.Size([0]), torch.Size([5])])
        self.assertEqual([span.begin for span in layout.gradients], [0, 32, 48])
        self.assertEqual([span.begin for span in layout.buffers], [64, 64])
        self.assertEqual((layout.counters.begin, layout.elements, layout.gradient_end), (80, 96, 64))

    def test_gaps_are_all_that_no_view_covers(self):
        layout = ExchangeLayout([torch.Size([3, 7]), torch.Size([])], [torch.Size([5])])
        vector = ExchangeVector(layout, torch.ones(layout.elements))
        vector.clear_gaps()
        covered = sum(view.numel() for view in [*vector.gradients, *vector.buffers, vector.counters])
        self.assertEqual(int(vector.flat.sum()), covered)
        self.assertTrue(all(bool((view == 1).all()) for view in [*vector.gradients, *vector.buffers, vector.counters]))


if __name__ == "__main__":
    unittest.main()
