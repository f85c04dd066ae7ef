"""Buckets that are announced while the backward pass runs: never other bytes than without, and never early ones that change."""

import unittest
from unittest import mock

import torch

from engine_driver import EngineDriver, Failed
from engine_path import BUNDLE
from lockstep.commands import Load, Run
from lockstep.compute import RunReport, compute_run
from lockstep.exchange_vector import ExchangeVector
from lockstep.failures import CommandFailed
from lockstep.replica import Replica
from test_training import FINITE, combine

BUCKET = 128
TASKS = ("Plain", "Summed", "Normed", "TiedTask", "Dropped")
EXCHANGES = ("fp32", "bf16")


def replica_of(name, exchange="fp32", **params):
    load = Load(bundle=BUNDLE, task=f"task.py:{name}", seed=7, microbatches=len(FINITE), precision="fp32", exchange=exchange,
                clip_grad_norm=None, on_nonfinite="fail", deterministic=True, params=params, init_from=None)
    return Replica(load, torch.device("cpu"))


class Computed:
    """The bytes of a partial, and those of its beginning as they were at each announcement."""

    def __init__(self, replica, lo, length, early=True):
        layout = replica.layout
        memory = torch.full((layout.vector_bytes,), 255, dtype=torch.uint8)
        self.prefixes = []

        def announce(buckets):
            self.prefixes.append(memory[: buckets * BUCKET].clone())

        run = Run(lo=lo, length=length, at=0, samples=FINITE[lo : lo + length])
        with mock.patch("lockstep.last_leaf.BUCKET_BYTES", BUCKET):
            self.error = None
            try:
                partial = compute_run(replica, 3, run, ExchangeVector(layout, memory), RunReport(), announce if early else None)
                self.sums = (partial.loss, partial.weight)
            except CommandFailed as error:
                self.error = error
        self.memory = memory

    @property
    def announced(self):
        return [len(prefix) // BUCKET for prefix in self.prefixes]


class LastLeafTest(unittest.TestCase):
    def test_progress_is_told_after_each_microbatch_but_the_last(self):
        replica, told = replica_of("Plain"), []
        vector = ExchangeVector(replica.layout, torch.zeros(replica.layout.vector_bytes, dtype=torch.uint8))
        run = Run(lo=0, length=len(FINITE), at=0, samples=FINITE)
        compute_run(replica, 3, run, vector, RunReport(), tell_progress=lambda: told.append(1))
        self.assertEqual(len(told), len(FINITE) - 1)

    def check(self, plain, early, layout):
        self.assertIsNone(early.error)
        self.assertTrue(torch.equal(early.memory, plain.memory))
        self.assertEqual(early.sums, plain.sums)
        self.assertEqual(early.announced, sorted(set(early.announced)))
        for prefix in early.prefixes:
            self.assertTrue(torch.equal(prefix, plain.memory[: len(prefix)]))
        self.assertLessEqual(max(early.announced, default=0) * BUCKET, layout.gradients.bytes)
        self.assertEqual(plain.announced, [])

    def test_the_bytes_are_the_same_as_without_and_final_when_announced(self):
        for name in TASKS:
            for exchange in EXCHANGES:
                replica = replica_of(name, exchange)
                for lo, length in ((0, 1), (0, 2), (4, 3), (8, 4), (5, 7), (0, 12)):
                    with self.subTest(name, exchange=exchange, run=(lo, length)):
                        early = Computed(replica, lo, length)
                        self.check(Computed(replica, lo, length, early=False), early, replica.layout)
                        self.assertEqual(early.announced[-1], replica.layout.gradients.bytes // BUCKET)
                        self.assertGreater(len(early.announced), 1)

    def test_a_run_without_samples_at_its_end_announces_nothing(self):
        replica = replica_of("Plain")
        early = Computed(replica, 2, 2)
        self.check(Computed(replica, 2, 2, early=False), early, replica.layout)
        self.assertEqual(early.announced, [])

    def test_checkpointing_that_runs_backward_passes_of_its_own_announces_nothing(self):
        for reentrant in (True, False):
            for length in (1, 3):
                replica = replica_of("Checkpointed", reentrant=reentrant)
                early = Computed(replica, 0, length)
                self.check(Computed(replica, 0, length, early=False), early, replica.layout)
                self.assertEqual(early.announced == [], reentrant)

    def test_a_loss_that_runs_a_backward_pass_announces_nothing(self):
        replica = replica_of("TwoBackwards")
        early = Computed(replica, 0, 3)
        self.check(Computed(replica, 0, 3, early=False), early, replica.layout)
        self.assertEqual(early.announced, [])

    def test_a_graph_of_very_many_nodes_announces_nothing(self):
        with mock.patch("lockstep.backward_graph.NODES_LIMIT", 5):
            early = Computed(replica_of("Plain"), 0, 1)
        self.assertEqual((early.error, early.announced), (None, []))

    def test_a_gradient_that_changes_after_its_bucket_was_announced_is_an_error(self):
        replica = replica_of("Hooked", how="change")
        self.assertIsNone(Computed(replica, 0, 1, early=False).error)
        early = Computed(replica, 0, 1)
        self.assertEqual((early.error.phase, early.error.kind), ("loss", "user"))
        self.assertIn("a hook changed the gradient of parameter 2.weight", early.error.message)

    def test_a_sparse_gradient_is_refused_as_without(self):
        for early in (True, False):
            error = Computed(replica_of("Sparse"), 0, 2, early).error
            self.assertIn("the gradient of parameter 0.weight is sparse", error.message)

    def test_what_was_announced_before_a_backward_pass_raised_is_what_whoever_computes_it_again_gets(self):
        for length in (1, 3):
            replica = replica_of("Hooked", how="raise")
            failed = Computed(replica, 0, length)
            self.assertIn("the backward pass of loss() raised ValueError: in a hook", failed.error.message)
            if length == 1:
                self.assertNotEqual(failed.announced, [])
            replica.task.params = {"how": ""}
            self.check(Computed(replica, 0, length, early=False), Computed(replica, 0, length), replica.layout)
            again = Computed(replica, 0, length)
            for prefix in failed.prefixes:
                self.assertTrue(torch.equal(prefix, again.memory[: len(prefix)]))

    def test_the_parts_of_a_run_add_up_to_it(self):
        replica = replica_of("TiedTask")
        leaves = {(lo, 1): Computed(replica, lo, 1).memory.view(torch.float32) for lo in range(7)}
        self.assertTrue(torch.equal(Computed(replica, 0, 7).memory.view(torch.float32), combine(0, 7, leaves)))


class AnnouncementTest(unittest.TestCase):
    """Over the control pipe, with buckets of the real size."""

    def buckets(self, name, **overrides):
        driver = EngineDriver()
        try:
            driver.load_class(name, **overrides)
            driver.size_exchange(2)
            runs = [{"lo": lo, "length": 2, "at": driver.offset(place), "samples": FINITE[:2]} for place, lo in enumerate((0, 2))]
            driver.ask("compute", step=5, runs=runs)
            return [event for event in driver.events if event["event"] in ("buckets", "partial", "computed")]
        finally:
            driver.close()

    def test_buckets_of_a_run_are_announced_before_its_partial(self):
        events = self.buckets("Wide")
        self.assertEqual([event["event"] for event in events], ["buckets", "partial", "buckets", "partial", "computed"])
        number = events[-1]["id"]
        self.assertEqual(events[2], {"event": "buckets", "id": number, "step": 5, "lo": 2, "length": 2, "buckets": 1})

    def test_a_loose_job_and_a_small_vector_announce_only_whole_partials(self):
        for name, overrides in (("Wide", {"deterministic": False}), ("Wide", {"exchange": "bf16"}), ("Plain", {})):
            events = self.buckets(name, **overrides)
            self.assertEqual([event["event"] for event in events], ["partial", "partial", "computed"])

    def test_the_engine_says_so_when_a_backward_pass_raises(self):
        driver = EngineDriver()
        driver.load_class("Hooked", params={"how": "raise"})
        with self.assertRaisesRegex(Failed, "loss/user: the backward pass of loss.. raised ValueError: in a hook"):
            driver.compute(0, [(0, FINITE[:1])])
        driver.close()


if __name__ == "__main__":
    unittest.main()
