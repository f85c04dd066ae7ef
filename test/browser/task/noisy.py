"""Prints what a page must not take for markup, and learns a line slowly."""
import time

import lockstep
import torch


class Noisy(lockstep.Task):
    def model(self):
        return torch.nn.Linear(1, 1)

    def dataset(self):
        x = torch.linspace(-1, 1, 960).reshape(-1, 1)
        return torch.utils.data.TensorDataset(x, 3 * x + 1)

    def loss(self, model, batch):
        print("<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script>")
        print("\x1b[31mred\x1b[0m \x1b]0;title\x07 \u202ebackwards")
        time.sleep(0.01)
        return torch.nn.functional.mse_loss(model(batch[0]), batch[1])

    def optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=0.01)
