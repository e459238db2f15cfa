"""Linear probe: logistic regression on frozen features, its regularisation chosen on held-out training images."""

import logging
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from scipy.special import xlogy

from jaxvision.errors import UserError
from jaxvision.evals import features
from jaxvision.evals.classify import rank
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.store import Features
from jaxvision.found import part
from jaxvision.parallel.distributed import gather
from jaxvision.parallel.gate import tick
from jaxvision.parallel.mesh import batch_axis_size, replicate, split_rows

_log = logging.getLogger(__name__)

L2 = tuple(10 ** (i / 4 - 6) for i in range(45))
EPSILON = 1e-5  # added to the deviation of a feature
ROWS = 8192  # examples whose logits are held at a time
ROUND = 100  # iterations between two looks at the second derivative
# Shares of the objective that may be left to gain when a fit is done; see `Objective.minimise`.
BOUND, GAP, STALLED_GAP = 1e-6, 1e-7, 1e-4
STALLED = 1e-6  # less than this share gained in a round is nothing


@part("evaluator", "linear_probe", small={"l2": (1.0,)})
def make_linear_probe(
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
    in float64 on the host, whose line search ends properly where rounding hides any progress. It reaches the optimum to
    about 1e-4 of the objective, at any l2: see `Objective`.

    Args:
      task: its `outputs` must have the layers.
      data: the split that is judged; nothing is chosen on it.
      train: the split that is fitted, `train_split` in a config.
      layers: Names of layers, see `features.pick_layer`, with one probe for each: ("stages/0", "stages/1", "features").
        In a config "stages/*" stands for all stages.
      l2: the values to choose from; of a single one nothing is held out.
      holdout: share of the training images on which l2 is chosen, by top-1; of equals the larger l2.
      seed: of the choice of those images.
      max_iterations: limit of L-BFGS's iterations in a fit.

    Returns:
      `run(variables) -> {"probe_lbfgs/top1": ..., "/top5", "/loss", "/l2", "/gap", "/iterations", "examples": n}`:
      accuracies in [0, 1], top5 from six classes on, of equal logits the first class; loss in nats; the l2 that was
      chosen; and of its fit, how far the objective lies above its optimum by an estimate, as a share of it, and the
      iterations. A fit that did not reach the optimum is a warning in the log. Another layer than "features" is part of
      the name: `probe_lbfgs_stages.2/top1`.

    Raises:
      UserError: sets without classes or of different ones, options out of range.
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

    def choose(known: Features) -> tuple[float, list[float]]:
        """The best l2, and those whose fits did not converge."""
        order = np.random.default_rng(seed).permutation(len(known.labels))
        held, rest = np.split(order, [round(holdout * len(order))])
        objective = Objective(known.values[rest], known.labels[rest], k, data.mesh)
        best, solution, unfinished = (-1.0, 0.0), None, []
        for strength in sorted(l2, reverse=True):
            fit = objective.minimise(strength, max_iterations, solution)
            solution = fit.weights
            unfinished += [] if fit.converged else [strength]
            top1 = judge(*objective.classifier(solution), known.values[held], known.labels[held])["top1"]
            best = max(best, (top1, strength))
        return best[1], unfinished

    def probe(name: str, known: Features, judged: Features) -> dict[str, float]:
        strength, unfinished = choose(known) if len(l2) > 1 else (l2[0], [])
        objective = Objective(known.values, known.labels, k, data.mesh)
        fit = objective.minimise(strength, max_iterations)
        if unfinished:
            _log.warning(
                "%s: with %d of the %d values of l2, the largest %g, L-BFGS did not reach the optimum in %d "
                "iterations, and l2 was chosen by what it had reached; raise max_iterations",
                *(name, len(unfinished), len(l2), max(unfinished), max_iterations),
            )
        if not fit.converged:
            _log.warning(
                "%s: L-BFGS did not reach the optimum at l2=%g: after %d iterations the objective is about %.2g %% "
                "above it; raise max_iterations, or look for features that are no numbers",
                *(name, strength, fit.iterations, 100 * fit.gap),
            )
        found = judge(*objective.classifier(fit.weights), judged.values, judged.labels)
        return found | {"l2": strength, "gap": fit.gap, "iterations": float(fit.iterations)}

    def run(variables: Any) -> dict[str, float]:
        known, judged = of_train(variables), of_data(variables)
        found = {}
        for layer in layers:
            name = features.protocol_name("probe_lbfgs", layer)
            found |= {f"{name}/{key}": value for key, value in probe(name, known[layer], judged[layer]).items()}
        return found | {"examples": float(len(judged[layers[0]].labels))}

    return run


class Fit(NamedTuple):
    """Where a fit ended.

    Attributes:
      weights: float64 [R + 1, K] for the R principal components of the features; the bias is last.
      gap: estimate of how far the objective lies above its optimum, as a share of it.
      iterations: number of them.
      converged: whether the fit ended at the optimum, rather than at the limit of iterations.
    """

    weights: np.ndarray
    gap: float
    iterations: int
    converged: bool


class Objective:
    """The loss of logistic regression over a set of features that lies on the devices.

    The features lie there scaled, then rotated to their principal components: neither the cross entropy nor |W|
    changes with that, but the second derivative becomes nearly diagonal, and divided by its diagonal it is nearly one.
    L-BFGS on correlated features takes tens of iterations so, in place of tens of thousands.

    Args:
      x: float [N, D].
      labels: int [N] in [0, K).
      num_classes: K.
      mesh: over which the examples are spread.
    """

    def __init__(self, x: np.ndarray, labels: np.ndarray, num_classes: int, mesh: jax.sharding.Mesh):
        self._mesh, self._n = mesh, len(x)
        shares = np.bincount(labels, minlength=num_classes) / len(x)
        self._without_weights = -len(x) * np.sum(xlogy(shares, shares))  # with weights of zero and the best bias
        self._mean = x.mean(axis=0, dtype=np.float64)
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
        """Looks for the weights W, and bias, at which F = cross entropy + l2 / 2 |W|^2 is least.

        L-BFGS works in rounds of `ROUND` iterations, each with the unknowns scaled by the diagonal H of the second
        derivative at its start. Two measures say how much of F is left to gain. F is l2-convex, so it lies at most
        |g|^2 / (2 l2) above the optimum, with g the gradient (Boyd and Vandenberghe 2004, eq. 9.9; the bias, which is
        not decayed, is counted as if it were). That is far too much where the data themselves bend F, so `gap` is half
        the squared Newton decrement (sec. 9.5.1) of the diagonal, sum g^2 / (2 H), as a share of F: an estimate, which
        may be some hundred times too small. The fit has converged when the bound is below `BOUND` of F or the estimate
        below `GAP`, or when two rounds gain nothing that float32 would show and the estimate is below `STALLED_GAP`.
        With a large l2 the weights hardly change F, so the first two are shares of what they have gained over weights
        of zero, if that is less than F.
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
        """Whether what is left to gain is little beside the objective, and beside what the weights have gained."""
        gained = max(self._without_weights - value, l2 / 2 * np.sum(w[:-1] ** 2))
        return left <= GAP * min(value, gained) or np.sum(gradient**2) / (2 * l2) <= BOUND * min(value, gained)

    def _round(
        self, start: np.ndarray, l2: float, curvature: np.ndarray, iterations: int
    ) -> tuple[np.ndarray, float, np.ndarray, int]:
        """The weights after some iterations of L-BFGS, F and its gradient there, and how many iterations it took."""
        scale, seen = 1 / np.sqrt(curvature), {}
        offset = self._value_and_gradient(start, 0.0)[0] / self._n

        def of(flat: np.ndarray) -> tuple[float, np.ndarray]:
            w = flat.reshape(self._shape) * scale
            value, gradient = seen[flat.tobytes()] = self._value_and_gradient(w, l2, offset)
            return value, (gradient * scale).ravel()

        def stop(intermediate_result: Any) -> None:
            value, gradient = found = seen[intermediate_result.x.tobytes()]
            seen.clear()
            seen[intermediate_result.x.tobytes()] = found
            w = intermediate_result.x.reshape(self._shape) * scale
            if self._is_small(w, l2, value, gradient, np.sum(gradient**2 / curvature) / 2):
                raise StopIteration

        options = dict(maxiter=iterations, maxfun=3 * iterations, ftol=0, gtol=0)
        begin = (start / scale).ravel()
        found = minimize(of, begin, jac=True, method="L-BFGS-B", options=options, callback=stop)
        w = found.x.reshape(self._shape) * scale
        return w, *self._value_and_gradient(w, l2, offset), max(found.nit, 1)

    def _value_and_gradient(self, w: np.ndarray, l2: float, offset: float = 0.0) -> tuple[float, np.ndarray]:
        """F and its gradient; `offset` is about the mean loss, without which its changes drown in rounding."""
        tick()
        of = replicate((w.astype(np.float32), np.float32(offset)), self._mesh)
        loss, gradient = gather(_cross_entropy(*of, *self._arrays))
        decayed = np.concatenate([w[:-1], np.zeros_like(w[-1:])])
        value = float(loss) + self._n * float(np.float32(offset)) + l2 / 2 * np.sum(decayed**2)
        return value, gradient.astype(np.float64) + l2 * decayed

    def _curvature(self, w: np.ndarray, l2: float) -> np.ndarray:
        """The diagonal of the second derivative by the weights, float64 [R + 1, K], with l2 for the bias too."""
        return l2 + gather(_second_derivative(replicate(w.astype(np.float32), self._mesh), *self._arrays)).astype(float)

    def classifier(self, solution: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(weights [D, K], bias [K]) for features that are neither scaled nor rotated."""
        weights = self._axes @ solution[:-1] / self._scale[:, None]
        return weights, solution[-1] - self._mean @ weights


def principal_axes(products: np.ndarray) -> np.ndarray:
    """The directions, as columns [D, R], in which features differ by more than rounding.

    Args:
      products: float [D, D], sums over examples of the products of centered features.

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
    """Sum over chunks x [chunks, rows, R] of the weighted cross entropy less `offset`; its gradient by w [R + 1, K].

    Both keep their relative precision where the label is all but certain, as it is near the optimum of separable
    classes with little l2: nothing is subtracted from 1.
    """

    def of_chunk(w, x, labels, weight):
        logits = _logits(w, x)
        own = jnp.take_along_axis(logits, labels[:, None], axis=1)
        others = jnp.arange(logits.shape[1]) != labels[:, None]
        return jnp.sum(weight * (jax.nn.softplus(jax.nn.logsumexp(logits - own, axis=1, where=others)) - offset))

    def add(total, chunk):
        return jax.tree.map(jnp.add, total, jax.value_and_grad(of_chunk)(w, *chunk)), None

    return jax.lax.scan(add, (jnp.zeros(()), jnp.zeros_like(w)), (x, labels, weight))[0]


@jax.jit
def _second_derivative(w: jax.Array, x: jax.Array, labels: jax.Array, weight: jax.Array) -> jax.Array:
    """The diagonal of the second derivative of `_cross_entropy`: sum of x^2 p (1 - p), [R + 1, K]."""

    def add(total, chunk):
        x, _, weight = chunk
        p = jax.nn.softmax(_logits(w, x))
        bend = weight[:, None] * p * (1 - p)  # rows k
        of_weights = jnp.matmul(jnp.square(x).T, bend, precision=jax.lax.Precision.HIGHEST)
        return total + jnp.concatenate([of_weights, bend.sum(0)[None]]), None

    return jax.lax.scan(add, jnp.zeros_like(w), (x, labels, weight))[0]


def judge(weights: np.ndarray, bias: np.ndarray, x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracies and cross entropy of the logits `x @ weights + bias`; ties as in `classify.rank`.

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
