"""Images whose pixels are the logits of a classifier, so that the right results are plain."""

from typing import NamedTuple

import numpy as np

from jaxvision.data.sources import Info, Source


class Coded(Source):
    """Images whose first pixels are the logits and whose label is known: the right answers are plain."""

    def __init__(self, n, k=7):
        rng = np.random.default_rng(n)
        self.scores = rng.integers(0, 256, (n, k)).astype(np.uint8)
        self.true = rng.integers(0, k, n)
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
