"""A microbatch that is read ahead: never other bytes than without, and read again when it is not the one that is computed."""

import random
import unittest
from unittest import mock

import numpy
import torch

from lockstep.commands import Ahead, Run
from lockstep.compute import RunReport, compute_run
from lockstep.evaluation import evaluate
from lockstep.exchange_vector import ExchangeVector
from lockstep.failures import CommandFailed
from test_last_leaf import replica_of
from test_training import FINITE


class Counted:
    """A data set that counts what is read of it, and may refuse."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.read = []
        self.refuses = False
        self.ends_at = None

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        if self.refuses:
            raise OSError("gone")
        if index == self.ends_at:
            raise StopIteration
        self.read.append(index)
        return self.dataset[index]


def counted_replica(name):
    replica = replica_of(name)
    replica.samples.dataset = Counted(replica.samples.dataset)
    return replica


def partial_of(replica, step=3, lo=0):
    vector = ExchangeVector(replica.layout, torch.zeros(replica.layout.vector_bytes, dtype=torch.uint8))
    report = RunReport()
    compute_run(replica, step, Run(lo=lo, length=1, at=0, samples=[FINITE[lo]]), vector, report)
    return vector.memory, report.consumed


def disturb_generators():
    for draw in (random.random, numpy.random.rand, lambda: torch.rand(1)):
        draw()


class PrefetchTest(unittest.TestCase):
    def test_what_is_computed_from_it_is_the_same(self):
        # The one draws from every generator, while it reads and while it computes.
        for name in ("Randomised", "Dropped"):
            with self.subTest(name):
                expected = partial_of(counted_replica(name))
                replica = counted_replica(name)
                replica.prefetch.expect(Ahead(3, 0, FINITE[0]))
                replica.prefetch.read()
                replica.prefetch.read()
                self.assertEqual(replica.samples.dataset.read, FINITE[0])
                disturb_generators()
                memory, consumed = partial_of(replica)
                self.assertEqual(replica.samples.dataset.read, FINITE[0])
                self.assertTrue(torch.equal(memory, expected[0]))
                self.assertEqual(consumed, expected[1])

    def test_another_microbatch_than_expected_is_read(self):
        for ahead in (Ahead(4, 0, FINITE[0]), Ahead(3, 1, FINITE[0]), Ahead(3, 0, FINITE[1])):
            with self.subTest(str(ahead)):
                expected = partial_of(counted_replica("Randomised"))
                replica = counted_replica("Randomised")
                replica.prefetch.expect(ahead)
                replica.prefetch.read()
                memory, consumed = partial_of(replica)
                self.assertTrue(torch.equal(memory, expected[0]))
                self.assertEqual(consumed, expected[1])

    def test_an_error_is_told_when_the_microbatch_is_computed(self):
        replica = counted_replica("Randomised")
        replica.prefetch.expect(Ahead(3, 0, FINITE[0]))
        replica.samples.dataset.refuses = True
        replica.prefetch.read()
        with self.assertRaisesRegex(CommandFailed, "raised OSError: gone"):
            partial_of(replica)
        replica.samples.dataset.refuses = False
        partial_of(replica)

    def test_a_sample_that_ends_the_reading_is_an_error(self):
        replica = counted_replica("Randomised")
        replica.samples.dataset.ends_at = FINITE[0][1]
        with self.assertRaisesRegex(CommandFailed, rf"dataset\(\)\[{FINITE[0][1]}\] raised StopIteration"):
            partial_of(replica)

    def test_nor_does_another_error_end_the_engine_before(self):
        replica = counted_replica("Randomised")
        replica.prefetch.expect(Ahead(3, 0, FINITE[0]))
        with mock.patch("lockstep.prefetch.make_batch", side_effect=RuntimeError("CUDA out of memory")):
            replica.prefetch.read()
        self.assertTrue(torch.equal(partial_of(replica)[0], partial_of(counted_replica("Randomised"))[0]))

    def test_it_is_forgotten_when_the_users_code_may_touch_the_data_set(self):
        replica = counted_replica("Randomised")
        replica.prefetch.expect(Ahead(3, 0, FINITE[0]))
        replica.prefetch.read()
        evaluate(replica)
        partial_of(replica)
        self.assertEqual(replica.samples.dataset.read, FINITE[0] + FINITE[0])
