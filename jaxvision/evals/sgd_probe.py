"""Linear probe by SGD: a linear classifier trained on the frozen features of augmented images."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import jax
import numpy as np
import optax

from jaxvision.data import order
from jaxvision.errors import UserError
from jaxvision.evals import features, views
from jaxvision.evals.columns import choose
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.linear_probe import judge_classifier
from jaxvision.evals.store import Features
from jaxvision.losses.classification import softmax_cross_entropy
from jaxvision.parallel.distributed import gather
from jaxvision.parallel.gate import tick
from jaxvision.parallel.mesh import check_batch, replicate
from jaxvision.registry import part

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables

Examples = tuple[dict[str, jax.Array], jax.Array]  # features by layer [B, D], and labels


@part("evaluator", "sgd_probe", small={"epochs": 1, "train_batch_size": 16})
def make_sgd_probe(
    *,
    task: "Task",
    data: EvalSet,
    train: EvalSet,
    layers: tuple[str, ...] = ("features",),
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    epochs: int = 90,
    train_batch_size: int = 256,
    train_host: str | None = None,
    train_augment: str | None = None,
    seed: int = 0,
) -> "Callable[[Variables], dict[str, float]]":
    """Makes the evaluator of a linear classifier that is trained by SGD.

    Chen et al. 2020 (SimCLR), app. B.6: softmax cross entropy by Nesterov SGD, learning rate 0.1 x batch / 256, 90
    epochs, no weight decay and no warm-up; the rate falls with a cosine, as in their code. The network is applied as in
    evaluation, so neither its parameters nor its normalisation statistics can change. Weights start at zero.

    With `train_host` or `train_augment`, every step passes augmented images through the network. In the paper these are
    "decode|random_resized_crop(224)" and "flip_lr". Without both, features are computed once and only the classifier is
    trained, which takes seconds.

    Args:
      task: Task whose `outputs` have the layers.
      data: Split to evaluate, after the last step.
      train: Split to train on, `train_split` in a config.
      layers: Names of layers, with one classifier for each, as in `linear_probe`. All are trained in one pass.
      learning_rate: Learning rate for a batch of 256; it is multiplied by train_batch_size / 256.
      momentum: Nesterov momentum, in [0, 1).
      epochs: Number of passes over `train`.
      train_batch_size: Number of examples in a training batch, over all devices.
      train_host: Host spec for training; None takes the spec of the evaluation.
      train_augment: Spec of the augmentation for training. The spec of the evaluation, with its normalisation, is
        applied after it.
      seed: Seed of order and augmentation.

    Returns:
      `run(variables) -> {"probe_sgd90_augmented/top1": ..., "/top5", "/loss", "examples": n}`: accuracies in [0, 1]
      (`top5` for six classes or more; of equal logits the first class counts), and the loss in nats. 90 is the number
      of epochs; without augmentation the name is `probe_sgd90`. Layers are named as by `linear_probe`.

    Raises:
      UserError: If a set has no classes, the sets have different classes, an option is out of range, or a spec is
        wrong.
    """
    k = features.check_sets("sgd_probe", data, train)
    features.check_layer_names(layers)
    check_batch(train_batch_size, data.mesh)
    if not isinstance(epochs, int) or epochs < 1:
        raise UserError(f"epochs must be a whole number of at least 1, not {epochs!r}")
    if not learning_rate > 0 or not 0 <= momentum < 1:
        raise UserError(f"learning_rate must be above 0 and momentum in [0, 1), not {learning_rate!r} and {momentum!r}")
    steps = max(epochs * len(train.source) // train_batch_size, 1)
    rate = optax.cosine_decay_schedule(learning_rate * train_batch_size / 256, steps)
    tx = optax.sgd(rate, momentum, nesterov=True)
    augmented = bool(train_host or train_augment)
    if augmented:
        specs = train_host or train.host, "|".join(filter(None, (train_augment, train.augment)))
        examples = _augmented(task, train, *specs, layers, train_batch_size, seed)
    else:
        examples = _fixed(task, train, layers, train_batch_size, seed)
    if train_batch_size > len(train.source):
        raise UserError(
            f"train_batch_size is {train_batch_size:,}, but {train.info.split} of {train.info.name} has only "
            f"{len(train.source):,} images to train on: set a train_batch_size of at most {len(train.source)}"
        )
    of_data = features.make_layer_features(task=task, data=data, layers=layers)
    protocol = f"probe_sgd{epochs}" + ("_augmented" if augmented else "")

    @jax.jit
    def update(heads, moments, x, labels):
        gradients = jax.grad(_loss)(heads, x, labels)
        updates, moments = tx.update(gradients, moments)
        return optax.apply_updates(heads, updates), moments

    def run(variables: "Variables") -> dict[str, float]:
        heads = moments = None
        for x, labels in examples(variables, steps):
            if heads is None:
                heads = replicate({layer: _zeros(rows.shape[1], k) for layer, rows in x.items()}, data.mesh)
                moments = tx.init(heads)
            heads, moments = update(heads, moments, x, labels)
        judged = of_data(variables)
        metrics: dict[str, float] = {}
        for layer, head in gather(heads).items():
            results = judge_classifier(head["kernel"], head["bias"], judged[layer].values, judged[layer].labels)
            metrics |= {f"{features.protocol_name(protocol, layer)}/{key}": value for key, value in results.items()}
        return metrics | {"examples": float(len(judged[layers[0]].labels))}

    return run


def _zeros(features: int, num_classes: int) -> dict[str, np.ndarray]:
    return {"kernel": np.zeros((features, num_classes), np.float32), "bias": np.zeros(num_classes, np.float32)}


def _loss(heads: dict, x: dict[str, jax.Array], labels: jax.Array) -> jax.Array:
    """The sum over layers, whose classifiers share nothing, of the mean cross entropy."""
    logits = {layer: x[layer] @ head["kernel"] + head["bias"] for layer, head in heads.items()}
    return sum(softmax_cross_entropy(value, labels).mean() for value in logits.values())


def _fixed(
    task: "Task", train: EvalSet, layers: tuple[str, ...], batch_size: int, seed: int
) -> "Callable[[Variables, int], Iterator[Examples]]":
    """Batches of features that are computed once."""
    of_train = features.make_layer_features(task=task, data=train, layers=layers)

    def examples(variables: "Variables", steps: int) -> Iterator[Examples]:
        learned: dict[str, Features] = of_train(variables)
        labels = learned[layers[0]].labels
        count = len(labels)
        if isinstance(learned[layers[0]].array, jax.Array):  # then the batches are picked there
            labels = replicate(labels, train.mesh)
        for step in range(steps):
            rows = order.indices(seed, count, step * batch_size, (step + 1) * batch_size)
            tick()
            x = {layer: choose(learned[layer].array, rows, train.mesh) for layer in layers}
            yield x, choose(labels, rows, train.mesh)

    return examples


def _augmented(
    task: "Task", train: EvalSet, host: str, augment: str, layers: tuple[str, ...], batch_size: int, seed: int
) -> "Callable[[Variables, int], Iterator[Examples]]":
    """Batches of features of images, with a new augmentation in every epoch."""
    batches, transform = train.training(host, augment, batch_size, seed)

    @jax.jit
    def extract(variables, batch, step):
        batch = transform(jax.random.fold_in(jax.random.key(seed), step), batch)
        return features.pick_layers(views.averaged_outputs(task, variables, batch, transform.fields), layers), batch[
            "label"
        ]

    def examples(variables: "Variables", steps: int) -> Iterator[Examples]:
        for step, batch in enumerate(batches(0, steps)):
            yield extract(variables, batch, step)

    return examples
