"""A task that fills its folder for temporary files."""

import os
import tempfile
import time

import torch

import lockstep


class Greedy(lockstep.Task):
    def model(self):
        return torch.nn.Linear(1, 1)

    def dataset(self):
        for number in range(8):
            with open(os.path.join(tempfile.gettempdir(), f"part-{number}"), "wb") as file:
                file.write(os.urandom(2**20))
        time.sleep(60)
        return torch.utils.data.TensorDataset(torch.zeros(12, 1), torch.zeros(12, 1))

    def loss(self, model, batch):
        return torch.nn.functional.mse_loss(model(batch[0]), batch[1])

    def optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=0.3)
