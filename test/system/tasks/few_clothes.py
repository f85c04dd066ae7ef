"""The example fashion_mnist with fewer samples, so that a test sees whole epochs."""

import torch

from task import FashionMnist


class FewClothes(FashionMnist):
    def dataset(self):
        return torch.utils.data.Subset(super().dataset(), range(self.params["samples"]))

    def evaluate(self, model):
        return {}
