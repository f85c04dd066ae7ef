"""Changes of what a model consists of are seen, of plain and of scripted ones."""

import unittest

import torch
from torch import nn

import engine_path  # noqa: F401
from lockstep.model_structure import ModelStructure


def plain():
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


class ModelStructureTest(unittest.TestCase):
    def test_training_changes_nothing(self):
        for model in (plain(), torch.jit.script(plain())):
            structure = ModelStructure(model)
            model(torch.ones(3, 2)).sum().backward()
            self.assertTrue(structure.is_unchanged())

    def test_what_comes_goes_or_is_replaced_is_seen_until_it_is_accepted(self):
        changes = [
            lambda model: model.add_module("more", nn.Identity()),
            lambda model: delattr(model[0], "bias"),
            lambda model: setattr(model[0], "weight", nn.Parameter(torch.zeros(2, 2))),
            lambda model: model[1].register_buffer("more", torch.zeros(1)),
        ]
        for number, change in enumerate(changes):
            with self.subTest(number):
                model = plain()
                structure = ModelStructure(model)
                change(model)
                self.assertFalse(structure.is_unchanged())
                structure.accept()
                self.assertTrue(structure.is_unchanged())


if __name__ == "__main__":
    unittest.main()
