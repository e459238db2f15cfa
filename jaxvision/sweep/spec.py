"""The description of a sweep, and the checks before it starts.

A sweep file, configs/sweeps/NAME.py, has a function `get_sweep(arg=None) -> Sweep`, as a config file has `get_config`.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import durations, evaluations, inputs, literals, scripts, specs
from jaxvision.errors import UserError, nearest, unknown
from jaxvision.progress import track
from jaxvision.sweep import searches
from jaxvision.sweep import space as spaces

DIRECTIONS = ("maximize", "minimize")
OPENED = ("data", "init", "evals")  # sections of a config that name files


class Sweep(NamedTuple):
    """A search over configs.

    Attributes:
      config: Base config, "FILE.py" or "FILE.py:ARG", as in `jaxvision train --config=`.
      space: Dotted config key -> domain of `sweep.space`, or a value that all trials share.
      objective: Key of the results of a run. Pruning reads the same key of its metrics.
      direction: "maximize" or "minimize".
      search: "grid", "random(seed=0)", "qmc", "tpe(seed=0, startup=10)", "gp", "cmaes", "ageing_evolution" or
        "reinforce"; see `sweep.searches`.
      trials: Number of points to try; None for all points of a grid.
      seeds: Seeds of the runs of each point; the value of the point is the mean over them.
      pruning: "median", "asha" or "hyperband", with options, to end bad trials early; None for no pruning.
      folds: Number k of folds of `data.split` for a cross-validation; None for none. The runs of a point have the seeds
        0 to k - 1: the run of seed s trains without fold s + 1, on which the evaluation of the objective judges it.
    """

    config: str
    space: Mapping[str, Any]
    objective: str = "val/top1"
    direction: str = "maximize"
    search: str = "random"
    trials: int | None = None
    seeds: tuple[int, ...] = (0,)
    pruning: str | None = None
    folds: int | None = None

    @property
    def budget(self) -> int:
        """Number of trials."""
        points = sum(1 for _ in spaces.points(self.space)) if self.is_grid else None
        return min(x for x in (self.trials, points) if x is not None)

    @property
    def is_grid(self) -> bool:
        """True if the search goes through all points."""
        return specs.parse(self.search)[0].name == "grid"

    def base(self) -> ConfigDict:
        """Returns the base config, with the values that all trials share."""
        shared = {key: value for key, value in self.space.items() if not spaces.is_domain(value)}
        return configs.override(configs.load(self.config), shared)

    def config_of(self, params: Mapping[str, Any], seed: int) -> ConfigDict:
        """Returns the config of one run.

        Args:
          params: Value by key of the point.
          seed: Seed of the run.
        """
        base = self.base()
        seeded = {"seed": seed} if "seed" in base or seed else {}
        return configs.override(base, {**params, **seeded, **self.of_fold(seed, base)})

    def of_fold(self, seed: int, base: ConfigDict) -> dict[str, Any]:
        """Returns the values of the fold that the run of a seed holds out, by key; empty without `folds`.

        Args:
          seed: Seed of the run.
          base: Base config, from `base`.
        """
        if self.folds is None:
            return {}
        fold, held_out = f"{seed + 1}/{self.folds}", f"evals.{self.objective.partition('/')[0]}"
        of_evaluation = {"split": base.data.split, "subset.fold": fold, "subset.part": "held_out"}
        return {"data.subset.fold": fold, **{f"{held_out}.{key}": value for key, value in of_evaluation.items()}}


def load(path: str) -> Sweep:
    """Loads the sweep of a file and checks it with `check`.

    Args:
      path: File, `FILE.py` or `FILE.py:ARG`.

    Raises:
      UserError: If there is no such file, it has no `get_sweep`, or the sweep has a mistake.
    """
    sweep = scripts.load(path, "get_sweep", "sweep")
    file, _ = scripts.split(path)
    if not isinstance(sweep, Sweep):
        raise UserError(f"get_sweep of {file} must return a jaxvision.sweep.Sweep, not {type(sweep).__name__}")
    if isinstance(sweep.folds, int) and sweep.seeds == (0,):
        sweep = sweep._replace(seeds=tuple(range(sweep.folds)))
    check(sweep)
    return sweep


def check(sweep: Sweep) -> None:
    """Checks everything that needs no model.

    Args:
      sweep: Sweep to check.

    Raises:
      UserError: If the sweep has a mistake; the message names its key or field.
    """
    searches.make_search(sweep.search)
    if sweep.direction not in DIRECTIONS:
        raise unknown("direction", sweep.direction, DIRECTIONS)
    base = configs.load(sweep.config)
    _check_space(sweep.space, base)
    _check_trials(sweep)
    _check_seeds(sweep)
    evals = evaluations.expand_sets(base.get("evals", {}))
    name = max((entry for entry in evals if sweep.objective.startswith(f"{entry}/")), key=len, default="")
    if sweep.objective in ("", f"{name}/") or not name:
        raise unknown("evaluation of the objective, EVALUATION/METRIC,", sweep.objective, (f"{e}/..." for e in evals))
    if sweep.objective.rpartition("/")[2] == "loss" and sweep.direction == "maximize":
        raise UserError(
            f"the best {sweep.objective!r} would be the highest, of a run that diverged: set direction='minimize'"
        )
    if not sweep.pruning:
        return
    searches.make_pruning(sweep.pruning)
    every = f"evals.{name.partition('/')[0]}.every"
    length = sweep.space.get(every, evals[name].get("every", 0))
    durations.check(length, every)
    if durations.steps(length, batch_size=1, examples=10**9, total=10**9) == 0:
        raise UserError(
            f"pruning looks at {sweep.objective} during the run, but it is evaluated at the end only: set {every} "
            "to a duration such as '1 epoch', in the config or as a fixed value of the space"
        )


def check_experiments(sweep: Sweep, here: bool = False) -> int:
    """Builds the experiments at the ends of the space, without their data: each domain in turn, at each of its values.

    The mesh is ignored, since the runs may have other devices than the controller.

    Args:
      sweep: Sweep to check.
      here: True if the runs will be on this machine. Then the data and evaluations of the base config are opened too,
        and those of points whose keys choose data.

    Returns:
      Number of steps of a run of the base config.

    Raises:
      UserError: If `experiment.build` rejects a config; the message names the values that it rejects.
    """
    from jaxvision import checks, experiment

    def build(params: Mapping[str, Any]) -> experiment.Experiment:
        config = configs.override(base, params)
        config = ConfigDict({key: value for key, value in config.items() if key != "mesh"})
        opens = here and (not params or any(key.partition(".")[0] in OPENED for key in params))
        built = experiment.build(config, training_data="optional" if opens else "ignored")
        inputs.check_size(built.data, built.info)
        if opens:
            checks.check_run(built)
        return built

    base = sweep.base()
    domains = spaces.searched(sweep.space)
    total = build(sweep.of_fold(sweep.seeds[0], base)).total
    ends = [(key, domain, value) for key, domain in domains.items() for value in spaces.samples(domain)]
    for key, domain, value in track(ends, "checking the space of the sweep", unit="experiments"):
        params = {**_condition(domain, domains), key: value}
        try:
            build(params)
        except UserError as error:
            raise UserError(f"with {', '.join(f'{k}={v!r}' for k, v in params.items())}: {error}") from None
    return total


def to_json(sweep: Sweep) -> dict[str, Any]:
    """Returns the sweep and its resolved base config in the format of OUT/sweep.json, with domains as text.

    Args:
      sweep: Sweep to save.
    """
    fields = {key: value for key, value in sweep._asdict().items() if key != "folds" or value is not None}
    fields |= {"space": {key: repr(value) for key, value in sweep.space.items()}}
    return json.loads(json.dumps({"sweep": fields, "config": json.loads(configs.to_json(configs.load(sweep.config)))}))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lists what makes two sweeps different, one line for each key. A different number of trials does not count.

    Args:
      old: Saved sweep, in the format of `to_json`.
      new: Other sweep, in the same format.

    >>> old = {"sweep": {"search": "grid", "trials": 4, "space": {}}, "config": {"seed": 0}}
    >>> differences(old, {"sweep": {"search": "grid", "trials": 8, "space": {}}, "config": {"seed": 1}})
    ['config.seed: 0 -> 1']
    """

    def flat(saved: Mapping[str, Any]) -> dict[str, Any]:
        fields = {f"sweep.{key}": value for key, value in saved["sweep"].items() if key not in ("space", "trials")}
        space = {f"sweep.space: {key}": text for key, text in saved["sweep"]["space"].items()}
        return {**fields, **space, **configs.flatten(saved["config"], "config.")}

    a, b = flat(old), flat(new)
    changed = [key for key in {**a, **b} if (key in a) != (key in b) or a[key] != b[key]]
    return [f"{key}: {a.get(key, '(absent)')} -> {b.get(key, '(absent)')}" for key in changed]


def _check_space(space: spaces.Space, base: ConfigDict) -> None:
    domains = spaces.searched(space)
    if not domains:
        raise UserError(
            "the space of the sweep holds no domain, so there is nothing to search: add one, such as uniform(0, 1)"
        )
    fixed = {key: value for key, value in space.items() if not spaces.is_domain(value)}
    before: dict[str, Any] = {}
    for key, value in space.items():
        if key == "seed":
            raise UserError("the space of the sweep holds 'seed': seeds are not searched; list them in `seeds`")
        if isinstance(value, spaces.When):
            _check_condition(key, value, before)
        for sample in spaces.samples(value) if spaces.is_domain(value) else [value]:
            _check_value(key, sample)
            _check_override(base, {**fixed, **_condition(value, domains)}, key, sample)
        before[key] = value


def _check_override(base: ConfigDict, others: Mapping[str, Any], key: str, value: Any) -> None:
    """Raises UserError if the command line of a run cannot set a key to a value, or would set it to another."""
    words = {name: literals.Written(literals.write(x)) for name, x in {**others, key: value}.items()}
    try:
        result = configs.at(configs.override(base, words), key.split("."))
    except UserError as error:
        raise UserError(f"the space of the sweep: {error}") from error
    result = result.to_dict() if isinstance(result, ConfigDict) else result
    if result != value or isinstance(result, bool) != isinstance(value, bool):
        raise UserError(f"the space of the sweep: {key} cannot be {value!r}: the command line reads it as {result!r}")


def _check_condition(key: str, domain: spaces.When, before: Mapping[str, Any]) -> None:
    if domain.key not in before:
        raise UserError(
            f"{key!r} has a condition on {domain.key!r}, but no key before it in the space has that name"
            f"{nearest(domain.key, before) or '.'} Keys before it: {', '.join(before) or 'none'}"
        )
    other = before[domain.key]
    if not spaces.is_domain(other):
        raise UserError(f"{key!r} has a condition on {domain.key!r}, which has the same value in all trials")
    other = spaces.inner(other)
    if isinstance(other, spaces.Choice | spaces.Grid):
        for value in domain.values:
            if value not in other.values:
                raise unknown(f"value of {domain.key!r} in the condition of {key!r}", value, other.values)


def _check_value(key: str, value: Any) -> None:
    if value == "":
        raise UserError(f"the space of the sweep holds an empty text for {key!r}; 'none' is a spec without operations")
    if durations.is_duration(key):
        durations.check(value, key)


def _check_trials(sweep: Sweep) -> None:
    if sweep.trials is not None and (not isinstance(sweep.trials, int) or sweep.trials < 1):
        raise UserError(f"trials must be a whole number of at least 1, not {sweep.trials!r}")
    if not sweep.is_grid and sweep.trials is None:
        raise UserError(f"the search {sweep.search!r} does not end by itself: set `trials` of the sweep")
    searches.check_space(sweep.search, sweep.space)


def _check_seeds(sweep: Sweep) -> None:
    if not sweep.seeds or len(set(sweep.seeds)) < len(sweep.seeds):
        raise UserError(f"seeds must be different whole numbers, at least one, not {sweep.seeds!r}")
    for seed in sweep.seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise UserError(f"seeds must be whole numbers of at least 0, not {seed!r}")
    if sweep.folds is not None:
        if not isinstance(sweep.folds, int) or sweep.folds < 2:
            raise UserError(f"folds must be a whole number of at least 2, not {sweep.folds!r}")
        if sorted(sweep.seeds) != list(range(sweep.folds)):
            raise UserError(f"folds={sweep.folds} needs the seeds 0 to {sweep.folds - 1}: leave `seeds` out")


def _condition(domain: Any, domains: Mapping[str, spaces.Domain]) -> dict[str, Any]:
    """The values of other keys with which a domain is searched."""
    if not isinstance(domain, spaces.When):
        return {}
    return {**_condition(domains[domain.key], domains), domain.key: domain.values[0]}
