"""Turns the section `evals` of a config into evaluators whose data are open."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxvision import arguments, calls, cautions, durations, evals, inputs
from jaxvision import config as configs
from jaxvision.data import host_ops, text
from jaxvision.data.sources import Info, Source, open_source
from jaxvision.data.subsets import unwrap
from jaxvision.errors import UserError, listed, unknown
from jaxvision.evals import dataset, features, texts, zeroshot
from jaxvision.evals.store import Store
from jaxvision.fields import Field
from jaxvision.sections import DataSection, EvalSection
from jaxvision.train.loop import Evaluation
from jaxvision.train.state import TrainState

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables

MEAN = "mean"  # name of the evaluation with the mean over the sets of an entry
VARIABLES = {"averaged": lambda state: state.best_variables, "trained": lambda state: state.variables}


class Judged(NamedTuple):
    """The model to evaluate, and the defaults of its evaluations.

    Attributes:
      task: Task whose `outputs` are evaluated; nothing else of it is used.
      variables: Variables of the task, arrays or `ShapeDtypeStruct`s.
      data: Section `data` of the config: default set, batch size, and options of reading.
      host, augment: Default specs, without random operations.
      info: Info of the set that the model was trained on.
      statistics: Statistics of that set that `augment` needs, by name.
      mesh: Mesh of the devices.
      store: Store that keeps computed features.
      source: Training set if it is open, to warn of images that are in both sets.
      fields: Fields of the training batches as they come from the host, if they are known.
    """

    task: "Task"
    variables: "Variables"
    data: DataSection
    host: str
    augment: str
    info: Info
    statistics: Mapping[str, np.ndarray]
    mesh: Mesh
    store: Store
    source: Source | None = None
    fields: Mapping[str, Field] = {}


def expand_sets(sections: Mapping[str, Mapping]) -> dict[str, dict[str, Any]]:
    """Expands `sets`: returns the entries of `config.evals` by name, with one entry for each set.

    Args:
      sections: Section `evals` of a config: a mapping of keys by name.

    Returns:
      Keys by name, without `sets`. An entry `a` with the sets `x` and `y` becomes `a/x` and `a/y`.

    Raises:
      UserError: If an entry is not a mapping under a name, or its `sets` is not a mapping of mappings.

    >>> expand_sets({"a": {"name": "knn", "sets": {"x": {"data": "x"}, "y": {"data": "y"}}}})
    {'a/x': {'name': 'knn', 'data': 'x'}, 'a/y': {'name': 'knn', 'data': 'y'}}
    """
    expanded: dict[str, dict[str, Any]] = {}
    for name, section in ConfigDict(dict(sections)).to_dict().items():
        if not name or not isinstance(section, Mapping):
            raise UserError(f"evals.{name} must be a dict(name=..., split=...) under a name, not {section!r}")
        sets = section.get("sets")
        if sets is not None and not (isinstance(sets, Mapping) and all(isinstance(s, Mapping) for s in sets.values())):
            raise UserError(f"evals.{name}.sets must be a dict(NAME=dict(data=..., split=...), ...), not {sets!r}")
        shared = {key: value for key, value in section.items() if key != "sets"}
        if shared.get("mean") and not (sets and MEAN not in sets):
            raise UserError(
                f"evals.{name}.mean is the mean over several sets, {name}/{MEAN}: set evals.{name}.sets, none of them "
                f"called {MEAN!r}"
            )
        if sets:
            expanded |= {f"{name}/{set_name}": {**shared, **keys} for set_name, keys in sets.items()}
        else:
            expanded[name] = shared
    return expanded


class Entry(NamedTuple):
    """An entry of `config.evals`, read and checked.

    Attributes:
      name: Name of the entry.
      common: Keys that every evaluation may have, with defaults filled in.
      factory: Factory of the evaluator.
      options: Options of the evaluator, as the config has them.
    """

    name: str
    common: EvalSection
    factory: Callable
    options: Mapping[str, Any]


def read_entries(sections: Mapping[str, Mapping] | None) -> tuple[Entry, ...]:
    """Reads and checks the entries of `config.evals`; opens no data.

    Args:
      sections: Section `evals` of a config; None for a config without evaluations.

    Returns:
      The entries, with one for each set of an entry that has `sets`.

    Raises:
      UserError: If an evaluator or key is unknown, or a `train_split` is missing or not used.
    """
    return tuple(_read(name, section) for name, section in expand_sets(sections or {}).items())


def _read(name: str, section: Mapping) -> Entry:
    where = f"evals.{name}"
    common = {k: v for k, v in section.items() if k in EvalSection._fields}
    options = {k: v for k, v in section.items() if k not in common}
    if "name" not in common:
        raise UserError(f"the config misses '{where}.name'. Evaluators: {listed(name, evals.EVALUATORS)}")
    arguments.check_value(f"config key {where}.name", common["name"], str)
    factory = evals.get_evaluator(common["name"])
    program = (*evals.EVALUATORS.required, *evals.EVALUATORS.offered)
    calls.check(factory, options, calls.ConfigKeys(where), program=program, others=EvalSection._fields)
    filled = configs.call(EvalSection, common, where)
    taken = calls.parameters(factory)
    if "train" in taken and filled.train_split is None:
        raise UserError(f"{where}: the evaluator {filled.name!r} learns from images: set '{where}.train_split'")
    if "train" not in taken and filled.train_split is not None:
        raise UserError(f"{where}: the evaluator {filled.name!r} learns nothing: leave '{where}.train_split' out")
    if filled.weights not in VARIABLES:
        raise unknown(f"value of {where}.weights", filled.weights, VARIABLES)
    if filled.train_subset is not None and filled.train_split is None:
        raise UserError(f"{where}.train_subset is a subset of train_split, which is missing: set '{where}.train_split'")
    if filled.batch_size is not None and filled.batch_size < 1:
        raise UserError(f"{where}.batch_size must be at least 1, not {filled.batch_size}")
    durations.check(filled.every, f"{where}.every")
    return Entry(name, filled, factory, options)


def make_evaluations(entries: Sequence[Entry], judged: Judged, steps: Callable[[str | int], int]) -> list[Evaluation]:
    """Makes the evaluations of the entries. A split that several entries read is opened once.

    Everything is checked before anything is computed.

    Args:
      entries: Entries from `read_entries`.
      judged: Model to evaluate.
      steps: Function that turns a duration into a number of steps.

    Raises:
      UserError: If a section, set or layer does not fit the model.
    """
    opened: dict[str, dataset.EvalSet] = {}
    made = [_make(entry, judged, steps, opened) for entry in entries]
    for name in dict.fromkeys(entry.name.rpartition("/")[0] for entry in entries if entry.common.mean):
        mine = [i for i, entry in enumerate(entries) if entry.common.mean and entry.name.rpartition("/")[0] == name]
        made[mine[0] : mine[-1] + 1], mean = _with_mean(name, made[mine[0] : mine[-1] + 1])
        made.append(mean)
    return made


def _with_mean(name: str, sets: Sequence[Evaluation]) -> tuple[list[Evaluation], Evaluation]:
    """The evaluations of several sets and that of the mean over them, which follows from their results."""
    if len(intervals := sorted({one.every for one in sets})) > 1:
        raise UserError(
            f"evals.{name}.mean is of one step, and its sets are evaluated every {' or '.join(map(str, intervals))} "
            f"steps: set the same evals.{name}.every for all of them"
        )
    latest: dict[str, tuple[Any, dict[str, float]]] = {}

    def remembering(one: Evaluation) -> Evaluation:
        def run(state: TrainState) -> dict[str, float]:
            results = one.run(state)
            latest[one.name] = (state.params, results)
            return results

        return one._replace(run=run)

    def mean(state: TrainState) -> dict[str, float]:
        results = []
        for one in sets:  # one that ran before an interruption runs again
            params, values = latest.get(one.name, (None, {}))
            results.append(values if params is state.params else one.run(state))
        latest.clear()
        metrics = [key for key in results[0] if key != "examples" and all(key in values for values in results)]
        if not metrics:
            raise UserError(f"evals.{name}.mean: the sets have no metric in common, so there is no mean")
        return {key: sum(values[key] for values in results) / len(results) for key in metrics}

    names = [metric for metric in sets[0].metrics if all(metric in one.metrics for one in sets)]
    return [remembering(one) for one in sets], Evaluation(f"{name}/{MEAN}", sets[0].every, mean, metrics=tuple(names))


def _make(entry: Entry, judged: Judged, steps: Callable, opened: dict) -> Evaluation:
    (name, common, factory, entry_options), where = entry, f"evals.{entry.name}"
    options = dict(entry_options)
    supplied: dict[str, Any] = {}  # arguments of the factory that the program fills in
    if "texts" in calls.parameters(factory):
        supplied["texts"] = texts.find_texts(common.host, judged.host)
        if supplied["texts"] is None:
            raise UserError(
                f"{where}: the evaluator {common.name!r} needs a tokenizer: put tokenize(...) at the end of "
                f"'{where}.host', as in \"{judged.host}|tokenize('clip', path='bpe_simple_vocab_16e6.txt.gz')\""
            )
    captions = supplied["texts"].field if supplied else "text"
    wanted = evals.read_fields(common.name, options)
    data = open_split(common, common.split, common.subset, judged, opened, wanted, captions).for_evaluator()
    train = None
    if common.train_split is not None:
        train = open_split(common, common.train_split, common.train_subset, judged, opened).for_evaluator()
        supplied["train"] = train
    elif lacking := [name for name in evals.needed_fields(common.name, options) if name not in data.batch]:
        raise UserError(
            f"{where}: the evaluator {common.name!r} needs the field {lacking[0]!r}, and data.fields is "
            f"{', '.join(judged.data.fields)}: add it there, or take an evaluator that learns, such as 'knn'"
        )
    elif "trained" in calls.parameters(factory):
        supplied["trained"] = judged.info
    elif "texts" not in supplied and (info := data.info).num_classes != judged.info.num_classes:
        raise UserError(
            f"{where}: {info.name!r} has {info.num_classes} classes, the training set "
            f"{judged.info.name!r} has {judged.info.num_classes}"
        )
    if options.get("report"):
        options["report"] = f"{options['report']}/{name}"  # so that entries of one set do not overwrite each other
    if "layers" in options:
        options["layers"] = features.find_layers(judged.task, data, judged.variables, options["layers"])
    judge = configs.call(factory, options, where, task=judged.task, data=data, **supplied)
    layers = [options["layer"]] if "layer" in options else [zeroshot.LAYER] if "texts" in supplied else []
    if layers:
        features.check_layers(judged.task, data, judged.variables, layers)
    warnings = () if options.get("only") else _cautions(where, common, judged, data, train)
    if supplied.get("texts") and "text" in (wanted or ()):
        host = judged.host if common.host is None else common.host
        warnings += tuple(cautions.warn_of_captions(data.source, host))
    splits = [one for one in (data, train) if one is not None]
    for split in splits:
        split.plan()
    variables_of = VARIABLES[common.weights]

    def expect(state: TrainState) -> None:
        for split in splits:
            split.expect(variables_of(state))

    return Evaluation(
        name,
        steps(common.every),
        lambda state: judge(variables_of(state)),
        warnings,
        sum(split.info.num_examples for split in splits),
        expect,
        evals.metrics(common.name, options, data.info.num_classes),
    )


def _cautions(
    where: str,
    common: EvalSection,
    judged: Judged,
    data: dataset.EvalSet,
    train: dataset.EvalSet | None,
) -> tuple[str, ...]:
    """Warnings about the data of an evaluation, such as images that are also in the training set."""
    chosen = _set_of(common, judged.data)

    def size(split: str) -> int:
        name, data_dir, options = chosen
        return len(unwrap(open_source(name, split, data_dir=data_dir, options=options))[0])

    lines = cautions.warn_of_classes(data.source, trained=False) if "label" in data.batch else []
    if train is not None:
        lines += cautions.warn_of_classes(train.source, trained=True)
        lines += cautions.warn_of_overlap(where, "it", train.source, data.source, size)
    if judged.source is not None:
        same = chosen == (judged.data.name, judged.data.data_dir, judged.data.options)
        lines += cautions.warn_of_overlap(where, "the run", judged.source, data.source, size if same else None)
    return tuple(lines)


def _set_of(section: EvalSection, data: DataSection) -> tuple[str, str | None, Mapping | None]:
    """Name, folder and options of the set that an evaluation reads: the set of training unless it names another."""
    if section.data:
        return section.data, section.data_dir, section.options
    return data.name, section.data_dir or data.data_dir, section.options or data.options


def open_split(
    section: EvalSection,
    split: str,
    subset: Mapping | None,
    judged: Judged,
    opened: dict[str, dataset.EvalSet],
    wanted: Sequence[str] | None = None,
    captions: str = "text",
) -> dataset.EvalSet:
    """Opens a split of the set that an evaluation reads, unless it is open already.

    Args:
      section: Section of the evaluation, with its `data`, `host`, `augment` and `batch_size`.
      split: Name of the split.
      subset: Subset of the split, as in `config.data`, or None for all of it.
      judged: Model to evaluate, with the defaults of what `section` leaves out.
      opened: Open sets by a JSON key of their section, specs and fields; this one is added.
      wanted: Names of the fields to read, with "text" for the captions. None reads the fields of training or, for a
        section with `train_split`, images and label: an evaluator that learns needs labels even if the task does not.
      captions: Name of the field that holds the captions.
    """
    data = judged.data
    host = judged.host if section.host is None else section.host
    augment = judged.augment if section.augment is None else section.augment
    if wanted is None:
        images = [name for name, field in judged.fields.items() if field.kind == "image"]
        wanted = data.fields if section.train_split is None else (*(images or ("image",)), "label")
    fields = tuple(field for field in wanted if field != "text")
    stored = (*fields, captions) if "text" in wanted else fields
    kinds = {field.kind for name, field in judged.fields.items() if name in fields}
    host = host_ops.serving(host, kinds | ({"tokens"} if set(text.MADE) & set(fields) else set()))
    batch_size = section.batch_size or data.batch_size
    name, data_dir, options = _set_of(section, data)
    examples: dict[str, Any] = dict(name=name, split=split, data_dir=data_dir, options=options, subset=subset)
    identity = json.loads(configs.to_json(ConfigDict(examples)))
    key = json.dumps([identity, host, augment, stored, batch_size])
    if key not in opened:
        opened[key] = dataset.EvalSet(
            inputs.open_set(**examples, host=host, fields=stored, classes=judged.info.num_classes),
            host=host,
            augment=augment,
            statistics=judged.statistics,
            fields=fields,
            batch_size=batch_size,
            mesh=judged.mesh,
            store=judged.store,
            identity=identity,
            **inputs.reading_options(data),
        )
    return opened[key]
