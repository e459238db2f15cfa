"""The searches and the pruning that a sweep can name.

The points of grid, random and quasi-random search are functions of their number alone, so neither the number of runs at
once nor the order in which they end matters. The others learn from the trials that have ended: those of the folder
`categorical` are functions of the number and of the trials in the journal, the rest are Optuna's. Their random
numbers come from (seed, number of the trial), so a restarted controller does not repeat any.
"""

import functools
import importlib.util
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from jaxvision import specs
from jaxvision.errors import UserError
from jaxvision.sweep import history
from jaxvision.sweep import space as spaces

LEARNING = "jaxvision.sweep.categorical"  # package of the searches over listed values that learn
registry = specs.Registry("search", [LEARNING], plural="searches", usage='Sweep(search="CALL", ...)')
pruning = specs.Registry("pruning", plural="pruning", usage='Sweep(pruning="CALL", ...)')
STUDY = "sweep"  # its name in the journal
Pruning = Callable[[int], BasePruner]  # steps of a run -> pruner


class Search(NamedTuple):
    """A rule that chooses points: exactly one of the three functions is set.

    Attributes:
      point: Function `(space, number) -> params`.
      sampler: Function `number -> sampler of Optuna`.
      learned: Function `(space, trials that have ended, number) -> params`.
      listed: True if it goes through listed values, so that all domains must be `choice` or `grid`.
    """

    point: Callable[[spaces.Space, int], dict[str, Any]] | None = None
    sampler: Callable[[int], BaseSampler] | None = None
    learned: Callable[[spaces.Space, Sequence[history.Ended], int], dict[str, Any]] | None = None
    listed: bool = False


def make_search(spec: str) -> Search:
    """Makes the search of a spec.

    Args:
      spec: Name and options, such as "tpe(startup=20)".

    Raises:
      UserError: If the name or an option is unknown, or a library is missing.
    """
    return _one(registry, spec)


def check_space(spec: str, space: spaces.Space) -> None:
    """Checks that a search can go through a space.

    Args:
      spec: Spec of the search.
      space: Space of the sweep.

    Raises:
      UserError: If the search takes listed values only, and a domain has others.
    """
    for key, domain in spaces.searched(space).items() if make_search(spec).listed else ():
        if not isinstance(spaces.inner(domain), spaces.Choice | spaces.Grid):
            raise UserError(
                f"the search {specs.parse(spec)[0].name!r} goes through listed values, but {key!r} is {domain!r}: "
                "list its values with choice(...) or use grid(...), or take another search, such as 'random' or 'tpe'"
            )


def make_pruning(spec: str) -> Pruning:
    """Makes the pruning of a spec.

    Args:
      spec: Name and options, such as "asha(factor=4)".

    Returns:
      Function from the steps of a run to Optuna's pruner.

    Raises:
      UserError: If the name or an option is unknown.
    """
    return _one(pruning, spec)


def open_journal(path: Path, direction: str) -> optuna.Study:
    """Opens the Optuna study of a journal file, which optuna-dashboard can open too.

    A last line that a killed process left unfinished is removed first.

    Args:
      path: Journal file; it is made if it does not exist.
      direction: "maximize" or "minimize".
    """
    if path.is_file() and (text := path.read_bytes()) and not text.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(text.rfind(b"\n") + 1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The lock of a killed process expires after these seconds.
    backend = JournalFileBackend(str(path), JournalFileSymlinkLock(str(path), grace_period=5))
    return optuna.create_study(
        storage=JournalStorage(backend),
        study_name=STUDY,
        direction=cast(Literal["minimize", "maximize"], direction),
        load_if_exists=True,
    )


def ask(
    study: optuna.Study, search: Search, space: spaces.Space, unfinished: optuna.trial.FrozenTrial | None = None
) -> optuna.trial.Trial:
    """Asks for a new trial, and writes all its parameters to the journal.

    Args:
      study: Study of the journal.
      search: Search that chooses the point.
      space: Space of the sweep.
      unfinished: Trial of a killed controller, to complete instead of a new one; its recorded parameters are kept.
    """
    number = len(study.get_trials(deepcopy=False)) if unfinished is None else unfinished.number
    if search.sampler is not None:
        study.sampler = search.sampler(number)
    else:
        study.sampler = _sampler_of_point(functools.cache(lambda: _choose(study, search, space, number)))
    trial = study.ask() if unfinished is None else optuna.trial.Trial(study, unfinished._trial_id)
    if search.learned is not None:
        history.note(study, trial)
    point_of(trial, space)
    return trial


def _choose(study: optuna.Study, search: Search, space: spaces.Space, number: int) -> dict[str, Any]:
    if search.learned is not None:
        ended = history.before(study, number, lambda trial: point_of(trial, space))
        return search.learned(space, ended, number)
    assert search.point is not None
    return search.point(space, number)


def point_of(trial: optuna.trial.BaseTrial, space: spaces.Space) -> dict[str, Any]:
    """Returns the point of a trial: its value by key.

    Args:
      trial: Trial of Optuna, frozen or not.
      space: Space of the sweep.
    """

    def pick(key: str, domain: Any) -> Any:
        if isinstance(domain, spaces.Choice | spaces.Grid):
            values = {_label(value): value for value in domain.values}
            return values[trial.suggest_categorical(key, list(values))]
        if isinstance(domain, spaces.Integers):
            return trial.suggest_int(key, domain.low, domain.high, log=domain.log)
        return trial.suggest_float(key, domain.low, domain.high, log=isinstance(domain, spaces.LogUniform))

    return spaces.select(space, pick)


def _label(value: Any) -> Any:
    """The form of a value in the journal, which holds numbers and text."""
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _sampler_of_point(point: Callable[[], dict[str, Any]]) -> Any:
    """A sampler of Optuna that gives the values of one point, which is chosen when the first of them is asked for."""

    class Point(BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict:
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict:
            return {}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return _label(point()[param_name])

    return Point()


def _one(kind: specs.Registry, spec: str) -> Any:
    if len(specs.parse(spec)) != 1:
        raise UserError(f"{spec!r} is not one {kind.kind}: give one name with its options")
    return kind.build(spec)[0]


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


@registry.register()
def grid() -> Search:
    """Goes through all points of finite domains; the last key varies fastest."""
    return Search(point=lambda space, number: next(itertools.islice(spaces.points(space), number, None)), listed=True)


@registry.register()
def random(seed: int = 0) -> Search:
    """Draws independent points (Bergstra and Bengio 2012).

    Args:
      seed: Seed of the points.
    """

    def point(space: spaces.Space, number: int) -> dict[str, Any]:
        return spaces.select(space, lambda key, domain: spaces.draw(domain, seed, number, key))

    return Search(point=point)


@registry.register()
def qmc(seed: int = 0) -> Search:
    """Goes through a scrambled Sobol sequence, which covers the space more evenly than random points (Owen 1998).

    This is SciPy's: the points of Optuna's are random until a trial has ended. A power of two is the best number of
    trials.

    Args:
      seed: Seed of the scrambling.
    """

    def point(space: spaces.Space, number: int) -> dict[str, Any]:
        from scipy.stats import qmc

        domains = spaces.searched(space)
        sequence = qmc.Sobol(len(domains), seed=seed)
        if number:
            sequence.fast_forward(number)
        row = dict(zip(domains, sequence.random(1)[0].tolist()))
        return spaces.select(space, lambda key, domain: spaces.quantile(domain, row[key]))

    return Search(point=point)


@registry.register()
def tpe(seed: int = 0, startup: int = 10) -> Search:
    """Tree-structured Parzen estimators (Bergstra et al. 2011).

    Args:
      seed: Seed of the sampler.
      startup: Number of random trials at the start.
    """
    return Search(sampler=lambda n: optuna.samplers.TPESampler(seed=_seed(seed, n), n_startup_trials=startup))


@registry.register()
def gp(seed: int = 0, startup: int = 10) -> Search:
    """A Gaussian process with expected improvement; it needs torch.

    Args:
      seed: Seed of the sampler.
      startup: Number of random trials at the start.

    Raises:
      UserError: If torch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise UserError("the search 'gp' needs torch, which is not installed: pip install torch; or use 'tpe'")
    return Search(sampler=lambda n: optuna.samplers.GPSampler(seed=_seed(seed, n), n_startup_trials=startup))


@registry.register()
def cmaes(seed: int = 0, startup: int = 1, population: int | None = None) -> Search:
    """CMA-ES (Hansen and Ostermeier 2001). Keys with a condition and choices are drawn at random.

    Args:
      seed: Seed of the sampler.
      startup: Number of random trials at the start.
      population: Number of trials in a generation; None for the default of the library, which grows with the dimension.
    """
    return Search(
        sampler=lambda n: optuna.samplers.CmaEsSampler(
            seed=_seed(seed, n), n_startup_trials=startup, popsize=population, warn_independent_sampling=False
        )
    )


@pruning.register()
def median(startup: int = 5, warmup: float = 0.0) -> Pruning:
    """Ends a trial whose best value so far is worse than the median of the others at that step.

    Args:
      startup: Number of trials that must end before any trial is pruned.
      warmup: Share of a run that is never pruned, in [0, 1).
    """
    _check_share("median", "warmup", warmup, zero=True)
    return lambda steps: optuna.pruners.MedianPruner(startup, round(warmup * steps))


@pruning.register()
def asha(start: float = 0.1, factor: int = 3) -> Pruning:
    """Asynchronous successive halving (Li et al. 2020): at each rung the best of `factor` trials continue.

    Args:
      start: Share of a run before the first rung, in (0, 1); each further rung is `factor` times as far.
      factor: Reduction at each rung: one in `factor` trials continues.
    """
    _check_rungs("asha", start, factor)
    return lambda steps: optuna.pruners.SuccessiveHalvingPruner(max(round(start * steps), 1), factor)


@pruning.register()
def hyperband(start: float = 0.1, factor: int = 3) -> Pruning:
    """Successive halving in several brackets that begin at different rungs (Li et al. 2018).

    Args:
      start: Share of a run before the first rung, in (0, 1); see `asha`.
      factor: Reduction at each rung; see `asha`.
    """
    _check_rungs("hyperband", start, factor)
    return lambda steps: optuna.pruners.HyperbandPruner(max(round(start * steps), 1), steps, factor)


def _check_share(name: str, option: str, value: float, zero: bool = False) -> None:
    if not (isinstance(value, int | float) and 0 <= value < 1 and (zero or value > 0)):
        raise UserError(f"{name}({option}={value!r}): give a share of the run, in {'[' if zero else '('}0, 1)")


def _check_rungs(name: str, start: float, factor: int) -> None:
    _check_share(name, "start", start)
    if not isinstance(factor, int) or factor < 2:
        raise UserError(f"{name}(factor={factor!r}): give a whole number of at least 2")
