"""REINFORCE: a policy over choices, whose parameters follow the gradient of the expected score."""

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxvision.arguments import is_finite
from jaxvision.errors import UserError, shown
from jaxvision.sweep import searches
from jaxvision.sweep import space as spaces
from jaxvision.sweep.history import Ended

Logits = dict[str, np.ndarray]  # key -> float [values of its domain]
ADAM = (0.9, 0.999, 1e-8)  # decay of the first and of the second moment, and the number that is added to the root


class Policy(NamedTuple):
    """What REINFORCE remembers.

    Attributes:
      logits: Parameters of the softmax of each key.
      moments: Adam's moments of the gradient, first and second.
      steps: Number of Adam's steps.
      baseline: Moving average of the scores; None before the first one.
      worst: Worst score; None before the first one.
    """

    logits: Logits
    moments: tuple[Logits, Logits]
    steps: int = 0
    baseline: float | None = None
    worst: float | None = None


@searches.registry.register()
def reinforce(seed: int = 0, learning_rate: float = 0.1, decay: float = 0.9) -> searches.Search:
    """Draws points from a policy and follows R grad log p, with a moving average as the baseline (Zoph and Le 2017).

    Source: Zoph and Le 2017, "Neural architecture search with reinforcement learning", arXiv 1611.01578, sec. 3.2. The
    gradient of a trial is (score - baseline) grad log p(point), and Adam takes the step, as in the paper.
    The policy is smaller than the recurrent network of the paper: one softmax for each key, independent of the other
    keys. It learns from fewer trials, but cannot tell that one choice is good only together with another.

    The policy is uniform at first, so the first trial is that of `random` with this seed. With several runs at
    once, the gradient of a trial is taken at the policy that drew it, and is added to the newest one, as the
    parameter server of the paper does. A trial that failed or was pruned scores as the worst one so far.

    Args:
      seed: Seed of the points.
      learning_rate: Size of a step of Adam in a logit, above 0. The paper has 0.0006 for 12,800 trials.
      decay: Decay of the baseline, in [0, 1): the weight of its old value when a score arrives.

    Raises:
      UserError: If an option is out of its range.
    """
    if not is_finite(learning_rate) or learning_rate <= 0:
        raise UserError(f"reinforce(learning_rate={shown(learning_rate)}): give a number above 0")
    if not 0 <= decay < 1:
        raise UserError(f"reinforce(decay={shown(decay)}): give a number in [0, 1)")

    seen: tuple[spaces.Space, list[Ended]] = ({}, [])  # what the last call replayed, so that the next one continues
    after: list[Policy] = []

    def point(space: spaces.Space, history: Sequence[Ended], number: int) -> dict[str, Any]:
        nonlocal seen, after
        if seen != (space, history[: len(seen[1])]):
            after = []
        after, seen = policies(space, history, learning_rate, decay, after), (space, list(history))
        return draw(space, after[-1].logits, seed, number)

    return searches.Search(learned=point, listed=True)


def policies(
    space: spaces.Space, history: Sequence[Ended], learning_rate: float, decay: float, start: Sequence[Policy] = ()
) -> list[Policy]:
    """Replays the updates: returns the policy before the first trial of the history, and after each.

    Args:
      space: Space of finite domains.
      history: Trials that have ended, in this order.
      learning_rate, decay: Options of `reinforce`.
      start: The first of these policies, from an earlier call, to continue them; empty to begin.
    """
    after = list(start) or [uniform(space)]
    for trial in history[len(after) - 1 :]:
        score = after[-1].worst if trial.score is None else trial.score
        if score is None:  # it failed, and nothing has been completed yet, so it is not known what is bad
            after.append(after[-1])
        else:
            logits = after[trial.known].logits
            after.append(update(space, after[-1], logits, trial.point, score, learning_rate, decay))
    return after


def uniform(space: spaces.Space) -> Policy:
    """Returns the policy that draws the values of each key with the same probability.

    Args:
      space: Space of finite domains.
    """
    zeros = lambda: {key: np.zeros(len(spaces.samples(domain))) for key, domain in spaces.searched(space).items()}
    return Policy(zeros(), (zeros(), zeros()))


def update(
    space: spaces.Space,
    policy: Policy,
    drawn_with: Logits,
    point: dict[str, Any],
    score: float,
    learning_rate: float,
    decay: float,
) -> Policy:
    """Takes one step of Adam along the gradient of a point. The first score only sets the baseline.

    Args:
      space: Space of finite domains.
      policy: Policy to change.
      drawn_with: Logits with which the point was drawn, those of the policy or earlier ones.
      point: Value by key; only keys whose condition holds.
      score: Score of the point; more is better.
      learning_rate, decay: Options of `reinforce`.
    """
    if policy.baseline is None or policy.worst is None:
        return policy._replace(baseline=score, worst=score)
    gradient = policy_gradient(space, drawn_with, point, score - policy.baseline)
    b1, b2, epsilon = ADAM
    steps = policy.steps + 1
    first = {key: b1 * policy.moments[0][key] + (1 - b1) * g for key, g in gradient.items()}
    second = {key: b2 * policy.moments[1][key] + (1 - b2) * g**2 for key, g in gradient.items()}
    mean = {key: m / (1 - b1**steps) for key, m in first.items()}
    root = {key: np.sqrt(v / (1 - b2**steps)) + epsilon for key, v in second.items()}
    logits = {key: x + learning_rate * mean[key] / root[key] for key, x in policy.logits.items()}
    baseline = decay * policy.baseline + (1 - decay) * score
    return Policy(logits, (first, second), steps, baseline, min(policy.worst, score))


def draw(space: spaces.Space, logits: Logits, seed: int, number: int) -> dict[str, Any]:
    """Draws a point from the policy.

    Args:
      space: Space of finite domains.
      logits: Parameters of the policy.
      seed: Seed of the search.
      number: Number of the trial.
    """

    def pick(key: str, domain: Any) -> Any:
        u = np.random.default_rng([seed, number, zlib.crc32(key.encode())]).random()
        place = int(np.searchsorted(np.cumsum(probabilities(logits[key])), u, side="right"))
        return domain.values[min(place, len(domain.values) - 1)]  # the sum may round to less than 1

    return spaces.select(space, pick)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Computes a softmax.

    Args:
      logits: Float [k].

    >>> probabilities(np.array([0.0, np.log(3)])).round(2).tolist()
    [0.25, 0.75]
    """
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def log_probability(space: spaces.Space, logits: Logits, point: dict[str, Any]) -> float:
    """Computes the logarithm of the probability with which the policy draws a point.

    Args:
      space: Space of finite domains.
      logits: Parameters of the policy.
      point: Value by key; only keys whose condition holds.
    """
    return float(sum(np.log(probabilities(logits[key])[_place(space, key, value)]) for key, value in point.items()))


def policy_gradient(space: spaces.Space, logits: Logits, point: dict[str, Any], advantage: float) -> Logits:
    """Computes advantage * grad log p(point), whose mean over points is the gradient of the mean of their scores.

    A baseline that does not depend on the point leaves this mean as it is: the advantage is the score minus it.

    Args:
      space: Space of finite domains.
      logits: Parameters of the policy that drew the point.
      point: Value by key; only keys whose condition holds. The gradient of others is 0.
      advantage: Score minus baseline.

    Source: Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning",
    theorem 1.
    """
    gradient = {key: np.zeros_like(x) for key, x in logits.items()}
    for key, value in point.items():
        gradient[key] = -advantage * probabilities(logits[key])
        gradient[key][_place(space, key, value)] += advantage
    return gradient


def _place(space: spaces.Space, key: str, value: Any) -> int:
    return [repr(v) for v in spaces.samples(space[key])].index(repr(value))  # 1, 1.0 and True are equal, but differ
