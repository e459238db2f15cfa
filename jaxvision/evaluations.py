"""From the section `evals` of a config to evaluators, with their data opened."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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

VARIABLES = {"averaged": lambda state: state.best_variables, "trained": lambda state: state.variables}


class Judged(NamedTuple):
    """A model that is judged, and what its evaluations take from it unless they say otherwise.

    Attributes:
      task: its `outputs` are judged; nothing else of it is used.
      variables: of the task; `ShapeDtypeStruct`s will do.
      data: section `data`: which set, how large the batches are, how it is read.
      host, augment: deterministic specs.
      info: of the set that the model was trained on.
      statistics: of that set, as far as `augment` needs them.
      mesh: of the devices.
      store: where features are kept.
      source: the training set, where it is open.
      fields: Fields of its batches as they come from the host, where they are known.
    """

    task: Any
    variables: Any
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
    """The entries of `config.evals`, one for each set where an entry names several in `sets`.

    Raises:
      UserError: `sets` that is no mapping of names to keys.

    >>> expand_sets({"a": {"name": "knn", "sets": {"x": {"data": "x"}, "y": {"data": "y"}}}})
    {'a/x': {'name': 'knn', 'data': 'x'}, 'a/y': {'name': 'knn', 'data': 'y'}}
    """
    found = {}
    for name, section in ConfigDict(dict(sections)).to_dict().items():
        if not name or not isinstance(section, Mapping):
            raise UserError(f"evals.{name} must be a dict(name=..., split=...) under a name, not {section!r}")
        sets = section.get("sets")
        if sets is not None and not (isinstance(sets, Mapping) and all(isinstance(s, Mapping) for s in sets.values())):
            raise UserError(f"evals.{name}.sets must be a dict(NAME=dict(data=..., split=...), ...), not {sets!r}")
        shared = {key: value for key, value in section.items() if key != "sets"}
        found |= {f"{name}/{of}": {**shared, **own} for of, own in sets.items()} if sets else {name: shared}
    return found


class Entry(NamedTuple):
    """An entry of `config.evals`, read and checked.

    Attributes:
      name: Name of the entry.
      common: What any evaluation may say, with defaults filled in.
      factory: Factory of the evaluator.
      options: Options of the evaluator, as they were given.
    """

    name: str
    common: EvalSection
    factory: Callable
    options: Mapping[str, Any]


def read_entries(sections: Mapping[str, Mapping] | None) -> tuple[Entry, ...]:
    """The entries of `config.evals`, one for each set where an entry names several in `sets`.

    Raises:
      UserError: An unknown evaluator or key, or a `train_split` that is missing or of no use.
    """
    return tuple(_read(name, section) for name, section in expand_sets(sections or {}).items())


def _read(name: str, section: Mapping) -> Entry:
    where = f"evals.{name}"
    common = {k: v for k, v in section.items() if k in EvalSection._fields}
    own = {k: v for k, v in section.items() if k not in common}
    if "name" not in common:
        raise UserError(f"the config misses '{where}.name'. Evaluators: {listed(name, evals.EVALUATORS)}")
    arguments.check_value(f"config key {where}.name", common["name"], str)
    factory = evals.get_evaluator(common["name"])
    program = (*evals.EVALUATORS.given, *evals.EVALUATORS.offered)
    calls.check(factory, own, calls.ConfigKeys(where), program=program, others=EvalSection._fields)
    filled = configs.call(EvalSection, common, where)
    taken = calls.parameters(factory)
    if "train" in taken and filled.train_split is None:
        raise UserError(f"{where}: the evaluator {filled.name!r} learns from images: set '{where}.train_split'")
    if "train" not in taken and filled.train_split is not None:
        raise UserError(f"{where}: the evaluator {filled.name!r} learns nothing, so it takes no train_split")
    if filled.weights not in VARIABLES:
        raise unknown(f"value of {where}.weights", filled.weights, VARIABLES)
    if filled.train_subset is not None and filled.train_split is None:
        raise UserError(f"{where}.train_subset is of images to learn from, and there is no '{where}.train_split'")
    if filled.batch_size is not None and filled.batch_size < 1:
        raise UserError(f"{where}.batch_size must be at least 1, not {filled.batch_size}")
    durations.check(filled.every, f"{where}.every")
    return Entry(name, filled, factory, own)


def make_evaluations(read: Sequence[Entry], judged: Judged, steps: Callable[[str | int], int]) -> list[Evaluation]:
    """The evaluations of the entries; a split that several of them read is opened once.

    Args:
      read: The entries, see `read`.
      judged: the model.
      steps: turns a duration into steps.

    Raises:
      UserError: a section, set or layer that does not fit; everything is checked before anything is computed.
    """
    opened: dict[str, dataset.EvalSet] = {}
    return [_make(entry, judged, steps, opened) for entry in read]


def _make(entry: Entry, judged: Judged, steps: Callable, opened: dict) -> Evaluation:
    (name, common, factory, own), where = entry, f"evals.{entry.name}"
    own = dict(own)
    given = {}
    if "texts" in calls.parameters(factory):
        given["texts"] = texts.find_texts(common.host, judged.host)
        if given["texts"] is None:
            raise UserError(
                f"{where}: the evaluator {common.name!r} needs a tokenizer: put tokenize(...) at the end of "
                f"'{where}.host', as in \"{judged.host}|tokenize('clip', path='bpe_simple_vocab_16e6.txt.gz')\""
            )
    captions = given["texts"].field if given else "text"
    wanted = evals.read_fields(common.name, own)
    given["data"] = open_split(common, common.split, common.subset, judged, opened, wanted, captions)
    if common.train_split is not None:
        given["train"] = open_split(common, common.train_split, common.train_subset, judged, opened)
    elif lacking := [name for name in evals.needed_fields(common.name, own) if name not in given["data"].batch]:
        raise UserError(
            f"{where}: the evaluator {common.name!r} needs the field {lacking[0]!r}, and data.fields is "
            f"{', '.join(judged.data.fields)}: add it there, or take an evaluator that learns, such as 'knn'"
        )
    elif "texts" not in given and (info := given["data"].info).num_classes != judged.info.num_classes:
        raise UserError(
            f"{where}: {info.name!r} has {info.num_classes} classes, the training set "
            f"{judged.info.name!r} has {judged.info.num_classes}"
        )
    if own.get("report"):
        own["report"] = f"{own['report']}/{name}"  # so that entries of the same set do not overwrite each other
    if "layers" in own:
        own["layers"] = features.find_layers(judged.task, given["data"], judged.variables, own["layers"])
    judge = configs.call(factory, own, where, task=judged.task, **given)
    layers = [own["layer"]] if "layer" in own else [zeroshot.LAYER] if "texts" in given else []
    if layers:
        features.check_layers(judged.task, given["data"], judged.variables, layers)
    told = () if own.get("only") else _cautions(where, common, judged, **given)
    if given.get("texts") and "text" in (wanted or ()):
        host = judged.host if common.host is None else common.host
        told += tuple(cautions.of_captions(given["data"].source, host))
    return Evaluation(name, steps(common.every), lambda state: judge(VARIABLES[common.weights](state)), told)


def _cautions(
    where: str,
    common: EvalSection,
    judged: Judged,
    data: dataset.EvalSet,
    train: dataset.EvalSet | None = None,
    **_: Any,
) -> tuple[str, ...]:
    """What a person should know of the data of an evaluation."""
    own = _set_of(common, judged.data)

    def size(split: str) -> int:
        name, data_dir, options = own
        return len(unwrap(open_source(name, split, data_dir=data_dir, options=options))[0])

    lines = cautions.of_classes(data.source, trained=False) if "label" in data.batch else []
    if train is not None:
        lines += cautions.of_classes(train.source, trained=True)
        lines += cautions.of_overlap(where, "it", train.source, data.source, size)
    if judged.source is not None:
        same = own == (judged.data.name, judged.data.data_dir, judged.data.options)
        lines += cautions.of_overlap(where, "the run", judged.source, data.source, size if same else None)
    return tuple(lines)


def _set_of(section: EvalSection, data: DataSection) -> tuple[str, str | None, Mapping | None]:
    """Name, folder and options of the set that an evaluation reads: those of training unless it names another."""
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
    """Opens a split of the set that an evaluation reads, or finds it among the opened.

    Args:
      section: what the evaluation says of its data.
      split, subset: of that set; labels are read too where `section.train_split` is set.
      judged: the model.
      opened: sets by all that they follow from; gains this one.
      wanted: fields of an example, "text" for the captions; None for those of training or, where there is a
        `train_split`, image and label: an evaluator that learns needs labels, of which the task may know nothing.
      captions: the field of the texts.
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
    examples = dict(name=name, split=split, data_dir=data_dir, options=options, subset=subset)
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
