"""What bench:checkpoint trains: a model whose state is large, or a data set that is long. Neither computes much."""

import torch
from torch import nn

import lockstep


class LargeState(lockstep.Task):
    """`width`: Adam's state of the model is 36 * width * width bytes."""

    def model(self):
        width = self.params["width"]
        return nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(width, width, bias=False), nn.ReLU())))

    def dataset(self):
        return torch.utils.data.TensorDataset(torch.randn(256, self.params["width"]))

    def optimizer(self, model):
        return torch.optim.Adam(model.parameters(), lr=0.0001)

    def loss(self, model, batch):
        return model(batch[0]).square().mean()


class Counted(torch.utils.data.Dataset):
    """A million samples that are made when they are read."""

    digest = "counted"
    reads = 0

    def __len__(self):
        return 1_000_000

    def __getitem__(self, index):
        self.reads += 1
        return torch.tensor([float(index % 97)]), torch.tensor([float(index % 89)])


class LongData(lockstep.Task):
    def model(self):
        return nn.Linear(1, 1)

    def dataset(self):
        self.samples = Counted()
        return self.samples

    def lr(self, step):
        """Called once a step, after its samples were read."""
        if self.params.get("first") == step:
            print(f"read {self.samples.reads} samples for step {step}")

    def optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=0.000001)

    def loss(self, model, batch):
        return nn.functional.mse_loss(model(batch[0]), batch[1])
