"""Safetensors files: a round trip of every type, and every malformed file refused with its reason."""

import json
import os
import struct
import tempfile
import unittest
from unittest import mock

import torch

import engine_path  # noqa: F401
import lockstep
from lockstep.safetensors import TYPE_NAMES, BadSafetensors, make_image


def file_of(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape, begin, end, dtype="F32", **more):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}


BAD_FILES = {
    "an empty file": (b"", "too few"),
    "seven bytes": (b"\0" * 7, "too few"),
    "a header of 2^60 bytes": (struct.pack("<Q", 2**60) + b"{}", "at most 100000000"),
    "a header longer than the file": (struct.pack("<Q", 50) + b"{}", "the file has 10"),
    "a pickle": (file_of(b"\x80\x04\x95garbage"), "does not begin with '{'"),
    "a zip archive, as torch.save writes": (b"PK\x03\x04\x00\x00\x08\x08" + b"\0" * 60, "torch.save wrote"),
    "a pickle, as torch.save wrote": (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20", "torch.save wrote"),
    "a header that is cut off": (file_of(b'{"a": '), "not JSON"),
    "a header that is not UTF-8": (file_of(b'{"\xff": 1}'), "not JSON"),
    "a header nested too deeply": (file_of(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "not JSON"),
    "a name twice": (file_of(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'), "twice"),
    "metadata that is no text": (file_of({"__metadata__": {"a": 1}}), "__metadata__"),
    "an unknown dtype": (file_of({"a": tensor([1], 0, 4, "F8_E9")}, b"\0" * 4), "unknown dtype 'F8_E9'"),
    "a dtype that is a list": (file_of({"a": tensor([1], 0, 4, ["F32"])}, b"\0" * 4), "unknown dtype"),
    "an unknown key": (file_of({"a": tensor([1], 0, 4, more=1)}, b"\0" * 4), "exactly"),
    "an entry that is a number": (file_of({"a": 3}), "exactly"),
    "a negative size": (file_of({"a": tensor([-1], 0, 4)}, b"\0" * 4), "shape"),
    "a size that is true": (file_of({"a": tensor([True], 0, 4)}, b"\0" * 4), "shape"),
    "a size that is a fraction": (file_of({"a": tensor([1.0], 0, 4)}, b"\0" * 4), "shape"),
    "65 dimensions": (file_of({"a": tensor([1] * 65, 0, 4)}, b"\0" * 4), "shape"),
    "a shape that overflows": (file_of({"a": tensor([2**40, 2**40], 0, 4)}, b"\0" * 4), "overflows"),
    "a shape that overflows to zero in 64 bits": (file_of({"a": tensor([2**32, 2**32], 0, 0)}), "overflows"),
    "an empty shape whose strides overflow": (file_of({"a": tensor([0, 2**62, 2**62], 0, 0)}), "overflows"),
    "offsets that do not fit the shape": (file_of({"a": tensor([2], 0, 4)}, b"\0" * 4), "needs 8 bytes"),
    "offsets backwards": (file_of({"a": tensor([1], 4, 0)}, b"\0" * 4), "data_offsets"),
    "three offsets": (file_of({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, b"\0" * 8), "data_offsets"),
    "an overlap": (file_of({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, b"\0" * 12), "overlaps"),
    "two tensors on the same bytes": (file_of({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, b"\0" * 4), "overlaps"),
    "a gap": (file_of({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, b"\0" * 12), "gap of 4 bytes"),
    "a gap at the start": (file_of({"a": tensor([1], 4, 8)}, b"\0" * 8), "gap of 4 bytes"),
    "a truncated file": (file_of({"a": tensor([2], 0, 8)}, b"\0" * 7), "truncated"),
    "bytes after the end": (file_of({"a": tensor([1], 0, 4)}, b"\0" * 5), "1 bytes follow"),
    "a bool of 2": (file_of({"a": tensor([2], 0, 2, "BOOL")}, b"\x01\x02"), "BOOL"),
}


class SafetensorsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "x.safetensors")

    def write(self, data: bytes) -> None:
        with open(self.path, "wb") as file:
            file.write(data)

    def test_malformed_files_are_refused_with_the_reason(self):
        for name, (data, reason) in BAD_FILES.items():
            with self.subTest(name):
                self.write(data)
                with self.assertRaisesRegex(BadSafetensors, reason) as caught:
                    lockstep.load_model(self.path)
                self.assertIn(self.path, str(caught.exception))

    def test_the_smallest_good_file_is_read(self):
        self.write(file_of({"a": tensor([1], 0, 4), "__metadata__": {"k": "v"}}, struct.pack("<f", 1.5)))
        self.assertEqual(lockstep.load_model(self.path)["a"].tolist(), [1.5])

    def test_every_type_survives_bit_for_bit(self):
        tensors = {f"t.{name}": (torch.arange(6).reshape(2, 3) % 2).to(dtype) for dtype, name in TYPE_NAMES.items()}
        tensors.update(scalar=torch.tensor(3.25), none=torch.empty(0, 4), strided=torch.arange(12.0).view(3, 4).t(), ünïcode=torch.ones(1))
        tensors["nan"] = torch.tensor([float("nan"), -0.0, float("inf")])
        self.write(b"".join(make_image(tensors, {"format": "pt"}).pieces()))
        read = lockstep.load_model(self.path)
        self.assertEqual(read.keys(), tensors.keys())
        for name, expected in tensors.items():
            self.assertEqual((read[name].dtype, read[name].shape), (expected.dtype, expected.shape), name)
            self.assertEqual(read[name].contiguous().numpy().tobytes() if expected.dtype is not torch.bfloat16 else read[name].tolist(),
                             expected.contiguous().numpy().tobytes() if expected.dtype is not torch.bfloat16 else expected.tolist(), name)

    def test_every_truncation_of_a_good_file_is_refused(self):
        whole = b"".join(make_image({"a": torch.ones(3), "b": torch.ones(2, dtype=torch.int8)}, {}).pieces())
        for length in range(len(whole)):
            self.write(whole[:length])
            with self.assertRaises(BadSafetensors):
                lockstep.load_model(self.path)

    def test_a_fifo_is_refused_at_once(self):
        os.mkfifo(self.path)
        with self.assertRaisesRegex(BadSafetensors, "not a regular file"):
            lockstep.load_model(self.path)

    def test_tensors_are_read_to_the_processors_memory_whatever_the_default_device_is(self):
        self.write(file_of({"a": tensor([1], 0, 4)}, struct.pack("<f", 1.5)))
        empty = torch.empty
        with mock.patch("torch.empty", lambda *shape, device="meta", **more: empty(*shape, device=device, **more)):
            self.assertEqual(lockstep.load_model(self.path)["a"].tolist(), [1.5])


if __name__ == "__main__":
    unittest.main()
