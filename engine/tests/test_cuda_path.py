"""What differs with a GPU, with the calls of CUDA replaced: choosing a device, streams, pinned memory, the reduced vector."""

import mmap
import os
import unittest
import warnings
from types import SimpleNamespace
from unittest import mock

import torch

import engine_path  # noqa: F401
from fake_cuda import FakeCuda
from lockstep import pinned_memory
from lockstep.apply import take_average
from lockstep.batches import to_device
from lockstep.commands import Run
from lockstep.compute import RunReport, compute_run
from lockstep.device import DeviceMemory, choose_device, computes_in_bfloat16, fix_arithmetic, use_deterministic_kernels
from lockstep.exchange_vector import ExchangeLayout, ExchangeVector, VectorPool
from lockstep.failures import CommandFailed, from_engine, user_code
from lockstep.fingerprint import fingerprint
from lockstep.memory import ExchangeMemory
from lockstep.optimizer_state import pack_optimizer, restore_optimizer, unpack_optimizer
from test_last_leaf import BUCKET, replica_of
from test_training import FINITE

CUDA = SimpleNamespace(type="cuda")


class DeviceTest(unittest.TestCase):
    def test_gpus_are_counted_round_and_the_chosen_one_becomes_the_current_one(self):
        with mock.patch("torch.cuda.is_available", return_value=True), mock.patch("torch.cuda.device_count", return_value=4), \
                mock.patch("torch.cuda.set_device") as set_device:
            chosen = [str(choose_device(gpu)) for gpu in (0, 3, 4, 9)]
        self.assertEqual(chosen, ["cuda:0", "cuda:3", "cuda:0", "cuda:1"])
        self.assertEqual([str(call.args[0]) for call in set_device.call_args_list], chosen)
        with mock.patch("torch.cuda.is_available", return_value=False):
            self.assertEqual(choose_device(3), torch.device("cpu"))

    def test_memory_of_the_gpu_is_asked_for_once_a_second_at_most(self):
        now = [100.0]
        memory = DeviceMemory(CUDA, clock=lambda: now[0])
        with mock.patch("torch.cuda.mem_get_info", side_effect=[(60, 80), (50, 80)]) as asked:
            self.assertEqual(memory.look(), {"used": 20, "total": 80})
            now[0] += 0.9
            self.assertEqual(memory.look(), {"used": 20, "total": 80})
            self.assertEqual(asked.call_count, 1)
            now[0] += 0.1
            self.assertEqual(memory.look(), {"used": 30, "total": 80})
            self.assertEqual(asked.call_args.args, (CUDA,))
        with mock.patch("torch.cuda.mem_get_info", side_effect=AssertionError("asked for on the processor")):
            self.assertIsNone(DeviceMemory(torch.device("cpu")).look())

    def test_bfloat16_is_left_out_of_the_fingerprint_where_the_gpu_has_none(self):
        with mock.patch("torch.cuda.get_device_capability", side_effect=[(7, 5), (8, 0), (12, 1)]):
            self.assertEqual([computes_in_bfloat16(CUDA) for _ in range(3)], [False, True, True])
        both = fingerprint(torch.device("cpu"))
        with mock.patch("lockstep.fingerprint.computes_in_bfloat16", return_value=False), mock.patch("torch.autocast") as autocast:
            self.assertNotEqual(fingerprint(torch.device("cpu")), both)
        self.assertEqual([call.kwargs["enabled"] for call in autocast.call_args_list], [False])

    def test_the_arithmetic_is_fixed_without_a_warning(self):
        self.addCleanup(use_deterministic_kernels, False)
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
        with mock.patch.dict(os.environ, {"CUBLAS_WORKSPACE_CONFIG": ":16:8"}), warnings.catch_warnings():
            warnings.simplefilter("error")
            fix_arithmetic()
            self.assertEqual(os.environ["CUBLAS_WORKSPACE_CONFIG"], ":4096:8")
        self.assertFalse(torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.benchmark)
        self.assertTrue(torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic)

    def test_batches_are_copied_before_their_memory_may_be_written_again(self):
        tensor = mock.Mock(spec=torch.Tensor)
        to_device({"a": [tensor]}, CUDA)
        tensor.to.assert_called_once_with(CUDA)


class FailureTest(unittest.TestCase):
    def test_a_broken_gpu_is_no_mistake_of_the_users_and_an_assertion_in_a_kernel_is(self):
        advice = "\nCUDA kernel errors might be asynchronously reported at some other API call."
        for text, kind in {
            "CUDA error: uncorrectable ECC error encountered": "engine",
            "CUDA error: an illegal memory access was encountered": "engine",
            "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`": "engine",
            "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED": "engine",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": "resource",
            "CUDA error: out of memory": "resource",
            "CUDA error: device-side assert triggered": "user",
        }.items():
            error = RuntimeError(text + advice)
            with self.assertRaises(CommandFailed) as caught, user_code("loss"):
                raise error
            self.assertEqual((caught.exception.kind, from_engine("compute", error).kind), (kind, kind), text)
            self.assertIn(text, caught.exception.message)


class ComputeTest(unittest.TestCase):
    """compute_run as on CUDA: sums in vectors of the device, on a stream of the writer's."""

    def setUp(self):
        self.cuda = FakeCuda()
        self.cuda.install(self)
        self.on = []
        for name, value in {
            "lockstep.prefetch.make_batch": lambda collate, samples, device: collate(samples),
            "lockstep.last_leaf.BUCKET_BYTES": BUCKET, "lockstep.bucket_writer.BUCKET_BYTES": BUCKET,
        }.items():
            patch = mock.patch(name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def compute(self, replica, lo, length, announce=None):
        target = ExchangeVector(replica.layout, torch.full((replica.layout.vector_bytes,), 255, dtype=torch.uint8))
        run = Run(lo=lo, length=length, at=0, samples=FINITE[lo : lo + length])
        return target, compute_run(replica, 3, run, target, RunReport(), announce)

    def cuda_replica(self, name, exchange="fp32", **params):
        replica = replica_of(name, exchange, **params)
        replica.device = CUDA
        write = replica.trainable.write_gradient

        def noting(place, view):
            self.on.append(self.cuda.current)
            write(place, view)

        replica.trainable.write_gradient = noting
        return replica

    def test_the_bytes_are_those_of_the_cpu_and_every_stream_is_waited_for(self):
        for exchange in ("fp32", "bf16"):
            for lo, length in ((0, 1), (4, 3), (0, 12)):
                for announce in (None, lambda buckets: None):
                    with self.subTest(exchange=exchange, run=(lo, length)):
                        plain, sums = self.compute(replica_of("Normed", exchange), lo, length)
                        replica = self.cuda_replica("Normed", exchange)
                        target, partial = self.compute(replica, lo, length, announce)
                        self.assertTrue(torch.equal(target.memory, plain.memory))
                        self.assertEqual((partial.loss, partial.weight), (sums.loss, sums.weight))
                        self.assertGreater(self.cuda.streams[-1].synchronized, 0)
                        self.assertNotIn(target, replica.pool.free)

    def test_all_of_the_last_microbatch_is_written_on_the_stream_that_copies_it(self):
        for announce in (None, lambda buckets: None):
            self.on.clear()
            self.compute(self.cuda_replica("Plain"), 0, 1, announce)
            self.assertEqual(set(map(id, self.on)), {id(self.cuda.streams[-1])})

    def test_a_failed_backward_pass_leaves_no_copy_under_way(self):
        announced = []
        with self.assertRaises(CommandFailed):
            self.compute(self.cuda_replica("Hooked", how="raise"), 0, 1, announced.append)
        (stream,) = self.cuda.streams
        self.assertGreater(len(stream.events), 0)
        self.assertTrue(all(event.done for event in stream.events))


class ReducedVectorTest(unittest.TestCase):
    def test_a_bf16_vector_is_copied_as_it_is_and_widened_on_the_device(self):
        shapes = [torch.Size([33]), torch.Size([5])]
        narrow, wide = (ExchangeLayout(shapes, [], dtype) for dtype in (torch.bfloat16, torch.float32))
        reduced = ExchangeVector(narrow, torch.zeros(narrow.vector_bytes, dtype=torch.uint8))
        reduced.gradient_part.copy_(torch.arange(len(reduced.gradient_part)))
        reduced.rest.fill_(3)
        replica = SimpleNamespace(device=CUDA, pool=VectorPool(narrow, "cpu"), reduced_pool=VectorPool(wide, "cpu"))
        average = replica.reduced_pool.take()
        self.assertTrue(take_average(replica, reduced, 4.0, average))
        expected = [(view.float() / 4.0).tolist() for view in reduced.gradients]
        self.assertEqual([view.tolist() for view in average.gradients], expected)
        self.assertEqual(average.rest.tolist(), reduced.rest.tolist())
        (arrived,) = replica.pool.free
        self.assertIsNot(arrived, reduced)
        self.assertTrue(torch.equal(arrived.memory, reduced.memory))
        reduced.memory.fill_(255)
        self.assertEqual(average.counters.tolist(), [3.0, 3.0])

    def test_an_infinite_sum_is_seen_before_the_division_could_hide_it(self):
        layout = ExchangeLayout([torch.Size([33])], [], torch.float32)
        reduced = ExchangeVector(layout, torch.zeros(layout.vector_bytes, dtype=torch.uint8))
        pool = VectorPool(layout, "cpu")
        replica = SimpleNamespace(device=CUDA, pool=pool, reduced_pool=pool)
        reduced.gradient_part[7] = float("inf")
        self.assertFalse(take_average(replica, reduced, float("inf"), pool.take()))


class OptimizerStateTest(unittest.TestCase):
    def test_a_state_has_the_same_bytes_whatever_the_device_and_its_tensors_go_to_their_parameters(self):
        meta = torch.device("meta")
        model = torch.nn.Linear(2, 1)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1, foreach=False)
        model(torch.ones(2)).sum().backward()
        optimizer.step()
        packed = pack_optimizer(optimizer)
        state = unpack_optimizer(packed.tree, packed.tensors, meta)
        self.assertEqual({key: value.device.type for key, value in state["state"][0].items()}, {"step": "cpu", "exp_avg": "meta", "exp_avg_sq": "meta"})
        moved = torch.optim.Adam(model.to(meta).parameters(), lr=0.1, foreach=False)
        restore_optimizer(moved, state)
        self.assertEqual(pack_optimizer(moved).tree, packed.tree)

    def test_what_an_optimizer_keeps_on_the_cpu_for_parameters_elsewhere_stays_there(self):
        parameter = torch.nn.Parameter(torch.zeros(2, device="meta"))
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        optimizer.state[parameter] = {"momentum_buffer": torch.ones(2)}
        packed = pack_optimizer(optimizer)
        state = unpack_optimizer(packed.tree, packed.tensors, torch.device("meta"))
        self.assertEqual(state["state"][0]["momentum_buffer"].device.type, "cpu")


class Cudart:
    """Answers like CUDA's runtime; `refuse` makes it refuse."""

    def __init__(self):
        self.registered = {}
        self.refuse = False

    def cudaHostRegister(self, address, size, flags):
        if self.refuse or address in self.registered:
            return 1
        self.registered[address] = size
        return 0

    def cudaHostUnregister(self, address):
        return 0 if self.registered.pop(address, None) else 713


class PinnedMemoryTest(unittest.TestCase):
    def setUp(self):
        self.cudart = Cudart()
        self.zeros = mock.Mock(side_effect=RuntimeError("CUDA error: invalid argument"))
        for name, value in {"torch.cuda.cudart": lambda: self.cudart, "torch.zeros": self.zeros}.items():
            patch = mock.patch(name, value)
            patch.start()
            self.addCleanup(patch.stop)
        self.fd = os.memfd_create("exchange")
        self.addCleanup(os.close, self.fd)
        os.ftruncate(self.fd, mmap.PAGESIZE)

    def grow(self, pages):
        os.ftruncate(self.fd, pages * mmap.PAGESIZE)

    def test_a_mapping_that_is_replaced_is_unpinned_and_the_new_one_pinned(self):
        memory = ExchangeMemory(self.fd, CUDA)
        region = memory.region(0, 100)
        self.assertEqual(self.cudart.registered, {region.data_ptr(): mmap.PAGESIZE})
        memory.region(0, 50)
        self.grow(3)
        region = memory.region(2 * mmap.PAGESIZE, 100)
        self.assertEqual(self.cudart.registered, {region.data_ptr() - 2 * mmap.PAGESIZE: 3 * mmap.PAGESIZE})
        self.zeros.assert_not_called()

    def test_what_was_never_pinned_is_not_unpinned_and_the_refusal_is_forgotten(self):
        self.cudart.refuse = True
        memory = ExchangeMemory(self.fd, CUDA)
        memory.region(0, 100)
        self.assertFalse(memory.pinned)
        self.zeros.assert_called_once_with(1, device="cuda")
        self.grow(2)
        self.cudart.refuse = False
        memory.region(0, 2 * mmap.PAGESIZE)
        self.assertTrue(memory.pinned)
        self.assertEqual(self.zeros.call_count, 1)

    def test_a_mapping_that_cannot_be_made_is_not_unpinned_twice(self):
        memory = ExchangeMemory(self.fd, CUDA)
        memory.region(0, 100)
        self.grow(2)
        with mock.patch("mmap.mmap", side_effect=OSError("Cannot allocate memory")), self.assertRaises(OSError):
            memory.region(0, 2 * mmap.PAGESIZE)
        memory.region(0, 2 * mmap.PAGESIZE)
        self.zeros.assert_not_called()

    def test_unpinning_what_is_not_pinned_leaves_no_error_behind(self):
        pinned_memory.unpin(mmap.mmap(self.fd, mmap.PAGESIZE))
        self.zeros.assert_called_once_with(1, device="cuda")


if __name__ == "__main__":
    unittest.main()
