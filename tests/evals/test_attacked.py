"""Accuracy under attack."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.data.sources import Info, Source
from jaxvision.errors import UserError
from jaxvision.evals import attacked, dataset


class Coded(Source):
    """Images whose first pixels are the logits."""

    def __init__(self, n, k=7):
        rng = np.random.default_rng(n)
        self.scores = rng.integers(0, 256, (n, k)).astype(np.uint8)
        self.true = np.where(rng.random(n) < 0.6, self.scores.argmax(1), rng.integers(0, k, n))
        self.info = Info("coded", "validation", n, (), k)

    def __len__(self):
        return len(self.true)

    def __getitem__(self, i):
        image = np.zeros((3, 3, 3), np.uint8)
        image.reshape(-1)[: self.scores.shape[1]] = self.scores[i]
        return {"image": image, "label": int(self.true[i])}


class ReadsPixels(NamedTuple):
    """A task whose logits are the first pixels."""

    k: int

    def outputs(self, variables, batch):
        return {"logits": variables["scale"] * batch["image"].reshape(len(batch["image"]), -1)[:, : self.k]}


def split(source, mesh, augment="", batch_size=8):
    return dataset.EvalSet(source, host="decode", augment=augment, batch_size=batch_size, mesh=mesh(1))


@pytest.mark.parametrize("augment", ["", "normalize(0.5, 0.25)"])
@pytest.mark.parametrize(("method", "seed"), [("fgsm", None), ("pgd", 0), ("pgd", None)])
def test_logits_that_are_pixels(mesh, method, seed, augment):
    """The attack darkens the pixel of the label and lightens the others, each by epsilon, under any normalisation."""
    source, epsilon = Coded(21, 3), 10 / 255
    run = attacked.make_attacked(
        task=ReadsPixels(3), data=split(source, mesh, augment), method=method, epsilon=epsilon, steps=6, seed=seed
    )
    result = run({"scale": jnp.float32(30.0)})
    pixels = source.scores.astype(np.float64)
    moved = np.clip(pixels + 10, 0, 255)
    moved[np.arange(21), source.true] = np.clip(pixels[np.arange(21), source.true] - 10, 0, 255)
    name = {"fgsm": "fgsm", "pgd": "pgd6"}[method] + "_eps0.0392/top1"
    assert result == {
        name: pytest.approx(np.mean(moved.argmax(1) == source.true)),
        "top1": pytest.approx(np.mean(pixels.argmax(1) == source.true)),
        "examples": 21,
    }
    assert result[name] < result["top1"]


def test_what_is_refused(mesh):
    data = split(Coded(8), mesh)
    with pytest.raises(UserError, match="'attacked' 'cw'.*fgsm, pgd"):
        attacked.make_attacked(task=ReadsPixels(7), data=data, method="cw")
    with pytest.raises(UserError, match="one view of an image"):
        attacked.make_attacked(task=ReadsPixels(7), data=split(Coded(8), mesh, "flip_both"))
