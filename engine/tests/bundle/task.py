"""Small tasks that the tests train, in the engine and in plain PyTorch loops."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import lockstep


class Points:
    """40 fixed points of 6 numbers, and a class each."""

    digest = "forty points"

    def __init__(self):
        generator = torch.Generator().manual_seed(3)
        self.x = torch.randn(40, 6, generator=generator)
        self.y = torch.randint(0, 3, (40,), generator=generator)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class Plain(lockstep.Task):
    """A two-layer network, mean loss, Adam."""

    def model(self):
        return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))

    def dataset(self):
        return Points()

    def loss(self, model, batch):
        return functional.cross_entropy(model(batch[0]), batch[1])

    def optimizer(self, model):
        return torch.optim.Adam(model.parameters(), lr=0.05)


class Summed(Plain):
    """(sum, weight), where the weight is no count of samples."""

    def loss(self, model, batch):
        weights = 1.0 + batch[1].float()
        losses = functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
        return (losses * weights).sum(), weights.sum()


class Scheduled(Plain):
    def optimizer(self, model):
        groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr_scale": 0.5}]
        return torch.optim.SGD(groups, lr=9.0, momentum=0.9)

    def lr(self, step):
        return 0.1 / (1 + step)


class Normed(Plain):
    def model(self):
        return nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


class Dropped(Plain):
    def model(self):
        return nn.Sequential(nn.Linear(6, 32), nn.Dropout(0.5), nn.Linear(32, 3))


class Tied(nn.Module):
    """One matrix used twice, one frozen layer, one layer that no loss reaches."""

    def __init__(self):
        super().__init__()
        self.inner, self.frozen, self.unused = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(2, 2)
        self.again = self.inner
        self.out = nn.Linear(6, 3)
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.out(self.again(self.frozen(self.inner(x)).tanh()))


class TiedTask(Plain):
    def model(self):
        return Tied()

    def optimizer(self, model):
        return torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.3)


class Expanded(Plain):
    """Two names for a buffer of which all elements lie in one place."""

    def model(self):
        model = super().model()
        model.register_buffer("scale", torch.ones(1).expand(3))
        model[0].register_buffer("scale", model.scale)
        return model

    def loss(self, model, batch):
        return functional.cross_entropy(model(batch[0]) * model.scale, batch[1])


class RandomRate(Plain):
    def lr(self, step):
        return torch.rand(()).item()


class Keeping(Plain):
    """The optimizer's state has the last gradient itself, no copy."""

    def optimizer(self, model):
        return WithLastGradient(model.parameters(), {"lr": 0.2})


class WithLastGradient(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                last = self.state[parameter].get("last", torch.zeros(()))
                parameter.sub_(parameter.grad + last, alpha=group["lr"])
                self.state[parameter]["last"] = parameter.grad.detach()


class Mixture(nn.Module):
    """A tensor of every kind that a state can hold: of other types, transposed, empty, without dimensions."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.turned = nn.Parameter(torch.randn(3, 6).t())
        self.narrow = nn.Parameter(torch.randn(5).bfloat16(), requires_grad=False)
        self.nothing = nn.Parameter(torch.empty(0, 4), requires_grad=False)
        self.register_buffer("total", torch.tensor(0.1, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("flags", torch.tensor([True, False, True]))
        self.register_buffer("scratch", torch.ones(2), persistent=False)
        self.register_buffer("total_again", self.total)

    def forward(self, x):
        if self.training:
            self.total.add_(x.double().sum())
            self.count.add_(len(x))
        return self.layer(x) + x @ self.turned


class Mixed(Plain):
    def model(self):
        return Mixture()

    def evaluate(self, model):
        points = self.points
        return {"noisy_loss": functional.cross_entropy(model(points.x) + torch.rand(40, 3), points.y).item(), "total": model.total}

    def dataset(self):
        self.points = Points()
        return self.points


class Wide(Plain):
    """Two million parameters, so that a copy of the state cannot be overlooked."""

    def model(self):
        return nn.Sequential(nn.Linear(6, 200_000), nn.Tanh(), nn.Linear(200_000, 3))


class Hooked(Plain):
    """A hook that runs in the backward pass, when the gradients of the second layer are there, does what `params["how"]` says."""

    def loss(self, model, batch):
        def hook(gradient):
            if self.params["how"] == "raise":
                raise ValueError("in a hook")
            if self.params["how"] == "change":
                model[2].weight.grad.mul_(2)

        hidden = model[1](model[0](batch[0]))
        hidden.register_hook(hook)
        return functional.cross_entropy(model[2](hidden), batch[1])


class Checkpointed(Plain):
    """Every layer is checkpointed, and the one in the middle is used twice: each use adds to its gradient."""

    def model(self):
        return nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)])

    def loss(self, model, batch):
        x = batch[0].requires_grad_()
        for place in (0, 1, 1, 2):
            x = checkpoint(model[place], x, use_reentrant=self.params["reentrant"])
        return functional.cross_entropy(x, batch[1])


class TwoBackwards(Plain):
    """loss() runs a backward pass itself, and its gradients count too."""

    def loss(self, model, batch):
        functional.mse_loss(model(batch[0]), torch.zeros(len(batch[0]), 3)).backward()
        return super().loss(model, batch)


class Sparse(Plain):
    """The embedding's gradient is sparse, which cannot be exchanged; the other is there first."""

    def model(self):
        return nn.Sequential(nn.Embedding(5, 8, sparse=True), nn.Linear(8, 3))

    def loss(self, model, batch):
        return functional.cross_entropy(model(batch[1]), batch[1])


class Randomised(Plain):
    """Draws from all three global generators, in the data and in the loss."""

    def dataset(self):
        return NoisyPoints()

    def loss(self, model, batch):
        noise = torch.randn(())
        return functional.cross_entropy(model(batch[0]), batch[1]) * (1 + 0.1 * noise)


class NoisyPoints(Points):
    def __getitem__(self, index):
        import random

        import numpy

        x, y = super().__getitem__(index)
        return x + random.random() + float(numpy.random.rand()), y


class Exploding(Plain):
    """A gradient that is not finite whenever sample 13 is read."""

    def dataset(self):
        points = Points()
        points.x[13] = float("nan")
        return points


class Printing(Plain):
    def evaluate(self, model):
        import sys

        print("a line")
        sys.stdout.buffer.write(b"\xff\xfe binary\n")
        print("to stderr", file=sys.stderr)
        model(torch.zeros(1, 6))
        return {"training": float(model.training), "one": torch.tensor(1.0), "draw": torch.rand(()).item()}

    def finish(self, model):
        print("finished here")


class Evil(Plain):
    """Does what `params["how"]` says in the method that it names."""

    def loss(self, model, batch):
        how = self.params.get("how")
        loss = super().loss(model, batch)
        if how == "raise":
            raise KeyError("from loss")
        if how == "exit":
            raise SystemExit(3)
        if how == "interrupt":
            raise KeyboardInterrupt
        if how == "memory":
            raise MemoryError("no room")
        if how == "vector":
            return loss.reshape(1) * torch.ones(2)
        if how == "float":
            return 1.5
        if how == "no_grad":
            return loss.detach()
        if how == "three":
            return loss, 1, 2
        if how == "note":
            error = ValueError("itself")
            error.__notes__ = ["a note of it"]
            raise error
        if how == "huge_weight":
            return loss, 10**400
        if how == "unfreezes":
            model.still.requires_grad_(True)
        if how == "nan_weight":
            return loss, float("nan")
        if how == "zero_weight":
            return loss, 0
        if how == "text_weight":
            return loss, "many"
        if how == "integer":
            return torch.tensor(3)
        if how == "writes_parameter":
            with torch.no_grad():
                model[0].weight.mul_(0.5)
            return super().loss(model, batch)
        if how == "adds_parameter":
            model.extra = nn.Parameter(torch.zeros(2))
        if how == "replaces_parameter":
            model[0].weight = nn.Parameter(torch.zeros(9, 6))
        if how == "freezes":
            model[0].weight.requires_grad_(False)
        if how == "writes_buffer":
            model.flag.fill_(True)
        if how == "backward":
            return Fails.apply(loss)
        return loss

    def model(self):
        model = super().model()
        model.register_buffer("flag", torch.tensor(False))
        model.still = nn.Parameter(torch.zeros(1), requires_grad=False)
        return model

    def evaluate(self, model):
        how = self.params.get("how")
        if how == "evaluate_writes":
            model[2].bias.add_(1.0)
        return {
            "evaluate_list": [1.0],
            "evaluate_huge": {"accuracy": 10**400},
            "evaluate_nan": {"accuracy": float("nan")},
            "evaluate_text": {"accuracy": "good"},
            "evaluate_key": {3: 1.0},
            "evaluate_many": {str(number): 1.0 for number in range(257)},
            "evaluate_long_name": {"x" * 129: 1.0},
        }.get(how, {})

    def lr(self, step):
        return {"lr_nan": float("nan"), "lr_text": "fast", "lr_huge": 10**400}.get(self.params.get("how"))

    def collate(self, samples):
        if self.params.get("how") == "collate":
            raise RuntimeError("cannot stack")
        return super().collate(samples)


class Fails(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        raise ValueError("in backward")


class Forking(Plain):
    """evaluate() has a child that has a child."""

    def evaluate(self, model):
        import os

        for _ in range(2):
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                break
        else:
            os._exit(0)
        if os.getpid() != self.pid:
            os._exit(0)
        return {}

    def dataset(self):
        import os

        self.pid = os.getpid()
        return super().dataset()


class Replacing(Plain):
    """evaluate() puts a stream of its own in the place of standard output."""

    def evaluate(self, model):
        import sys

        class Refusing:
            def write(self, text):
                pass

            def flush(self):
                raise RuntimeError("no flush")

        sys.stdout = Refusing()
        return {}
