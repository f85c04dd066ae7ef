"""A job of many short steps with a gradient of a few MiB: nearly all of its time is exchange."""

import torch
from torch import nn

import lockstep


class Wide(lockstep.Task):
    def model(self):
        return nn.Linear(64, self.params["width"])

    def dataset(self):
        return torch.utils.data.TensorDataset(torch.randn(960, 64), torch.randint(10, (960,)))

    def optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=0.01)

    def loss(self, model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])
