"""The networks of this study as one program: an architecture is an argument, and its layers are choices among OPS.

Every operation is a 3x3 kernel, fixed or learned, so a layer is one convolution whose kernel is that of the chosen
operation. One compiled step then serves all architectures. `net.py` has the same networks for configs.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision.data import resident, sources
from jaxvision.sweep import choice

OPS = ("identity", "pixel", "conv3", "mean3")  # "pixel" and "conv3" are learned, and a ReLU follows them
LAYERS, CHANNELS, BATCH = 3, 16, 32
ADAM = optax.adam(3e-3)
DATA = dict(image_size=32, train=12_000, validation=1_000, test=1_000)  # as in configs/quickstart.py
Arrays = dict[str, Any]
Images = tuple[np.ndarray, np.ndarray]  # float32 [n, h, w, 3] in [-1, 1] and int32 [n]


def space(layers: int = LAYERS) -> dict[str, Any]:
    """Returns the space: an operation for each layer.

    Args:
      layers: Number of layers.
    """
    return {f"model.layer{i}": choice(*OPS) for i in range(layers)}


def load() -> list[Images]:
    """Reads training, validation and test images of `shapes`, at 16 pixels."""
    opened = [sources.open_source("shapes", split, options=DATA) for split in ("train[:6000]", "validation", "test")]
    arrays = [resident.load_arrays(source, "decode|resize(16)") for source in opened]
    return [(one["image"].astype(np.float32) / 127.5 - 1, one["label"]) for one in arrays]


def init(key: jax.Array, layers: int = LAYERS, channels: int = CHANNELS, classes: int = 10) -> Arrays:
    """Makes the arrays of every operation of every layer.

    Args:
      key: Random key.
      layers: Number of layers.
      channels: Number c of channels.
      classes: Number k of classes.
    """
    keys = iter(jax.random.split(key, 2 * layers + 2))

    def kernel(size: int, inputs: int, outputs: int) -> jax.Array:
        return jax.random.normal(next(keys), (size, size, inputs, outputs)) * np.sqrt(2 / (size * size * inputs))

    arrays: Arrays = {"stem": kernel(5, 3, channels)}
    for layer in space(layers):
        arrays[layer] = {"pixel": kernel(1, channels, channels), "conv3": kernel(3, channels, channels)}
    return arrays | {"head": jax.random.normal(next(keys), (channels, classes)) / np.sqrt(channels)}


def child(arrays: Arrays, point: dict[str, str]) -> Arrays:
    """Returns the arrays that an architecture uses: the same ones that others use, not copies.

    Args:
      arrays: Arrays of every operation.
      point: Operation of each layer.
    """
    used = {layer: arrays[layer][op] for layer, op in point.items() if op in arrays[layer]}
    return {"stem": arrays["stem"], **used, "head": arrays["head"]}


def chosen(point: dict[str, str]) -> np.ndarray:
    """Returns an architecture as `logits_of` takes it: float32 [layers, operations], one-hot.

    Args:
      point: Operation of each layer.
    """
    return np.array([[op == one for one in OPS] for op in point.values()], np.float32)


def logits_of(arrays: Arrays, ops: jax.Array, images: jax.Array) -> jax.Array:
    """Computes the logits of one architecture.

    Args:
      arrays: Arrays of every operation.
      ops: Operation of each layer, one-hot, float32 [layers, operations].
      images: float32 [b, h, w, 3].

    Returns:
      float32 [b, k].
    """
    x = jax.nn.relu(_conv(images, arrays["stem"], 4))  # b h/4 w/4 c
    c = x.shape[-1]
    centre = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    for i, layer in enumerate(space(len(ops))):
        own = arrays[layer]
        kernels = (centre * jnp.eye(c), centre * own["pixel"], own["conv3"], jnp.ones((3, 3, 1, 1)) / 9 * jnp.eye(c))
        y = _conv(x, sum(weight * kernel for weight, kernel in zip(ops[i], kernels)))
        learned = ops[i, 1] + ops[i, 2] > 0
        x = jnp.where(learned, jax.nn.relu(y), y)
    return x.mean((1, 2)) @ arrays["head"]


def loss_of(arrays: Arrays, ops: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Computes the mean cross entropy of one architecture, a scalar; see `logits_of`.

    Args:
      arrays: Arrays of every operation.
      ops: Operation of each layer, one-hot, float32 [layers, operations].
      images: float32 [b, h, w, 3].
      labels: int32 [b].
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits_of(arrays, ops, images), labels).mean()


@jax.jit
def step(arrays: Arrays, state: Any, ops: jax.Array, images: jax.Array, labels: jax.Array) -> tuple[Arrays, Any]:
    """Takes one step of Adam with one architecture; the arrays that it does not use have a gradient of 0.

    Args:
      arrays: Arrays of every operation.
      state: State of the optimizer.
      ops: Operation of each layer, one-hot, float32 [layers, operations].
      images: float32 [b, h, w, 3].
      labels: int32 [b].
    """
    updates, state = ADAM.update(jax.grad(loss_of)(arrays, ops, images, labels), state)
    return optax.apply_updates(arrays, updates), state


@jax.jit
def accuracy(arrays: Arrays, ops: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Computes the share of images that one architecture classifies right, a scalar.

    Args:
      arrays: Arrays of every operation.
      ops: Operation of each layer, one-hot, float32 [layers, operations].
      images: float32 [b, h, w, 3].
      labels: int32 [b].
    """
    return (logits_of(arrays, ops, images).argmax(-1) == labels).mean()


def batches(images: Images, seed: int, size: int = BATCH) -> Iterator[Images]:
    """Yields batches of randomly drawn examples, without end.

    Args:
      images: Images and labels to draw from.
      seed: Seed of the draws.
      size: Number of examples of a batch.
    """
    draws = np.random.default_rng(seed)
    while True:
        rows = draws.integers(len(images[0]), size=size)
        yield images[0][rows], images[1][rows]


def _conv(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
