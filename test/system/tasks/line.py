"""The task of README.md, at a pace that leaves a test the time to interfere."""

import subprocess
import time

import torch

import lockstep


class Line(lockstep.Task):
    def model(self):
        return torch.nn.Linear(1, 1)

    def dataset(self):
        if self.params.get("helper"):
            # In a session and an environment of its own: only its parents tell where it comes from.
            self.helper = subprocess.Popen(["sleep", "1000"], start_new_session=True, env={})
        x = torch.linspace(-1, 1, 960).reshape(-1, 1)
        return torch.utils.data.TensorDataset(x, 3 * x + 1)

    def loss(self, model, batch):
        time.sleep(self.params.get("pause", 0))
        return torch.nn.functional.mse_loss(model(batch[0]), batch[1])

    def optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=0.3)
