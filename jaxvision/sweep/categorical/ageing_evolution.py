"""Ageing evolution, also called regularised: the oldest of a population makes room for a mutated child."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxvision.errors import UserError
from jaxvision.sweep import searches
from jaxvision.sweep import space as spaces
from jaxvision.sweep.history import Ended


@searches.registry.register()
def ageing_evolution(seed: int = 0, population: int = 20, sample: int = 5) -> searches.Search:
    """Changes one choice of the best of some members of a population, which loses its oldest member (Real et al. 2019).

    Source: Real et al. 2019, "Regularized evolution for image classifier architecture search", AAAI, alg. 1.
    The first trials, as many as the population has members, are those of `random` with this seed. Then the
    population is the last trials that were completed: a member leaves it because of its age, however good it is. With
    several runs at once, a parent comes from the trials that have ended so far. Trials that failed or were
    pruned never enter the population. The paper has a population of 100 and samples of 25 for 20,000 trials.

    Args:
      seed: Seed of the points.
      population: Number of members of the population, at least 1.
      sample: Number of members that are drawn, with replacement, to be compared, at least 1; the best of them is the
        parent.

    Raises:
      UserError: If a number is below 1.
    """
    for option, value in (("population", population), ("sample", sample)):
        if value < 1:
            raise UserError(f"ageing_evolution({option}={value}): give a whole number of at least 1")

    def point(space: spaces.Space, history: Sequence[Ended], number: int) -> dict[str, Any]:
        members = alive(history, population)
        if number < population or not members:
            return spaces.select(space, lambda key, domain: spaces.draw(domain, seed, number, key))
        draws = np.random.default_rng([seed, number])
        drawn = [members[i] for i in draws.integers(len(members), size=sample)]
        return mutate(space, max(drawn, key=_score).point, draws)

    return searches.Search(learned=point, listed=True)


def alive(history: Sequence[Ended], population: int) -> list[Ended]:
    """Returns the population: the youngest of the completed trials.

    Args:
      history: Trials that have ended, in this order.
      population: Number of members.

    >>> history = [Ended({"a": i}, score, 0) for i, score in enumerate([0.9, 0.2, None, 0.1])]
    >>> [member.score for member in alive(history, 2)]
    [0.2, 0.1]
    """
    return [trial for trial in history if trial.score is not None][-population:]


def mutate(space: spaces.Space, parent: dict[str, Any], draws: np.random.Generator) -> dict[str, Any]:
    """Changes one choice of a point to another value. Choices that this makes active are drawn at random.

    Args:
      space: Space of finite domains.
      parent: Point to change.
      draws: Source of the random numbers.

    >>> space = {"a": spaces.choice(1, 2), "b": spaces.when("a", 2, spaces.choice("x"))}
    >>> mutate(space, {"a": 1}, np.random.default_rng(0)), mutate(space, {"a": 2, "b": "x"}, np.random.default_rng(0))
    ({'a': 2, 'b': 'x'}, {'a': 1})
    """
    domains = spaces.searched(space)
    others = {key: [v for v in spaces.samples(domains[key]) if repr(v) != repr(value)] for key, value in parent.items()}
    keys = [key for key in parent if others[key]]
    if not keys:
        return dict(parent)  # the only point of the space
    changed = keys[draws.integers(len(keys))]
    child = parent | {changed: others[changed][draws.integers(len(others[changed]))]}
    return spaces.select(
        space, lambda key, domain: child[key] if key in child else spaces.quantile(domain, draws.random())
    )


def _score(member: Ended) -> float:
    assert member.score is not None  # only completed trials are members
    return member.score
