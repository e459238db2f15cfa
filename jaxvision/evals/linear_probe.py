"""Linear probe: logistic regression on frozen features, its regularisation chosen on held-out training images."""

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError
from jaxvision.evals import features
from jaxvision.evals.classify import rank
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.store import Features
from jaxvision.parallel.distributed import gather
from jaxvision.parallel.gate import tick
from jaxvision.parallel.mesh import batch_axis_size, replicate, split_rows
from jaxvision.registry import part

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables

_log = logging.getLogger(__name__)

L2 = tuple(10 ** (i / 4 - 6) for i in range(45))
EPSILON = 1e-5  # added to the deviation of a feature
ROWS = 8192  # examples whose logits are held at a time
ROUND = 100  # iterations between two updates of the second derivative
# Distances from the optimum at which a fit is finished, as shares of the objective; see `Objective.minimise`.
BOUND, GAP, STALLED_GAP = 1e-6, 1e-7, 1e-4
STALLED = 1e-6  # a round that gains a smaller share than this counts as no progress


@part("evaluator", "linear_probe", small={"l2": (1.0,)})
def make_linear_probe(
    *,
    task: "Task",
    data: EvalSet,
    train: EvalSet,
    layers: tuple[str, ...] = ("features",),
    l2: tuple[float, ...] = L2,
    holdout: float = 0.1,
    seed: int = 0,
    max_iterations: int = 1000,
) -> "Callable[[Variables], dict[str, float]]":
    """Makes the evaluator of a linear classifier that is fitted to its optimum.

    Chen et al. 2020 (SimCLR), app. B.8: multinomial logistic regression by L-BFGS, without augmentation. l2 is one of
    45 values between 1e-6 and 1e5, equally spaced in the logarithm; it is chosen on validation images, and the
    classifier is fitted again to all training images. The paper does not say how loss and features are scaled. Here
    features have mean 0 and deviation 1 over the training images, and the objective is the sum of the cross entropy
    over them plus l2 / 2 |W|^2, without the bias (scikit-learn's C is 1 / l2). The values are tried from the largest
    down, each from the solution of the one before.

    Loss and gradient are computed on the devices in float32, with the examples spread over them. L-BFGS is SciPy's, in
    float64 on the host; its line search ends cleanly when rounding hides any further progress. At any l2, the objective
    comes within about 1e-4 of its optimum, see `Objective`.

    Args:
      task: Task whose `outputs` have the layers.
      data: Split to evaluate; nothing is chosen on it.
      train: Split to fit, `train_split` in a config.
      layers: Names of outputs of the model, with one probe for each: ("stages/0", "stages/1", "features"). Maps are
        averaged over their positions.
        In a config "stages/*" stands for all stages.
      l2: Values of l2 to choose from, above 0. With a single one, nothing is held out.
      holdout: Share of the training images that l2 is chosen on, by top-1; of equal results, the larger l2 wins.
      seed: Seed of the choice of these images.
      max_iterations: Limit of L-BFGS's iterations in a fit.

    Returns:
      `run(variables) -> {"probe_lbfgs/top1": ..., "/top5", "/loss", "/l2", "/gap", "/iterations", "examples": n}`:
      accuracies in [0, 1] (`top5` for six classes or more; of equal logits the first class counts); loss in nats; the
      chosen l2; an estimate of how far the objective of its fit lies above the optimum, as a share of it; and the
      number of iterations. If a fit does not reach the optimum, the log has a warning. The names of layers other
      than "features" contain the layer: `probe_lbfgs_stages.2/top1`.

    Raises:
      UserError: If a set has no classes, the sets have different classes, or an option is out of range.
    """
    k = features.check_sets("linear_probe", data, train)
    features.check_layer_names(layers)
    if not l2 or min(l2) <= 0:
        raise UserError(f"l2 must be positive numbers, not {l2!r}")
    if len(l2) > 1 and (not 0 < holdout < 1 or round(holdout * len(train.source)) in (0, len(train.source))):
        raise UserError(f"holdout={holdout} of {len(train.source)} images leaves none to fit, or none to choose l2 on")
    if not isinstance(max_iterations, int) or max_iterations < 1:
        raise UserError(f"max_iterations must be a whole number of at least 1, not {max_iterations!r}")
    of_train = features.make_layer_features(task=task, data=train, layers=layers)
    of_data = features.make_layer_features(task=task, data=data, layers=layers)

    def choose(learned: Features) -> tuple[float, list[float]]:
        """The best l2, and the values whose fits did not converge."""
        order = np.random.default_rng(seed).permutation(len(learned.labels))
        held, rest = np.split(order, [round(holdout * len(order))])
        objective = Objective(learned.values[rest], learned.labels[rest], k, data.mesh)
        best, solution, unfinished = (-1.0, 0.0), None, []
        for strength in sorted(l2, reverse=True):
            fit = objective.minimise(strength, max_iterations, solution)
            solution = fit.weights
            unfinished += [] if fit.converged else [strength]
            top1 = judge_classifier(*objective.classifier(solution), learned.values[held], learned.labels[held])["top1"]
            best = max(best, (top1, strength))
        return best[1], unfinished

    def probe(name: str, learned: Features, judged: Features) -> dict[str, float]:
        strength, unfinished = choose(learned) if len(l2) > 1 else (l2[0], [])
        objective = Objective(learned.values, learned.labels, k, data.mesh)
        fit = objective.minimise(strength, max_iterations)
        if unfinished:
            _log.warning(
                "%s: for %d of the %d values of l2 (the largest is %g), L-BFGS did not reach the optimum in %d "
                "iterations, so l2 was chosen by unfinished fits; raise max_iterations",
                *(name, len(unfinished), len(l2), max(unfinished), max_iterations),
            )
        if not fit.converged:
            _log.warning(
                "%s: L-BFGS did not reach the optimum at l2=%g: after %d iterations the objective is about %.2g %% "
                "above it; raise max_iterations, or look for features that are no numbers",
                *(name, strength, fit.iterations, 100 * fit.gap),
            )
        metrics = judge_classifier(*objective.classifier(fit.weights), judged.values, judged.labels)
        return metrics | {"l2": strength, "gap": fit.gap, "iterations": float(fit.iterations)}

    def run(variables: "Variables") -> dict[str, float]:
        learned, judged = of_train(variables), of_data(variables)
        metrics: dict[str, float] = {}
        for layer in layers:
            name = features.protocol_name("probe_lbfgs", layer)
            metrics |= {f"{name}/{key}": value for key, value in probe(name, learned[layer], judged[layer]).items()}
        return metrics | {"examples": float(len(judged[layers[0]].labels))}

    return run


class Fit(NamedTuple):
    """The result of a fit.

    Attributes:
      weights: Weights for the r principal components of the features, float64 [r + 1, k]; the bias is last.
      gap: Estimate of how far the objective lies above its optimum, as a share of it.
      iterations: Number of iterations.
      converged: True if the fit ended at the optimum, rather than at the limit of iterations.
    """

    weights: np.ndarray
    gap: float
    iterations: int
    converged: bool


class Objective:
    """The loss of logistic regression over a set of features on the devices.

    The features are scaled, then rotated to their principal components. The rotation changes neither the cross entropy
    nor |W|, but makes the second derivative nearly diagonal; unknowns scaled by that diagonal make it nearly the
    identity. On correlated features, L-BFGS then takes tens of iterations instead of tens of thousands.

    Args:
      x: Features, float [n, d].
      labels: Labels, int [n] in [0, k).
      num_classes: Number of classes, k.
      mesh: Mesh of the devices that the examples are spread over.
    """

    def __init__(self, x: np.ndarray, labels: np.ndarray, num_classes: int, mesh: jax.sharding.Mesh):
        from scipy.special import xlogy  # late, as below: SciPy takes half a second to import

        self._mesh, self._n = mesh, len(x)
        shares = np.bincount(labels, minlength=num_classes) / len(x)
        self._without_weights = -len(x) * np.sum(xlogy(shares, shares))  # with weights of zero and the best bias
        self._mean = x.mean(axis=0, dtype=np.float64)
        # In chunks, since float64 copies of all features at once would double their memory.
        centered = lambda: (x[start : start + ROWS] - self._mean for start in range(0, len(x), ROWS))
        self._scale = np.sqrt(sum(np.square(part).sum(axis=0) for part in centered()) / len(x)) + EPSILON
        scaled = lambda: (part / self._scale for part in centered())
        self._axes = principal_axes(sum(part.T @ part for part in scaled()))  # d r
        self._shape = (self._axes.shape[1] + 1, num_classes)
        rotated = np.concatenate([(part @ self._axes).astype(np.float32) for part in scaled()])
        parts = batch_axis_size(mesh)
        rows = -(-min(ROWS, len(x)) // parts) * parts
        chunks = -(-len(x) // rows)
        filled = lambda a: np.pad(a, [(0, chunks * rows - len(a))] + [(0, 0)] * (a.ndim - 1))
        arrays = rotated, labels.astype(np.int32), np.ones(len(x), np.float32)
        chunked = [filled(a).reshape(chunks, rows, *a.shape[1:]) for a in arrays]
        self._arrays = split_rows(chunked, mesh, leading=1)

    def minimise(self, l2: float, max_iterations: int, start: np.ndarray | None = None) -> Fit:
        """Finds the weights W and the bias that minimise F = cross entropy + l2 / 2 |W|^2.

        L-BFGS runs in rounds of `ROUND` iterations. At the start of a round, the unknowns are scaled by the diagonal
        H of the second derivative there. Two measures tell how far F lies above its optimum, with g its gradient:

        - An upper bound, |g|^2 / (2 l2), since F is strongly convex with constant l2 (Boyd and Vandenberghe 2004, eq.
          9.9; the bias, which is not decayed, is counted as if it were). It is much too large when the data curve F
          more than l2 does.
        - An estimate, half the squared Newton decrement (sec. 9.5.1) with the diagonal H: sum g^2 / (2 H). As a share
          of F this is `gap`. It may be some hundred times too small.

        The fit has converged when the bound is below `BOUND` of F or the estimate below `GAP` of F. It has also
        converged when two rounds gain nothing that float32 can show and `gap` is below `STALLED_GAP`. With a large l2
        the weights hardly change F. So the first two shares are relative to the gain over zero weights, if this gain is
        smaller than F.

        Args:
          l2: Strength of the regularisation, above 0.
          max_iterations: Limit of the iterations.
          start: Weights to start from, [r + 1, k]; None for zeros.
        """
        w, done = np.zeros(self._shape) if start is None else start, 0
        curvature, before, stalls = self._curvature(w, l2), math.inf, 0
        while True:
            w, value, gradient, iterations = self._round(w, l2, curvature, min(ROUND, max_iterations - done))
            done, curvature = done + iterations, self._curvature(w, l2)
            left = np.sum(gradient**2 / curvature) / 2
            gap = left / value if value > 0 else left
            stalls = 0 if value < (1 - STALLED) * before else stalls + 1
            converged = self._is_small(w, l2, value, gradient, left) or (stalls == 2 and gap <= STALLED_GAP)
            if converged or stalls == 2 or done >= max_iterations:
                return Fit(w, float(gap), done, bool(converged))
            before = value

    def _is_small(self, w: np.ndarray, l2: float, value: float, gradient: np.ndarray, left: float) -> bool:
        """Whether the distance to the optimum is small compared with the objective, and with the gain so far."""
        gained = max(self._without_weights - value, l2 / 2 * np.sum(w[:-1] ** 2))
        return left <= GAP * min(value, gained) or np.sum(gradient**2) / (2 * l2) <= BOUND * min(value, gained)

    def _round(
        self, start: np.ndarray, l2: float, curvature: np.ndarray, iterations: int
    ) -> tuple[np.ndarray, float, np.ndarray, int]:
        """Runs some iterations of L-BFGS; returns the weights, F and its gradient there, and the iterations it took."""
        from scipy.optimize import minimize

        scale = 1 / np.sqrt(curvature)
        evaluated: dict[bytes, tuple[float, np.ndarray]] = {}  # SciPy's callback gets the point alone, not its gradient
        offset = self._value_and_gradient(start, 0.0)[0] / self._n

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            w = flat.reshape(self._shape) * scale
            value, gradient = evaluated[flat.tobytes()] = self._value_and_gradient(w, l2, offset)
            return value, (gradient * scale).ravel()

        def stop(intermediate_result: Any) -> None:
            value, gradient = latest = evaluated[intermediate_result.x.tobytes()]
            evaluated.clear()
            evaluated[intermediate_result.x.tobytes()] = latest
            w = intermediate_result.x.reshape(self._shape) * scale
            if self._is_small(w, l2, value, gradient, np.sum(gradient**2 / curvature) / 2):
                raise StopIteration

        options = dict(maxiter=iterations, maxfun=3 * iterations, ftol=0, gtol=0)
        begin = (start / scale).ravel()
        result = minimize(objective, begin, jac=True, method="L-BFGS-B", options=options, callback=stop)
        w = result.x.reshape(self._shape) * scale
        return w, *self._value_and_gradient(w, l2, offset), max(result.nit, 1)

    def _value_and_gradient(self, w: np.ndarray, l2: float, offset: float = 0.0) -> tuple[float, np.ndarray]:
        """F and its gradient.

        `offset` is about the mean loss. It is subtracted from every term of the float32 sum, in which small changes of
        the loss would otherwise be lost, and added again in float64.
        """
        tick()
        arguments = replicate((w.astype(np.float32), np.float32(offset)), self._mesh)
        loss, gradient = gather(_cross_entropy(*arguments, *self._arrays))
        decayed = np.concatenate([w[:-1], np.zeros_like(w[-1:])])
        value = float(loss) + self._n * float(np.float32(offset)) + l2 / 2 * np.sum(decayed**2)
        return value, gradient.astype(np.float64) + l2 * decayed

    def _curvature(self, w: np.ndarray, l2: float) -> np.ndarray:
        """The diagonal of the second derivative by the weights, float64 [r + 1, k], with l2 for the bias too."""
        return l2 + gather(_second_derivative(replicate(w.astype(np.float32), self._mesh), *self._arrays)).astype(float)

    def classifier(self, solution: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Converts a solution to the classifier of features that are neither scaled nor rotated.

        Args:
          solution: Weights of a `Fit`, [r + 1, k].

        Returns:
          (weights [d, k], bias [k]), float64.
        """
        weights = self._axes @ solution[:-1] / self._scale[:, None]
        return weights, solution[-1] - self._mean @ weights


def principal_axes(products: np.ndarray) -> np.ndarray:
    """Computes the principal axes along which features vary by more than rounding.

    Args:
      products: Sums over examples of the products of centered features, float [d, d].

    Returns:
      Axes as columns, float64 [d, r]; the identity if a product is not finite.

    >>> np.abs(principal_axes(np.array([[2.0, 2.0], [2.0, 2.0]]))).round(3).tolist()
    [[0.707], [0.707]]
    """
    if not np.isfinite(products).all():
        return np.eye(len(products))
    values, vectors = np.linalg.eigh(products)
    return vectors[:, values > 1e-12 * values[-1]]


def _logits(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.matmul(x, w[:-1], precision=jax.lax.Precision.HIGHEST) + w[-1]


@jax.jit
def _cross_entropy(
    w: jax.Array, offset: jax.Array, x: jax.Array, labels: jax.Array, weight: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sum of the weighted cross entropy minus `offset`, over chunks x [chunks, rows, r], and its gradient by w.

    The cross entropy is written as softplus of the logits of the other classes relative to the label's. In this
    form nothing is subtracted from 1, so value and gradient keep their relative precision when the label is almost
    certain, as near the optimum of separable classes with a small l2.
    """

    def chunk_loss(w, x, labels, weight):
        logits = _logits(w, x)
        label_logit = jnp.take_along_axis(logits, labels[:, None], axis=1)
        others = jnp.arange(logits.shape[1]) != labels[:, None]
        return jnp.sum(
            weight * (jax.nn.softplus(jax.nn.logsumexp(logits - label_logit, axis=1, where=others)) - offset)
        )

    def add(total, chunk):
        return jax.tree.map(jnp.add, total, jax.value_and_grad(chunk_loss)(w, *chunk)), None

    return jax.lax.scan(add, (jnp.zeros(()), jnp.zeros_like(w)), (x, labels, weight))[0]


@jax.jit
def _second_derivative(w: jax.Array, x: jax.Array, labels: jax.Array, weight: jax.Array) -> jax.Array:
    """The diagonal of the second derivative of `_cross_entropy`: sum of x^2 p (1 - p), [r + 1, k]."""

    def add(total, chunk):
        x, _, weight = chunk
        p = jax.nn.softmax(_logits(w, x))
        bend = weight[:, None] * p * (1 - p)  # rows k
        by_weights = jnp.matmul(jnp.square(x).T, bend, precision=jax.lax.Precision.HIGHEST)
        return total + jnp.concatenate([by_weights, bend.sum(0)[None]]), None

    return jax.lax.scan(add, jnp.zeros_like(w), (x, labels, weight))[0]


def judge_classifier(weights: np.ndarray, bias: np.ndarray, x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Computes accuracies and cross entropy of the logits `x @ weights + bias`.

    Args:
      weights: Weights, float [d, k].
      bias: Bias, float [k].
      x: Features, float [n, d].
      labels: Labels, int [n].

    Returns:
      `{"top1": ..., "top5": ..., "loss": ...}`: accuracies in [0, 1], with ties as in `classify.rank` and `top5` for
      six classes or more; loss in nats.

    >>> judge_classifier(np.eye(2), np.zeros(2), np.array([[3.0, 0.0], [1.0, 0.0]]), np.array([0, 1]))["top1"]
    0.5
    """
    ranks_of_rows, loss = [], 0.0
    for start in range(0, len(x), ROWS):
        logits = x[start : start + ROWS].astype(np.float64) @ weights + bias
        some = labels[start : start + ROWS]
        ranks_of_rows.append(np.asarray(rank(jnp.asarray(logits, jnp.float32), jnp.asarray(some))))
        shifted = logits - logits.max(axis=1, keepdims=True)
        loss += float(np.sum(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(some)), some]))
    ranks = np.concatenate(ranks_of_rows)
    topk = {f"top{n}": float(np.mean(ranks < n)) for n in (1, 5) if n == 1 or n < len(bias)}
    return topk | {"loss": loss / len(x)}
