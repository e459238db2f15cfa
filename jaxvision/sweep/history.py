"""What a search that learns knows of earlier trials, read from the journal and from nothing else.

Which trials had ended when a point was chosen, and in which order, is noted in the journal with each trial. So the
point of a trial is a function of the journal, and a controller that starts again chooses what the first one would have
chosen. Clocks play no part.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

ENDED = "ended"  # attribute of a trial in the journal: numbers of the trials that ended since the trial before it began


class Ended(NamedTuple):
    """A trial that has ended.

    Attributes:
      point: Value by key; a key whose condition does not hold is missing.
      score: Value of the objective, negated if the sweep minimizes it, so that more is better; None if the trial failed
        or was pruned.
      known: Number of trials, from the start of the history, that had ended when this point was chosen.
    """

    point: dict[str, Any]
    score: float | None
    known: int


def note(study: optuna.Study, trial: optuna.trial.Trial) -> None:
    """Notes in the journal which trials have ended since the trial before began; a trial that has its note keeps it.

    Args:
      study: Study of the journal.
      trial: Trial that begins.
    """
    trials = study.get_trials(deepcopy=False)
    if ENDED in trials[trial.number].user_attrs:
        return
    noted = {number for other in trials for number in other.user_attrs.get(ENDED, ())}
    ended = [other.number for other in trials if other.state.is_finished() and other.number not in noted]
    trial.set_user_attr(ENDED, ended)


def before(study: optuna.Study, number: int, point_of: Callable[[FrozenTrial], dict[str, Any]]) -> list[Ended]:
    """Returns the trials that had ended when a trial began, in the order in which later trials noted them.

    Args:
      study: Study of the journal.
      number: Number of the trial.
      point_of: Function that returns the point of a trial.
    """
    trials = study.get_trials(deepcopy=False)
    order: list[int] = []
    known = []
    for trial in trials[: number + 1]:
        order += trial.user_attrs.get(ENDED, ())
        known.append(len(order))
    sign = -1 if study.direction == StudyDirection.MINIMIZE else 1
    score = lambda trial: sign * trial.value if trial.state == TrialState.COMPLETE else None
    return [Ended(point_of(trials[i]), score(trials[i]), known[i]) for i in order]
