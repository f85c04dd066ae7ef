"""Opens a checkpoint without Lockstep, and measures the model in it as `evaluate` in the cluster does.

    python3 plain_checkpoint_reader.py CHECKPOINT BUNDLE FILE.py:CLASS PARAMS-JSON SEED

Prints the task's metrics as one JSON object. The reader knows nothing but the format; lockstep is imported only for the class that
the user's task is derived from. Intra-op threads: OMP_NUM_THREADS, or 1.
"""

import hashlib
import importlib.util
import json
import os
import random
import struct
import sys
from pathlib import Path

import numpy
import torch

ENGINE_FOLDER = Path(__file__).resolve().parents[2] / "engine"


# The whole reader, in 20 lines.
TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool,
         "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}

def read_checkpoint(folder):
    with open(f"{folder}/manifest.json") as file:
        manifest = json.load(file)
    weights = {}
    for shard in manifest["shards"]:
        data = numpy.fromfile(f"{folder}/{shard['file']}", dtype=numpy.uint8)
        data_at = 8 + struct.unpack("<Q", data[:8])[0]
        for name, entry in json.loads(data[8:data_at].tobytes()).items():
            if name.startswith(("parameter.", "buffer.")):
                begin, end = entry["data_offsets"]
                tensor = torch.tensor(data[data_at + begin : data_at + end]).view(TYPES[entry["dtype"]])
                weights[name] = tensor.reshape(entry["shape"])
    metadata = json.loads(manifest["state"]["header"])["__metadata__"]
    shared = json.loads(metadata.get("shared", "{}"))
    weights.update({name: weights[stored] for name, stored in shared.items()})
    return {name.partition(".")[2]: tensor for name, tensor in weights.items()}


def seed_for_load(seed):
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_for_evaluate(seed):
    digest = hashlib.sha256(repr(("evaluate", seed)).encode()).digest()
    random.seed(digest)
    numpy.random.seed(numpy.frombuffer(digest, dtype="<u4"))
    torch.manual_seed(int.from_bytes(digest[:8], "little"))


def make_task(bundle, name, params, seed):
    file, _, class_name = name.rpartition(":")
    path = os.path.join(bundle, file)
    sys.path[:0] = [os.path.dirname(path), str(ENGINE_FOLDER)]
    stem = os.path.basename(path)[: -len(".py")]
    spec = importlib.util.spec_from_file_location(stem, path)
    module = sys.modules[stem] = importlib.util.module_from_spec(spec)
    seed_for_load(seed)
    spec.loader.exec_module(module)
    task_class = getattr(module, class_name)
    task = task_class.__new__(task_class)
    task.params, task.seed, task.device = params, seed, torch.device("cpu")
    task.__init__()
    return task


def load_model(task, folder, seed):
    seed_for_load(seed)
    model = task.model()
    model.load_state_dict(read_checkpoint(folder))
    seed_for_load(seed)
    # evaluate() may use what dataset() has set up.
    task.dataset()
    return model


def main():
    folder, bundle = map(os.path.abspath, sys.argv[1:3])
    name, params, seed = sys.argv[3], json.loads(sys.argv[4]), int(sys.argv[5])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.use_deterministic_algorithms(True)
    # The engine runs there too.
    os.chdir(bundle)
    sys.dont_write_bytecode = True
    task = make_task(bundle, name, params, seed)
    model = load_model(task, folder, seed).eval()
    seed_for_evaluate(seed)
    with torch.no_grad():
        metrics = task.evaluate(model) or {}
    print(json.dumps({name: float(value) for name, value in metrics.items()}))


if __name__ == "__main__":
    main()
