"""A search on a table of results: what it would have found, without a run, so that many seeds cost seconds."""

from collections.abc import Callable
from typing import Any

from jaxvision.errors import UserError
from jaxvision.sweep import searches
from jaxvision.sweep import space as spaces
from jaxvision.sweep.history import Ended


def rehearse(
    spec: str, space: spaces.Space, value: Callable[[dict[str, Any]], float], trials: int, workers: int = 1
) -> list[dict[str, Any]]:
    """Returns the points that a sweep would choose, in order, if the value of each were known.

    Args:
      spec: Spec of the search; not one of Optuna's, which need a journal.
      space: Space of the sweep.
      value: Function that returns the value of a point; more is better.
      trials: Number of points.
      workers: Number of runs at once. All take the same time, so that the oldest ends when a new one begins.

    Raises:
      UserError: If the search is Optuna's, or does not go with the space.

    >>> space = {"a": spaces.choice(*range(10))}
    >>> points = rehearse("ageing_evolution(population=4, sample=4)", space, lambda point: -abs(point["a"] - 3), 12)
    >>> sum(abs(point["a"] - 3) for point in points[:4]), sum(abs(point["a"] - 3) for point in points[-4:])
    (17, 7)
    """
    search = searches.make_search(spec)
    searches.check_space(spec, space)
    if search.sampler is not None:
        raise UserError(f"the search {spec!r} is Optuna's, which cannot be rehearsed: run it as a sweep")
    points: list[dict[str, Any]] = []
    ended: list[Ended] = []
    for number in range(trials):
        if number >= workers:
            oldest = points[number - workers]
            ended.append(Ended(oldest, value(oldest), max(number - 2 * workers + 1, 0)))
        if search.learned is not None:
            points.append(search.learned(space, ended, number))
        else:
            assert search.point is not None
            points.append(search.point(space, number))
    return points
