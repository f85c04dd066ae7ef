"""The writer for CUDA, with streams and events that only say what was asked of them."""

import contextlib
import unittest
from unittest import mock

import torch

import engine_path  # noqa: F401
from lockstep.bucket_writer import CudaBucketWriter
from lockstep.exchange_vector import ExchangeLayout, ExchangeVector

BUCKET = 128


class Event:
    def __init__(self):
        self.done = False

    def query(self):
        return self.done


class Stream:
    """Work on it takes place at once; its events are done when the test says so, or when it is waited for."""

    def __init__(self):
        self.events = []
        self.waited_for = []

    def wait_stream(self, other):
        self.waited_for.append(other)

    def record_event(self):
        self.events.append(Event())
        return self.events[-1]

    def synchronize(self):
        for event in self.events:
            event.done = True


class CudaBucketWriterTest(unittest.TestCase):
    def setUp(self):
        layout = ExchangeLayout([torch.Size([200])], [], torch.float32)
        self.total, self.target = (ExchangeVector(layout, torch.zeros(layout.vector_bytes, dtype=torch.uint8)) for _ in range(2))
        self.total.memory.fill_(7)
        self.announced = []
        self.current = Stream()
        for name, value in {
            "torch.cuda.Stream": Stream, "torch.cuda.current_stream": lambda: self.current,
            "torch.cuda.stream": lambda stream: contextlib.nullcontext(), "lockstep.bucket_writer.BUCKET_BYTES": BUCKET,
        }.items():
            patch = mock.patch(name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def copied(self):
        return int((self.target.memory == 7).sum())

    def test_buckets_are_announced_when_their_copy_has_ended(self):
        writer = CudaBucketWriter(self.total, self.target, self.announced.append)
        self.assertEqual(writer.stream.waited_for, [self.current])
        for buckets in (1, 3, 4):
            with writer.working():
                writer.write(buckets)
                writer.announce_arrived()
        self.assertEqual((self.announced, self.copied()), ([], 4 * BUCKET))
        writer.stream.events[0].done = writer.stream.events[1].done = True
        writer.announce_arrived()
        writer.announce_arrived()
        self.assertEqual(self.announced, [3])
        writer.finish()
        self.assertEqual((self.announced, self.copied()), ([3], len(self.total.memory)))
        self.assertTrue(all(event.done for event in writer.stream.events))

    def test_without_announcements_the_whole_is_copied_at_the_end(self):
        writer = CudaBucketWriter(self.total, self.target, None)
        writer.finish()
        self.assertEqual(self.copied(), len(self.total.memory))


if __name__ == "__main__":
    unittest.main()
