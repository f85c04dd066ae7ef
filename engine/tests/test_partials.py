"""The tree of additions: a run of n leaves is split after the largest power of two below n."""

import unittest

import engine_path  # noqa: F401
from lockstep.partials import TreeSum


def tree(lo: int, length: int) -> str:
    if length == 1:
        return str(lo)
    left = 1 << (length - 1).bit_length() - 1
    return f"({tree(lo, left)}+{tree(lo + left, length - left)})"


class TreeSumTest(unittest.TestCase):
    def test_the_binary_counter_builds_the_tree_of_the_design(self):
        for length in range(1, 200):
            counter = TreeSum(lambda left, right: f"({left}+{right})")
            for leaf in range(length - 1):
                counter.push(str(leaf))
                self.assertLessEqual(len(counter.stack), length.bit_length())
            total = str(length - 1)
            for left in counter.pending():
                total = f"({left}+{total})"
            self.assertEqual(total, tree(0, length))

    def test_the_tree_of_seven(self):
        self.assertEqual(tree(0, 7), "(((0+1)+(2+3))+((4+5)+6))")


if __name__ == "__main__":
    unittest.main()
