"""Linear probe: logistic regression on frozen features, its regularisation chosen on held-out training images."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from jaxvision.errors import UserError
from jaxvision.evals import features
from jaxvision.evals.classify import rank
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.store import Features
from jaxvision.parallel.distributed import gather
from jaxvision.parallel.mesh import batch_axis_size, replicate, split_rows

L2 = tuple(10 ** (i / 4 - 6) for i in range(45))
EPSILON = 1e-5  # added to the deviation of a feature
ROWS = 8192  # examples whose logits are held at a time
GRADIENT = 1e-5  # largest entry of the gradient of the mean loss at which a fit is done


def make(
    *,
    task: Any,
    data: EvalSet,
    train: EvalSet,
    layers: tuple[str, ...] = ("features",),
    l2: tuple[float, ...] = L2,
    holdout: float = 0.1,
    seed: int = 0,
    max_iterations: int = 1000,
) -> Callable[[Any], dict[str, float]]:
    """Judges how much of the labels a linear classifier can read from features, fitted to its optimum.

    Chen et al. 2020 (SimCLR), app. B.8: multinomial logistic regression by L-BFGS, without augmentation, with an l2
    from 45 values between 1e-6 and 1e5, equally spaced in the logarithm, chosen on validation images, then fitted
    again to all. The paper does not say how loss and features are scaled. Here features have mean 0 and deviation 1
    over the training images, and the objective is the sum of the cross entropy over them plus l2 / 2 |W|^2, without
    the bias (scikit-learn's C is 1 / l2). The values are tried from the largest down, each from the solution before.

    Loss and gradient are computed on the devices in float32, the examples spread over them; L-BFGS itself is SciPy's,
    in float64 on the host, whose line search ends properly where rounding hides any progress.

    Args:
      task: its `outputs` must have the layers.
      data: the split that is judged; nothing is chosen on it.
      train: the split that is fitted, `train_split` in a config.
      layers: one probe for each, see `features.pick`: ("stages/0", "stages/1", "features"). In a config "stages/*"
        stands for all stages.
      l2: the values to choose from; of a single one nothing is held out.
      holdout: share of the training images on which l2 is chosen, by top-1; of equals the larger l2.
      seed: of the choice of those images.
      max_iterations: of a fit.

    Returns:
      `run(variables) -> {"probe_lbfgs/top1": ..., "/top5", "/loss", "/l2", "examples": n}`: accuracies in [0, 1], top5
      from six classes on, loss in nats, and the l2 that was chosen. Another layer than "features" is part of the name:
      `probe_lbfgs_stages.2/top1`.

    Raises:
      UserError: sets without classes or of different ones, options out of range.
    """
    k = features.check_sets("linear_probe", data, train)
    features.check_names(layers)
    if not l2 or min(l2) <= 0:
        raise UserError(f"l2 must be positive numbers, not {l2!r}")
    if len(l2) > 1 and (not 0 < holdout < 1 or round(holdout * len(train.source)) in (0, len(train.source))):
        raise UserError(f"holdout={holdout} of {len(train.source)} images leaves none to fit, or none to choose l2 on")
    if not isinstance(max_iterations, int) or max_iterations < 1:
        raise UserError(f"max_iterations must be a whole number of at least 1, not {max_iterations!r}")
    of_train = features.several(task=task, data=train, layers=layers)
    of_data = features.several(task=task, data=data, layers=layers)

    def choose(known: Features) -> float:
        order = np.random.default_rng(seed).permutation(len(known.labels))
        held, rest = np.split(order, [round(holdout * len(order))])
        objective = Objective(known.values[rest], known.labels[rest], k, data.mesh)
        best, solution = (-1.0, 0.0), None
        for strength in sorted(l2, reverse=True):
            solution = objective.minimise(strength, max_iterations, solution)
            top1 = judge(*objective.classifier(solution), known.values[held], known.labels[held])["top1"]
            best = max(best, (top1, strength))
        return best[1]

    def probe(known: Features, judged: Features) -> dict[str, float]:
        strength = choose(known) if len(l2) > 1 else l2[0]
        objective = Objective(known.values, known.labels, k, data.mesh)
        classifier = objective.classifier(objective.minimise(strength, max_iterations))
        return judge(*classifier, judged.values, judged.labels) | {"l2": strength}

    def run(variables: Any) -> dict[str, float]:
        known, judged = of_train(variables), of_data(variables)
        found = {}
        for layer in layers:
            name = features.named("probe_lbfgs", layer)
            found |= {f"{name}/{key}": value for key, value in probe(known[layer], judged[layer]).items()}
        return found | {"examples": float(len(judged[layers[0]].labels))}

    return run


class Objective:
    """The loss of logistic regression over a set of features that lies on the devices.

    Args:
      x: float [N, D].
      labels: int [N] in [0, K).
      num_classes: K.
      mesh: over which the examples are spread.
    """

    def __init__(self, x: np.ndarray, labels: np.ndarray, num_classes: int, mesh: jax.sharding.Mesh):
        self._mesh, self._n, self._shape = mesh, len(x), (x.shape[1] + 1, num_classes)
        self._mean = x.mean(axis=0, dtype=np.float64)
        centered = lambda: (x[start : start + ROWS] - self._mean for start in range(0, len(x), ROWS))
        self._scale = np.sqrt(sum(np.square(part).sum(axis=0) for part in centered()) / len(x)) + EPSILON
        scaled = np.concatenate([(part / self._scale).astype(np.float32) for part in centered()])
        parts = batch_axis_size(mesh)
        rows = -(-min(ROWS, len(x)) // parts) * parts
        chunks = -(-len(x) // rows)
        filled = lambda a: np.pad(a, [(0, chunks * rows - len(a))] + [(0, 0)] * (a.ndim - 1))
        arrays = scaled, labels.astype(np.int32), np.ones(len(x), np.float32)
        chunked = [filled(a).reshape(chunks, rows, *a.shape[1:]) for a in arrays]
        self._arrays = split_rows(chunked, mesh, leading=1)

    def minimise(self, l2: float, max_iterations: int, start: np.ndarray | None = None) -> np.ndarray:
        """The weights float64 [D + 1, K], the bias last, at which cross entropy + l2 / 2 |W|^2 is least."""

        def mean(flat: np.ndarray) -> tuple[float, np.ndarray]:
            w = flat.reshape(self._shape)
            loss, gradient = gather(_cross_entropy(replicate(w.astype(np.float32), self._mesh), *self._arrays))
            decayed = np.concatenate([w[:-1], np.zeros_like(w[-1:])])
            value = float(loss) + l2 / 2 * np.sum(decayed**2)
            return value / self._n, (gradient.astype(np.float64) + l2 * decayed).ravel() / self._n

        begin = np.zeros(self._shape) if start is None else start
        options = dict(maxiter=max_iterations, maxfun=2 * max_iterations, ftol=1e-9, gtol=GRADIENT)
        return minimize(mean, begin.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(self._shape)

    def classifier(self, solution: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(weights [D, K], bias [K]) for features that are not scaled."""
        weights = solution[:-1] / self._scale[:, None]
        return weights, solution[-1] - self._mean @ weights


@jax.jit
def _cross_entropy(w: jax.Array, x: jax.Array, labels: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum over chunks x [chunks, rows, D] of the weighted cross entropy, and its gradient by w [D + 1, K]."""

    def of_chunk(w, x, labels, weight):
        logits = jnp.matmul(x, w[:-1], precision=jax.lax.Precision.HIGHEST) + w[-1]
        own = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
        return jnp.sum(weight * (jax.nn.logsumexp(logits, axis=1) - own))

    def add(total, chunk):
        return jax.tree.map(jnp.add, total, jax.value_and_grad(of_chunk)(w, *chunk)), None

    return jax.lax.scan(add, (jnp.zeros(()), jnp.zeros_like(w)), (x, labels, weight))[0]


def judge(weights: np.ndarray, bias: np.ndarray, x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracies and cross entropy of the logits `x @ weights + bias`.

    Args:
      weights: float [D, K].
      bias: float [K].
      x: float [N, D].
      labels: int [N].

    Returns:
      {"top1", "top5" from six classes on, "loss" in nats}.

    >>> judge(np.eye(2), np.zeros(2), np.array([[3.0, 0.0], [1.0, 0.0]]), np.array([0, 1]))["top1"]
    0.5
    """
    ranks, loss = [], 0.0
    for start in range(0, len(x), ROWS):
        logits = x[start : start + ROWS].astype(np.float64) @ weights + bias
        own = labels[start : start + ROWS]
        ranks.append(np.asarray(rank(jnp.asarray(logits, jnp.float32), jnp.asarray(own))))
        shifted = logits - logits.max(axis=1, keepdims=True)
        loss += float(np.sum(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(own)), own]))
    ranks = np.concatenate(ranks)
    topk = {f"top{n}": float(np.mean(ranks < n)) for n in (1, 5) if n == 1 or n < len(bias)}
    return topk | {"loss": loss / len(x)}
