"""The layout of the exchange vector, and its sums."""

import unittest

import torch

import engine_path  # noqa: F401
from lockstep.bfloat16 import check_addition, rounded_bits
from lockstep.exchange_vector import ExchangeLayout, ExchangeVector

SHAPES = [torch.Size([3, 7]), torch.Size([]), torch.Size([16])]
TYPES = (torch.float32, torch.bfloat16)


def vector(layout, byte=0):
    return ExchangeVector(layout, torch.full((layout.vector_bytes,), byte, dtype=torch.uint8))


class LayoutTest(unittest.TestCase):
    def test_every_span_begins_at_a_multiple_of_sixteen(self):
        layout = ExchangeLayout(SHAPES, [torch.Size([0]), torch.Size([5])], torch.float32)
        self.assertEqual([span.begin for span in layout.gradients.spans], [0, 32, 48])
        self.assertEqual([span.begin for span in layout.rest.spans], [0, 0, 16])
        self.assertEqual((layout.gradients.bytes, layout.vector_bytes, layout.bf16_bytes), (256, 384, 0))

    def test_bf16_gradients_take_half_the_bytes_rounded_up_to_64(self):
        layout = ExchangeLayout([torch.Size([3, 7]), torch.Size([])], [torch.Size([5])], torch.bfloat16)
        self.assertEqual([span.begin for span in layout.gradients.spans], [0, 32])
        self.assertEqual((layout.gradients.elements, layout.bf16_bytes, layout.vector_bytes), (64, 128, 256))
        whole = vector(layout)
        whole.gradients[1].fill_(1.0)
        whole.buffers[0].fill_(1.0)
        whole.counters.fill_(2.0)
        self.assertEqual(whole.memory[64:66].tolist(), [0x80, 0x3F])
        self.assertEqual(whole.memory[128:132].tolist(), [0, 0, 0x80, 0x3F])
        self.assertEqual(whole.memory[192:200].tolist(), [0, 0, 0, 0x40] * 2)

    def test_gaps_are_all_that_no_view_covers(self):
        for gradient_type in TYPES:
            with self.subTest(gradient_type):
                layout = ExchangeLayout([torch.Size([3, 7]), torch.Size([])], [torch.Size([5])], gradient_type)
                whole = vector(layout, byte=255)
                whole.clear_gaps()
                for view in [*whole.gradients, *whole.buffers, whole.counters]:
                    self.assertTrue(bool(torch.isnan(view).all()))
                    view.zero_()
                self.assertEqual(int(whole.memory.count_nonzero()), 0)

    def test_a_model_without_gradient_elements_has_a_layout(self):
        for gradient_type in TYPES:
            layout = ExchangeLayout([torch.Size([0, 4])], [], gradient_type)
            self.assertEqual((layout.gradients.bytes, layout.vector_bytes, len(vector(layout).gradient_part)), (0, 64, 0))


class SumTest(unittest.TestCase):
    def test_the_sum_of_two_bf16_vectors_is_the_float_sum_rounded_to_even(self):
        layout = ExchangeLayout([torch.Size([5001])], [torch.Size([40])], torch.bfloat16)
        left, right = vector(layout), vector(layout)
        for one in (left, right):
            one.gradient_part.copy_(torch.randn(layout.gradients.elements) * 10.0 ** torch.randint(-39, 39, (layout.gradients.elements,)))
            one.rest.copy_(torch.randn(layout.rest.elements))
        expected = rounded_bits(left.gradient_part.float() + right.gradient_part.float())
        rest = left.rest + right.rest
        left.add(right)
        self.assertTrue(torch.equal(left.gradient_part.view(torch.int16), expected))
        self.assertTrue(torch.equal(left.rest, rest))

    def test_rounding_by_hand(self):
        # 1 + 2**-8 is half way between two neighbours: to the even one below. 1 + 3 * 2**-8: to the even one above.
        cases = {1.0: 0x3F80, 1 + 2**-8: 0x3F80, 1 + 3 * 2**-8: 0x3F82, 1 + 2**-8 + 2**-20: 0x3F81, 3.4e38: 0x7F80, 2.0**-133: 1}
        values = torch.tensor(list(cases))
        self.assertEqual(rounded_bits(values).tolist(), list(cases.values()))
        self.assertEqual(values.to(torch.bfloat16).view(torch.int16).tolist(), list(cases.values()))

    def test_this_pytorch_adds_bf16_as_the_daemons_do(self):
        check_addition(torch.device("cpu"))

    def test_values_are_copied_between_vectors_of_different_types(self):
        narrow, wide = (vector(ExchangeLayout([torch.Size([3])], [torch.Size([2])], dtype)) for dtype in TYPES[::-1])
        narrow.gradients[0].copy_(torch.tensor([1.0, -2.5, 1 / 3]))
        narrow.buffers[0].copy_(torch.tensor([1 / 3, 7.0]))
        narrow.counters.fill_(4.0)
        wide.copy_values(narrow)
        self.assertTrue(torch.equal(wide.gradients[0], narrow.gradients[0].float()))
        self.assertTrue(torch.equal(wide.rest, narrow.rest))


if __name__ == "__main__":
    unittest.main()
