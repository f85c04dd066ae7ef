"""A task with one mistake, which the job file's `params.mistake` names."""

import subprocess
import sys

import torch

import lockstep


class Mistake(Exception):
    pass


class Samples(torch.utils.data.TensorDataset):
    def __init__(self, task, *tensors):
        super().__init__(*tensors)
        self.task = task

    def __getitem__(self, index):
        self.task.perhaps("__getitem__")
        return super().__getitem__(index)


class Faulty(lockstep.Task):
    def perhaps(self, method):
        mistake = self.params["mistake"]
        if mistake == method:
            raise Mistake(f"in {method}")
        if mistake == f"exit in {method}":
            sys.exit(3)

    def model(self):
        self.perhaps("model")
        return torch.nn.ReLU() if self.params["mistake"] == "no parameters" else torch.nn.Linear(1, 1)

    def dataset(self):
        self.perhaps("dataset")
        x = torch.linspace(-1, 1, 96).reshape(-1, 1)
        return Samples(self, x, 3 * x + 1)

    def loss(self, model, batch):
        self.perhaps("loss")
        if self.params["mistake"] == "prints binary":
            sys.stdout.buffer.write(bytes(range(256)) + b"\nafter the bytes\n")
        if self.params["mistake"] == "leaves a process":
            # In a session and an environment of its own: only its parents tell where it comes from.
            self.left = subprocess.Popen(["sleep", "1000"], start_new_session=True, env={}, close_fds=False)
            print("left process", self.left.pid)
        difference = model(batch[0]) - batch[1]
        return difference if self.params["mistake"] == "no scalar" else (difference**2).mean()

    def optimizer(self, model):
        self.perhaps("optimizer")
        parameters = list(model.parameters()) or [torch.nn.Parameter(torch.zeros(1))]
        return torch.optim.SGD(parameters, lr=0.1)

    def lr(self, step):
        self.perhaps("lr")
        return 0.1

    def evaluate(self, model):
        self.perhaps("evaluate")
        return {"bias": model.bias.item()}
