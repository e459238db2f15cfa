"""The searches and the pruning that a sweep can name.

The points of grid, random and quasi-random search are functions of their number alone, so neither the number of runs at
once nor the order in which they end plays a part. The others learn from the trials that have ended: they are Optuna's.
Their random numbers come from (seed, number of the trial), so a controller that starts again does not repeat any.
"""

import importlib.util
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from jaxvision import specs
from jaxvision.errors import UserError
from jaxvision.sweep import space as spaces

registry = specs.Registry("search")
pruning = specs.Registry("pruning")
STUDY = "sweep"  # the name in the journal


class Search(NamedTuple):
    """How points are chosen: one of the two is there.

    Attributes:
      point: `(space, number) -> params`.
      sampler: `number -> sampler` of Optuna.
    """

    point: Callable[[spaces.Space, int], dict[str, Any]] | None = None
    sampler: Callable[[int], Any] | None = None


def of(spec: str) -> Search:
    """The search of a spec, such as "tpe(startup=20)".

    Raises:
      UserError: an unknown name or option, or a library that is missing.
    """
    return _one(registry, spec)


def pruning_of(spec: str) -> Callable[[int], Any]:
    """`steps of a run -> optuna pruner` of a spec, such as "asha(factor=4)".

    Raises:
      UserError: an unknown name or option.
    """
    return _one(pruning, spec)


def open_journal(path: Path, direction: str) -> Any:
    """The Optuna study of a journal file, made where there is none; optuna-dashboard opens it too.

    A last line that a killed process left unfinished is cut off first.
    """
    if path.is_file() and (text := path.read_bytes()) and not text.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(text.rfind(b"\n") + 1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The lock of a killed process is taken over after these seconds.
    backend = JournalFileBackend(str(path), JournalFileSymlinkLock(str(path), grace_period=5))
    return optuna.create_study(
        storage=JournalStorage(backend), study_name=STUDY, direction=direction, load_if_exists=True
    )


def ask(study: Any, search: Search, space: spaces.Space, unfinished: Any = None) -> Any:
    """A new trial of an Optuna study with all its parameters in the journal.

    Args:
      study: the study.
      search: how the point is chosen.
      space: of the sweep.
      unfinished: a frozen trial to complete in its place, of a controller that died; what stands there is kept.
    """
    number = len(study.get_trials(deepcopy=False)) if unfinished is None else unfinished.number
    study.sampler = _sampler_of_points(search.point, space) if search.point else search.sampler(number)
    trial = study.ask() if unfinished is None else optuna.trial.Trial(study, unfinished._trial_id)
    point_of(trial, space)
    return trial


def point_of(trial: Any, space: spaces.Space) -> dict[str, Any]:
    """Value by key of a trial of Optuna's, frozen or not."""

    def pick(key: str, domain: Any) -> Any:
        if isinstance(domain, spaces.Choice | spaces.Grid):
            values = {_label(value): value for value in domain.values}
            return values[trial.suggest_categorical(key, list(values))]
        if isinstance(domain, spaces.Integers):
            return trial.suggest_int(key, domain.low, domain.high, log=domain.log)
        return trial.suggest_float(key, domain.low, domain.high, log=isinstance(domain, spaces.LogUniform))

    return spaces.select(space, pick)


def _label(value: Any) -> Any:
    """What stands for a value in the journal, which holds numbers and text."""
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _sampler_of_points(point: Callable, space: spaces.Space) -> Any:
    """The points of a search that does not learn, in Optuna's terms."""

    class Points(BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict:
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict:
            return {}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return _label(point(space, trial.number)[param_name])

    return Points()


def _one(kind: specs.Registry, spec: str) -> Any:
    if len(specs.parse(spec)) != 1:
        raise UserError(f"one {kind.kind} is wanted, not {spec!r}")
    return kind.build(spec)[0]


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


@registry.register()
def grid() -> Search:
    """All points of finite domains, the last key varying fastest."""
    return Search(point=lambda space, number: next(itertools.islice(spaces.points(space), number, None)))


@registry.register()
def random(seed: int = 0) -> Search:
    """Independent points (Bergstra and Bengio 2012)."""

    def point(space: spaces.Space, number: int) -> dict[str, Any]:
        return spaces.select(space, lambda key, domain: spaces.draw(domain, seed, number, key))

    return Search(point=point)


@registry.register()
def qmc(seed: int = 0) -> Search:
    """A scrambled Sobol sequence, which covers the space more evenly than random points (Owen 1998).

    SciPy's, not Optuna's, whose points are random until a trial has ended. Best with a power of two of trials.
    """

    def point(space: spaces.Space, number: int) -> dict[str, Any]:
        from scipy.stats import qmc

        domains = spaces.searched(space)
        sequence = qmc.Sobol(len(domains), seed=seed)
        if number:
            sequence.fast_forward(number)
        row = dict(zip(domains, sequence.random(1)[0].tolist()))
        return spaces.select(space, lambda key, domain: spaces.at(domain, row[key]))

    return Search(point=point)


@registry.register()
def tpe(seed: int = 0, startup: int = 10) -> Search:
    """Tree-structured Parzen estimators (Bergstra et al. 2011) after `startup` random trials."""
    return Search(sampler=lambda n: optuna.samplers.TPESampler(seed=_seed(seed, n), n_startup_trials=startup))


@registry.register()
def gp(seed: int = 0, startup: int = 10) -> Search:
    """A Gaussian process with expected improvement after `startup` random trials; needs torch."""
    if importlib.util.find_spec("torch") is None:
        raise UserError("the search 'gp' needs torch, which is not installed: pip install torch; or use 'tpe'")
    return Search(sampler=lambda n: optuna.samplers.GPSampler(seed=_seed(seed, n), n_startup_trials=startup))


@registry.register()
def cmaes(seed: int = 0, startup: int = 1, population: int | None = None) -> Search:
    """CMA-ES (Hansen and Ostermeier 2001); keys with a condition and choices are drawn at random."""
    return Search(
        sampler=lambda n: optuna.samplers.CmaEsSampler(
            seed=_seed(seed, n), n_startup_trials=startup, popsize=population, warn_independent_sampling=False
        )
    )


@pruning.register()
def median(startup: int = 5, warmup: float = 0.0) -> Callable[[int], Any]:
    """Ends a trial whose best value so far is worse than the median of others at that step.

    Args:
      startup: trials that end before any is pruned.
      warmup: share of a run that is never pruned.
    """
    _check_share("median", "warmup", warmup, zero=True)
    return lambda steps: optuna.pruners.MedianPruner(startup, round(warmup * steps))


@pruning.register()
def asha(start: float = 0.1, factor: int = 3) -> Callable[[int], Any]:
    """Asynchronous successive halving (Li et al. 2020): at each rung the best of `factor` trials go on.

    Args:
      start: share of a run at the first rung; each further one is `factor` times as far.
      factor: one in how many goes on.
    """
    _check_rungs("asha", start, factor)
    return lambda steps: optuna.pruners.SuccessiveHalvingPruner(max(round(start * steps), 1), factor)


@pruning.register()
def hyperband(start: float = 0.1, factor: int = 3) -> Callable[[int], Any]:
    """Successive halving in several brackets that begin at different rungs (Li et al. 2018); options as of `asha`."""
    _check_rungs("hyperband", start, factor)
    return lambda steps: optuna.pruners.HyperbandPruner(max(round(start * steps), 1), steps, factor)


def _check_share(name: str, option: str, value: float, zero: bool = False) -> None:
    if not (isinstance(value, int | float) and 0 <= value < 1 and (zero or value > 0)):
        raise UserError(f"{name}({option}={value!r}): want a share of the run, in {'[' if zero else '('}0, 1)")


def _check_rungs(name: str, start: float, factor: int) -> None:
    _check_share(name, "start", start)
    if not isinstance(factor, int) or factor < 2:
        raise UserError(f"{name}(factor={factor!r}): want a whole number of at least 2")
