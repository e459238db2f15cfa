"""jaxvision from Python: what a notebook needs, as a few pure functions. `import jaxvision` gives all of them.

    create_model      a network by name
    load_weights      a network by name, filled from a file of another library
    train             trains a config, also on arrays and other objects of Python; see run.py
    load              a trained model, of a run or of `jaxvision convert`, to call with images
    evaluate_ensemble several runs as one classifier
    features          an output of a model for an array of images
    batches           an endless stream of shuffled batches of NumPy arrays
    create_training   the functions that train: the initial state, one step, and the outputs

The sections `model`, `task` and `optimizer` have the keys of a config, so you can copy what you tried in a notebook
into one. docs/python.md shows them in use.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxvision import augment as augmentation
from jaxvision import components, durations, models, trained, transfer
from jaxvision import config as configs
from jaxvision.commands import ensemble, photos
from jaxvision.data import order, sources
from jaxvision.errors import UserError, unknown
from jaxvision.layout import Layout
from jaxvision.sections import InitSection, TrainSection
from jaxvision.tasks.task import PARTS, Batch, Variables
from jaxvision.train import state as states
from jaxvision.train import step as steps

if TYPE_CHECKING:
    from flax import linen as nn


def create_model(name: str, num_classes: int | None = None, **options: Any) -> "nn.Module":
    """Creates a network.

    Args:
      name: Name of the model, such as "vit" or "resnet", or "package.module:function" of your own.
      num_classes: Length of the logits; None for a network without a classifier.
      **options: Options of that model, such as `variant="S/16"`.

    Returns:
      A Linen module: `model.init(key, images, train=False)` makes its variables, and
      `model.apply(variables, images, train=False)` takes float images [b, h, w, 3] and returns features [b, d] and a
      dict of every intermediate, including the logits [b, k].

    Raises:
      UserError: If a name, option or value is unknown; the message names the choices.

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
) -> tuple["nn.Module", Variables]:
    """Creates a network and fills it from a file of another library.

    Args:
      path: File with the weights: .safetensors, .npz, .h5.
      source: Library whose names the file uses, such as "timm" or "torchvision".
      name: Name of the model.
      image_size: Side of the images, or (height, width). If it differs from the file's, position embeddings are
        interpolated to it.
      num_classes: Length of the logits; None for no classifier, and then `head="drop"`.
      head: "keep" the classifier of the file, make a "new" one for other classes, with random weights, or "drop" it.
      **options: Options of the model.

    Returns:
      The Linen module and its variables.

    Raises:
      UserError: If there is no such file, if its arrays do not fit the model (the message names them all), or if the
        model computes something else than the weights were trained with, such as another GELU, and no option says so.
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


def load(path: str | os.PathLike, step: int | str | None = None) -> trained.Trained:
    """Loads a trained model, to call with images: `jaxvision.load("runs/first")("photo.jpg").label`.

    Args:
      path: Folder of a run, or one that `jaxvision convert` wrote.
      step: Step of the checkpoint, or "best" for the best by `train.keep_best`; the latest one by default.

    Raises:
      UserError: If there is no model in the folder.
    """
    return trained.Trained(photos.open_model(os.fspath(path), step))


def evaluate_ensemble(
    runs: Sequence[str | os.PathLike],
    step: int | str | None = None,
    *,
    evals: Mapping[str, Mapping[str, Any]] | None = None,
    mean: str = "probabilities",
) -> dict[str, dict[str, float]]:
    """Evaluates several runs, and all of them as one classifier: the mean of their probabilities, or of their logits.

    Args:
      runs: Folders of two runs or more, with the same classes, fields and preprocessing.
      step: Step of the checkpoint of each, or "best"; the latest one by default.
      evals: Section `evals` of a config, in place of that of the first run; its entries of `classify` are evaluated.
      mean: Kind of the mean: of "probabilities" or of "logits".

    Returns:
      `{"NAME/metric": value}` for each run, by its folder, and for "ensemble".

    Raises:
      UserError: If there are fewer than two runs, they do not fit together, or nothing can be evaluated.
    """
    results, _ = ensemble.judge_ensemble([os.fspath(path) for path in runs], step, evals, mean=mean)
    return results


def features(
    outputs: trained.Outputs, variables: Variables, images: np.ndarray, *, layer: str = "features", batch_size: int = 64
) -> np.ndarray:
    """Computes one output of a model for an array of images, in batches.

    Args:
      outputs: Function of variables and images that returns a dict of arrays: attribute `outputs` of the result of
        `load` or `create_training`.
      variables: Variables of the model.
      images: Images, uint8 [n, h, w, 3] in 0 to 255, or float [n, h, w, 3] in [0, 1].
      layer: Name of the output: "features", "logits", or an intermediate.
      batch_size: Number of images in a batch.

    Returns:
      float32 [n, ...], in the order of the images.

    Raises:
      UserError: If images have another shape or type, or the layer is unknown; the message names the layers.
    """
    images = _checked(images)
    like = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    shapes = jax.eval_shape(outputs, variables, like)
    if layer not in shapes:
        raise unknown("layer", layer, shapes)

    @jax.jit
    def run(variables: Variables, images: jax.Array) -> jax.Array:
        return outputs(variables, images)[layer].astype(jnp.float32)

    rows = []
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        missing = min(batch_size, len(images)) - len(part)
        filling = np.zeros((missing, *part.shape[1:]), part.dtype)  # so that one shape is compiled
        rows.append(np.asarray(run(variables, np.concatenate([part, filling])))[: len(part)])
    return np.concatenate(rows)


def batches(arrays: Mapping[str, np.ndarray], batch_size: int, *, seed: int = 0, start: int = 0) -> Iterator[Batch]:
    """Yields shuffled batches without end. Every epoch has its own order, which follows from the seed alone.

    Args:
      arrays: Arrays [n, ...] by field, such as `image` uint8 [n, h, w, 3] and `label` int [n].
      batch_size: Number of examples in a batch, at most n.
      seed: Seed of the order.
      start: Step of the first batch; pass the step of a state to resume its stream.

    Returns:
      An endless iterator of dicts: the arrays [batch_size, ...], and `mask` bool [batch_size], all True.

    Raises:
      UserError: If arrays differ in length, or a batch is larger than they are.

    >>> stream = batches({"x": np.arange(4)}, 2)
    >>> sorted([*next(stream)["x"], *next(stream)["x"]]) == [0, 1, 2, 3]
    True
    """
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) != 1:
        raise UserError(f"arrays of a batch must have one length, not {sizes}")
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
      init: Function without arguments that makes the state of step 0; `state.variables` are the model's variables.
      step: Function of a state and a batch that returns the next state and the metrics. Jit it:
        `jax.jit(training.step, donate_argnums=0)`.
      outputs: Pure function of variables and images, as of the result of `load`.
    """

    init: Callable[..., states.TrainState]
    step: Callable[[states.TrainState, Batch], tuple[states.TrainState, dict[str, jax.Array]]]
    outputs: trained.Outputs


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
    """Creates the functions that train a model. Nothing is allocated until `init` is called.

    Args:
      batch: Example of a batch: `image` uint8 [b, h, w, 3], and the other fields that the task reads. Only shapes and
        types matter.
      model: Section `model` of a config: `dict(name="vit", variant="Ti/4")`.
      optimizer: Section `optimizer`: `dict(name="adamw", learning_rate=1e-3, schedule="cosine", warmup="100 steps")`.
      total: Number of steps of the run, for schedules.
      task: Section `task`; None for `dict(name="supervised")`.
      augment: Spec of augmentations inside the step: "random_crop(32, 4)|flip_lr|normalize(0.5, 0.5)".
      classes: Number of classes, for tasks with labels.
      seed: Seed of the parameters and of all random draws.
      precision: Type of the computation, "float32" or "bfloat16".
      accumulate: Number of microbatches that a batch is split into.
      ema: Decay of the average of the variables, or None for no average.

    Raises:
      UserError: If a section is wrong; the message names its key.
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

    built = components.make_task(config, train, info, transform.fields, None, to_steps, total)
    augmented = jax.eval_shape(transform, jax.random.key(0), shapes)
    params = jax.eval_shape(built.init, jax.random.key(0), augmented).get("params", {})
    chain = components.make_optimizer(config, None, built, params, to_steps, total)
    step = steps.make_train_step(
        built,
        transform,
        chain.tx,
        seed=seed,
        accumulate=accumulate,
        ema=ema,
        frozen=chain.frozen,
        of_weights=chain.of_weights,
    )
    init = components.initializer(config, train, built, chain, augmented)
    judged = augmentation.make_augmentation(augmentation.evaluation(augment) or "none")
    return Training(init, step, trained.make_outputs(built.outputs, judged))


def _checked(images: Any) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3 or not len(images):
        raise UserError(f"images must be an array [n, height, width, 3] with n > 0, not {list(images.shape)}")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise UserError(f"images must be uint8 from 0 to 255, or floats from 0 to 1, not {images.dtype}")
    return images
