"""jaxvision from Python: what a notebook needs, as a few pure functions. `import jaxvision` gives all of them.

    create_model      a network by name
    load_weights      a network by name, filled from a file of another library
    load              a trained model, of a run or of `jaxvision convert`
    features          what a model makes of an array of images
    batches           shuffled batches of NumPy arrays in memory, endlessly
    create_training   the functions that train: the initial state, one step, and the outputs

The sections `model`, `task` and `optimizer` are those of a config, so what is found in a notebook can be written into
one. docs/python.md shows them in use.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxvision import augment as augmentation
from jaxvision import config as configs
from jaxvision import durations, models, parts, transfer
from jaxvision.commands import photos
from jaxvision.data import order, sources
from jaxvision.errors import UserError, unknown
from jaxvision.layout import Layout
from jaxvision.sections import InitSection, TrainSection
from jaxvision.tasks.task import PARTS, Batch
from jaxvision.train import state as states
from jaxvision.train import step as steps

Outputs = Callable[[Any, Any], dict[str, jax.Array]]


def create_model(name: str, num_classes: int | None = None, **options: Any) -> Any:
    """Creates a network.

    Args:
      name: Name of the model, such as "vit" or "resnet", or "package.module:function" of your own.
      num_classes: Length of the logits; None for a network without a classifier.
      **options: Options of that model, such as `variant="S/16"`.

    Returns:
      A Linen module: `model.init(key, images, train=False)` makes its variables, and
      `model.apply(variables, images, train=False)` takes float images [B, H, W, 3] and returns features [B, D] and a
      dict of every intermediate, the logits [B, K] among them.

    Raises:
      UserError: An unknown name, option or value; the message names the choices.

    >>> create_model("vit", num_classes=10, variant="Ti/4").width
    192
    """
    return models.build(name, num_classes, **options)


def load_weights(
    path: str,
    source: str,
    name: str,
    *,
    image_size: int | tuple[int, int] = 224,
    num_classes: int | None = None,
    head: str = "keep",
    **options: Any,
) -> tuple[Any, Any]:
    """Creates a network and fills it from a file of another library.

    Args:
      path: File with the weights: .safetensors, .npz, .h5.
      source: Library whose names the file uses, such as "timm" or "torchvision".
      name: Name of the model.
      image_size: Side of the images, or (height, width), for position embeddings; others than those of the file are
        interpolated.
      num_classes: Length of the logits; None for no classifier, and then `head="drop"`.
      head: "keep" the classifier of the file, "new" for one of other classes, which stays as it was drawn, or "drop".
      **options: Options of the model.

    Returns:
      The Linen module and its variables.

    Raises:
      UserError: No such file, arrays that do not fit the model, all of which are named, or a model that computes
        something else than the weights were trained with (another GELU or epsilon) without an option that says so.
    """
    section = {"name": name, **options}
    init = configs.call(InitSection, {"weights": path, "source": source, "head": head}, "init")
    transfer.check(init, section)
    module = models.build(name, num_classes, **options)
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    images = jnp.zeros((1, height, width, 3))
    variables = jax.jit(lambda: module.init(jax.random.key(0), images, train=False))()
    of_model = Layout(PARTS, tuple(PARTS))
    imported = transfer.load(init, section, variables, of_model)
    return module, jax.tree.map(jnp.asarray, imported.variables)


class Trained(NamedTuple):
    """A trained model.

    Attributes:
      outputs: Pure function of variables and images, uint8 [B, H, W, 3] or float in [0, 1], that prepares the images as
        training did and returns the outputs of the task: "features" [B, D], "logits" [B, K], and more.
      variables: Variables, on the devices.
      classes: Names of the classes; empty where there are none.
      image_size: (height, width) of the images that it was trained on.
    """

    outputs: Outputs
    variables: Any
    classes: tuple[str, ...]
    image_size: tuple[int, int]


def load(path: str, step: int | None = None) -> Trained:
    """Loads a trained model.

    Args:
      path: Folder of a run, or one that `jaxvision convert` wrote.
      step: Step of the checkpoint; the latest one by default.

    Raises:
      UserError: No model there.
    """
    model = photos.open_model(path, step)
    return Trained(_outputs(model.task.outputs, model.transform), model.variables, model.classes, model.shape)


def features(
    outputs: Outputs, variables: Any, images: np.ndarray, *, layer: str = "features", batch_size: int = 64
) -> np.ndarray:
    """Computes what a model makes of images.

    Args:
      outputs: Function of variables and images that returns a dict of arrays: `outputs` of what `load` or
        `create_training` return.
      variables: Variables of the model.
      images: Images, uint8 [N, H, W, 3] in 0 to 255, or float [N, H, W, 3] in [0, 1].
      layer: Name of the output: "features", "logits", or that of an intermediate.
      batch_size: Number of images at a time.

    Returns:
      float32 [N, ...], in the order of the images.

    Raises:
      UserError: Images of another shape, or a layer that there is not; the message names those that there are.
    """
    images = _checked(images)
    like = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    there = jax.eval_shape(outputs, variables, like)
    if layer not in there:
        raise unknown("layer", layer, there)

    @jax.jit
    def run(variables: Any, images: jax.Array) -> jax.Array:
        return outputs(variables, images)[layer].astype(jnp.float32)

    found = []
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        filling = np.zeros(
            (min(batch_size, len(images)) - len(part), *part.shape[1:]), part.dtype
        )  # one shape to compile
        found.append(np.asarray(run(variables, np.concatenate([part, filling])))[: len(part)])
    return np.concatenate(found)


def batches(arrays: Mapping[str, np.ndarray], batch_size: int, *, seed: int = 0, start: int = 0) -> Iterator[Batch]:
    """Yields shuffled batches without end: one permutation an epoch, a function of the seed and the step alone.

    Args:
      arrays: Arrays [N, ...] by field, such as `image` uint8 [N, H, W, 3] and `label` int [N].
      batch_size: Number of examples in a batch, at most N.
      seed: Seed of the order.
      start: Step of the first batch; with that of a state, the stream goes on where it was.

    Raises:
      UserError: Arrays of different lengths, or a batch larger than they are.

    >>> stream = batches({"x": np.arange(4)}, 2)
    >>> sorted([*next(stream)["x"], *next(stream)["x"]]) == [0, 1, 2, 3]
    True
    """
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) != 1:
        raise UserError(f"arrays of a batch must be of one length, not {sizes}")
    n = next(iter(sizes.values()))
    if not 1 <= batch_size <= n:
        raise UserError(f"batch_size must be from 1 to {n}, the number of examples, not {batch_size}")
    return _stream({name: np.asarray(array) for name, array in arrays.items()}, n, batch_size, seed, start)


def _stream(arrays: Mapping[str, np.ndarray], n: int, batch_size: int, seed: int, step: int) -> Iterator[Batch]:
    while True:
        rows = order.indices(seed, n, step * batch_size, (step + 1) * batch_size)
        yield {name: array[rows] for name, array in arrays.items()} | {"mask": np.ones(batch_size, bool)}
        step += 1


class Training(NamedTuple):
    """Pure functions that train.

    Attributes:
      init: Function of no arguments that makes the state of step 0; `state.variables` are those of the model.
      step: Function of a state and a batch that returns the next state and the metrics; to be jitted:
        `jax.jit(training.step, donate_argnums=0)`.
      outputs: Pure function of variables and images, as of `Trained`.
    """

    init: Callable[[], states.TrainState]
    step: Callable[[states.TrainState, Batch], tuple[states.TrainState, dict[str, jax.Array]]]
    outputs: Outputs


def create_training(
    batch: Batch,
    *,
    model: Mapping[str, Any],
    optimizer: Mapping[str, Any],
    total: int,
    task: Mapping[str, Any] | None = None,
    augment: str = "none",
    classes: int | None = None,
    seed: int = 0,
    precision: str = "float32",
    accumulate: int = 1,
    ema: float | None = None,
) -> Training:
    """Creates the functions that train a model, with nothing allocated yet.

    Args:
      batch: A batch, of which only shapes and types matter: `image` uint8 [B, H, W, 3], and what the task reads.
      model: Section `model` of a config: `dict(name="vit", variant="Ti/4")`.
      optimizer: Section `optimizer`: `dict(name="adamw", learning_rate=1e-3, schedule="cosine", warmup="100 steps")`.
      total: Number of steps of the run, for schedules.
      task: Section `task`; by default `dict(name="supervised")`.
      augment: Spec of augmentations inside the step: "random_crop(32, 4)|flip_lr|normalize(0.5, 0.5)".
      classes: Number of classes, which tasks with labels need.
      seed: Seed of the parameters and of every draw.
      precision: Type of the computation, "float32" or "bfloat16".
      accumulate: Number of parts of a batch that are computed one after the other.
      ema: Decay of the average of the variables, or None for no average.

    Raises:
      UserError: A section that does not fit, named with its key.
    """
    shapes = {name: jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x)) for name, x in batch.items()}
    rows = len(next(iter(batch.values())))
    section = dict(total=f"{total} steps", precision=precision, accumulate=accumulate, ema=ema)
    train = configs.call(TrainSection, section, "train")
    sections = {"model": dict(model), "task": dict(task or {"name": "supervised"}), "optimizer": dict(optimizer)}
    config = configs.normalised(ConfigDict({**sections, "seed": seed}))
    info = sources.Info("arrays", "", rows, (), classes)
    if needed := sorted(augmentation.needs_statistics(augment)):
        raise UserError(
            f"augment={augment!r} needs statistics of the training set ({', '.join(needed)}), which only runs from "
            "a config compute: use normalize(mean, std) with numbers"
        )
    transform = augmentation.make_augmentation(augment, classes)

    def to_steps(duration: str | int) -> int:
        return durations.steps(duration, batch_size=rows, total=total)

    made = parts.make_task(config, train, info, transform.fields, None, to_steps, total)
    augmented = jax.eval_shape(transform, jax.random.key(0), shapes)
    params = jax.eval_shape(made.init, jax.random.key(0), augmented)["params"]
    chain = parts.make_optimizer(config, None, made, params, to_steps, total)
    step = steps.make_train_step(made, transform, chain.tx, seed=seed, accumulate=accumulate, ema=ema)
    init = parts.initializer(config, train, made, chain, augmented)
    judged = augmentation.make_augmentation(augmentation.evaluation(augment) or "none")
    return Training(init, step, _outputs(made.outputs, judged))


def _outputs(outputs: Callable, transform: Callable) -> Outputs:
    def run(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        return outputs(variables, transform(jax.random.key(0), {"image": jnp.asarray(images)}))

    return run


def _checked(images: Any) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3 or not len(images):
        raise UserError(f"images must be an array [N, height, width, 3] with N > 0, not {list(images.shape)}")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise UserError(f"images must be uint8 from 0 to 255, or floats from 0 to 1, not {images.dtype}")
    return images
