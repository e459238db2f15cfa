"""The clips of experiments/own_parts: what the source draws, a loss by hand, and the whole path of a run."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.own_parts.clips import DIRECTIONS, MovingSquares, make_clips
from jaxvision import augment, models
from jaxvision.errors import UserError
from jaxvision.fields import Field


def lenet(k):
    return models.build("lenet", k)


@pytest.fixture(scope="module")
def source():
    return MovingSquares(None, "train", ("image", "label"), examples=20)


def test_a_square_moves_in_the_direction_of_its_label(source):
    seen = set()
    for index in range(len(source)):
        clip, label = source[index].values()
        for before, after in itertools.pairwise(clip):
            dy, dx = np.array(list(DIRECTIONS.values())[label]) * 4
            there = np.roll(before.min(-1) == 255, (dy, dx), (0, 1))
            np.testing.assert_array_equal(there, after.min(-1) == 255)
        seen.add(label)
    assert seen == set(range(4))
    np.testing.assert_array_equal(source[3]["image"], source[3]["image"])


@pytest.fixture(scope="module")
def batch(source):
    examples = [source[i] for i in range(6)]
    raw = {name: jnp.asarray(np.stack([one[name] for one in examples])) for name in ("image", "label")}
    transform = augment.make_augmentation("flip_lr|normalize(0.5, 0.5)", fields=source.fields)
    return transform(jax.random.key(0), raw)


def test_the_loss_is_that_of_the_frames_in_their_order(source, batch, random_variables):
    task = make_clips(model=lenet, fields=source.fields)
    variables = random_variables(task.init, batch)
    assert batch["image"].shape == (6, 4, 32, 32, 3)
    value, (metrics, _) = jax.jit(task.loss)(variables, batch, jax.random.key(0))
    params = dict(variables["params"])
    over_time, head, trunk = params["over_time"], params["head"], params["backbone"]
    frames = [lenet(None).apply({"params": trunk}, batch["image"][:, t])[0] for t in range(4)]
    hidden = np.maximum(np.concatenate(frames, axis=1) @ over_time["kernel"] + over_time["bias"], 0)
    logits = np.asarray(hidden @ head["kernel"] + head["bias"], np.float64)
    log_p = (
        logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True)) - logits.max(1)[:, None]
    )
    np.testing.assert_allclose(value, -log_p[np.arange(6), batch["label"]].mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["top1"], np.mean(logits.argmax(1) == batch["label"]))


def test_images_that_are_no_clips_are_refused(source):
    fields = {**source.fields, "image": Field("image", (32, 32, 3), "uint8")}
    with pytest.raises(UserError, match=r"reads clips \[T, H, W, 3\], and the images of this set have"):
        make_clips(model=lenet, fields=fields)
