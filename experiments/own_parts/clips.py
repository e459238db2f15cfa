"""Example of your own task and source: clips, and in which direction a square moves in them.

Run:       jaxvision train --config=configs/own_parts/clips.py --workdir=runs/clips
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.data.sources import Info, Source
from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.losses.classification import softmax_cross_entropy
from jaxvision.registry import part
from jaxvision.tasks.task import Task, in_training

DIRECTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def clip_fields(frames: int = 4, size: int = 32, **options: Any) -> dict[str, Field]:
    """The fields of `MovingSquares` with these options, for use without making a clip.

    Args:
      frames: Number of frames of a clip.
      size: Side of a frame in pixels.
      options: Other options of `MovingSquares`, which do not change the fields.
    """
    return {
        "image": Field("image", (frames, size, size, 3), "uint8"),
        "label": Field("label", (), "int32", len(DIRECTIONS), tuple(DIRECTIONS)),
    }


@part("data set", fields=clip_fields)
class MovingSquares(Source):
    """Clips uint8 [t, s, s, 3] of a bright square that moves over noise, by an eighth of the side per frame.

    A single frame does not show the direction: the square starts anywhere, and re-enters on the opposite side.

    Args:
      data_dir: Folder of the data; not used, because the clips are generated.
      split: Name of the split, "train" or "validation".
      fields: Names of the fields that a batch needs; all are given.
      examples: Number of clips.
      frames: Number of frames of a clip.
      size: Side of a frame in pixels.

    Raises:
      UserError: The split is unknown.
    """

    def __init__(
        self,
        data_dir: str | None,
        split: str,
        fields: tuple[str, ...],
        *,
        examples: int = 2_000,
        frames: int = 4,
        size: int = 32,
    ):
        if split not in ("train", "validation"):
            raise UserError(f"moving squares have the splits train and validation, not {split!r}")
        self._seed, self._frames, self._size, self._examples = int(split == "train"), frames, size, examples
        kinds = clip_fields(frames, size)
        self.info = Info("moving squares", split, examples, tuple(DIRECTIONS), len(DIRECTIONS), fields=kinds)

    def __len__(self) -> int:
        return self._examples

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self._seed, index])
        label = int(rng.integers(len(DIRECTIONS)))
        step = self._size // 8 * np.array(list(DIRECTIONS.values())[label])
        start = rng.integers(0, self._size, 2)
        clip = rng.integers(0, 128, (self._frames, self._size, self._size, 3), np.uint8)
        for t, frame in enumerate(clip):
            y, x = ((start + t * step)[:, None] + np.arange(self._size // 4)) % self._size
            frame[np.ix_(y, x)] = 255
        return {"image": clip, "label": label}


class OverFrames(nn.Module):
    """Applies a backbone to every frame of clips [b, t, h, w, 3], and a dense layer to all features in order."""

    backbone: nn.Module
    classes: int

    @nn.compact
    def __call__(self, clips: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        b, t = clips.shape[:2]
        features, _ = self.backbone(clips.reshape(b * t, *clips.shape[2:]), train)
        features = features.reshape(b, -1)  # b td
        hidden = nn.relu(nn.Dense(64, name="over_time")(features))
        return hidden, nn.Dense(self.classes, name="head")(hidden)


def make_clips(*, model: Callable[[int | None], nn.Module], fields: Mapping[str, Field]) -> Task:
    """A task that fits the label of each clip.

    Args:
      model: Function whose `model(None)` builds the backbone, which sees one frame at a time.
      fields: Fields of a batch.

    Raises:
      UserError: The images are not clips.

    Batches: `image` float [b, t, h, w, 3]; `label` int32 [b]. Metrics: `top1`. Outputs: `features` and `logits`.
    """
    shape = fields["image"].shape
    if len(shape) != 4 or fields["image"].views:
        raise UserError(f"the task reads clips [T, H, W, 3], and the images of this set have the shape {list(shape)}")
    network = OverFrames(model(None), fields["label"].classes)

    def init(rng, batch):
        return network.init(rng, batch["image"], train=False)

    def loss(variables, batch, rng):
        (_, logits), updates = in_training(network, variables, batch["image"], rng=rng)
        right = jnp.mean(logits.argmax(-1) == batch["label"])
        return softmax_cross_entropy(logits, batch["label"]).mean(), ({"top1": right}, updates)

    def outputs(variables, batch):
        features, logits = network.apply(variables, batch["image"], train=False)
        return {"features": features, "logits": logits}

    return Task(init, loss, outputs, progress=("top1",), labelled=True)
