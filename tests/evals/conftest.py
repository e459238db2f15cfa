"""A set of images with captions and classes, and a model of image and text without layers."""

import sys
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.data.sources import Info, Source
from jaxvision.evals import dataset, texts

HOST = "decode|tokenize('bytes', 24)"
DIMENSIONS = 12
CODES = np.random.default_rng(1).normal(size=(259, DIMENSIONS)).astype(np.float32)  # of a byte


class Pairs(Source):
    """Images of 12 numbers; `captions` of each may be several, and `labels` their classes."""

    def __init__(self, captions, labels=None, classes=(), seed=0):
        self.captions = captions
        self.images = np.random.default_rng(seed).integers(0, 256, (len(captions), 2, 2, 3)).astype(np.uint8)
        self.true = labels
        self.info = Info("pairs", "test", len(captions), tuple(classes), len(classes) or None)

    def __len__(self):
        return len(self.captions)

    def __getitem__(self, i):
        label = {} if self.true is None else {"label": int(self.true[i])}
        return {"image": self.images[i], "text": self.captions[i], **label}


class Towers(NamedTuple):
    """Images are themselves about their middle, a text is the sum of the codes of its bytes; times the variables."""

    def outputs(self, variables, batch):
        out = {}
        if "image" in batch:
            out["image_embedding"] = _unit(variables * (batch["image"].reshape(len(batch["image"]), -1) - 0.5))
        if "tokens" in batch:
            codes = jnp.asarray(CODES)[batch["tokens"]] * batch["tokens_mask"][:, :, None]
            out["text_embedding"] = _unit(variables * codes.sum(axis=1))
        return out


def _unit(x):
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def image_embeddings(source):
    """The same in NumPy."""
    x = source.images.reshape(len(source), -1) / 255 - 0.5
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def text_embedding(text):
    """The same of one text in NumPy, from its bytes."""
    x = CODES[[1, *(byte + 3 for byte in text.encode()[:22]), 2]].sum(axis=0)
    return x / np.linalg.norm(x)


def open_set(source, mesh, fields=("image", "label"), **options):
    """The split, and how the model is given texts."""
    data = dataset.EvalSet(source, host="decode", augment="", batch_size=16, mesh=mesh, fields=fields, **options)
    return dict(task=Towers(), data=data, texts=texts.find_texts(HOST))


VARIABLES = jnp.float32(2.0)
BROKEN = jnp.float32(jnp.nan)


@pytest.fixture(scope="session")
def pairs():
    """What this file defines."""
    return sys.modules[__name__]
