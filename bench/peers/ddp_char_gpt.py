"""The char_gpt example under DistributedDataParallel and Gloo, with a checkpoint every `--save-every` steps, as its users write it.

Every rank prints `rank <number> <process>`, and rank 0 one line a step: `step <number> <seconds since the epoch>`.
"""

import argparse
import json
import os
import sys
import time
import types

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

# The example's task file wants a module `lockstep`; its model and data are all that is used here.
sys.modules["lockstep"] = types.SimpleNamespace(Task=object)


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--example", required=True)
    parser.add_argument("--params", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--save-every", type=int, required=True)
    parser.add_argument("--checkpoint", required=True)
    return parser.parse_args()


def say(line):
    """All ranks share a pipe, and torch.distributed.run starts them unbuffered: print() would write the end of the line by itself."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main():
    arguments = parse_arguments()
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank, size = distributed.get_rank(), distributed.get_world_size()
    say(f"rank {rank} {os.getpid()}")
    sys.path.insert(0, arguments.example)
    from task import CharGPT

    torch.manual_seed(1234)
    task = CharGPT()
    task.params, task.seed, task.device = json.loads(arguments.params), 1234, torch.device("cpu")
    model, data = task.model(), task.dataset()
    optimizer = task.optimizer(model)
    first = 0
    if os.path.exists(arguments.checkpoint):
        saved = torch.load(arguments.checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    wrapped = DistributedDataParallel(model)
    share = arguments.batch // size
    for step in range(first, arguments.steps):
        order = torch.Generator().manual_seed(step)
        samples = torch.randint(len(data), (arguments.batch,), generator=order)[rank * share : (rank + 1) * share]
        optimizer.zero_grad()
        task.loss(wrapped, data[samples]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = task.lr(step)
        optimizer.step()
        if rank == 0:
            say(f"step {step} {time.time():.6f}")
            if (step + 1) % arguments.save_every == 0:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
                torch.save(state, arguments.checkpoint + ".new")
                os.replace(arguments.checkpoint + ".new", arguments.checkpoint)


if __name__ == "__main__":
    main()
