"""What the data of a run cost before it starts: the sizes of splits, and the time to read an example here."""

import contextlib
import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import feeding, inputs
from jaxvision.data import shapes, sources
from jaxvision.data.reader import Reader
from jaxvision.data.sources.base import parse_split
from jaxvision.data.sources.compositions import cache_folder
from jaxvision.errors import UserError
from jaxvision.sections import DataSection, EvalSection, TrainSection

_READ = 96  # number of examples that are read to measure the time of one
# Seconds to render an image of `shapes` on two CPU cores: 14,000 in about 20 s, as the header of configs/quickstart.py
# says; `python benchmarks/estimates.py` measures it.
_RENDERED = 1 / 700
_OPTIONS = ("image_size", "train", "validation", "test", "question")  # what decides which `shapes` is rendered


class Reading(NamedTuple):
    """The reading of the training set.

    Attributes:
      seconds: Seconds for an example, on all cores; 0 if the set is not here.
      held: True if the set is read once and held in memory.
    """

    seconds: float
    held: bool


_readings: dict[str, Reading] = {}


def measure_reading(data: DataSection, train: TrainSection) -> Reading:
    """Reads some examples of the training set. Sets and host operations that are equal are measured once.

    Args:
      data, train: Sections of the config.
    """
    same = {key: getattr(data, key) for key in ("name", "data_dir", "options", "host", "fields", "resident")}
    key = json.dumps(json.loads(configs.to_json(ConfigDict(same))), sort_keys=True)
    if key not in _readings:
        _readings[key] = _measured(data, train)
    return _readings[key]


def _measured(data: DataSection, train: TrainSection) -> Reading:
    if data.name == "shapes" and not _is_rendered(data):
        return Reading(_RENDERED, True)
    with contextlib.suppress(UserError):
        source = inputs.open_or_describe(data, "optional")[0]
        if source is not None:
            held = feeding.in_memory(source, data, train)
            reader = Reader(source, data.host, data.fields)
            reader.read(0, 0, 0)  # loads the decoder
            count = min(_READ, len(source))
            with ThreadPoolExecutor(max(1, min(data.threads, os.cpu_count() or 1))) as pool:
                began = time.perf_counter()
                list(pool.map(lambda index: reader.read(index, 0, index), range(count)))
                return Reading((time.perf_counter() - began) / count, held)
    return Reading(0.0, held=False)


def _is_rendered(data: DataSection) -> bool:
    chosen = {key: value for key, value in dict(data.options or {}).items() if key in _OPTIONS}
    return shapes.is_rendered(cache_folder(data.data_dir), **chosen)


def evaluated_splits(section: EvalSection, data: DataSection) -> dict[str, int]:
    """Returns the numbers of examples that an evaluation reads, by a text that is equal for the same examples.

    Splits of sets that are not here count 0.

    Args:
      section: Entry of `config.evals`.
      data: Section `data` of the config, whose set it reads unless it names another.
    """
    own = (data.name, section.data_dir or data.data_dir, section.options or data.options)
    named = (section.data, section.data_dir, section.options) if section.data else own
    pairs = [(section.split, section.subset), (section.train_split, section.train_subset)]
    return {
        repr((named, split, subset, section.host)): split_size(*named, split, subset)
        for split, subset in pairs
        if split is not None
    }


def split_size(
    name: str,
    data_dir: str | None,
    options: Mapping[str, Any] | None,
    split: str,
    subset: Mapping[str, Any] | None = None,
) -> int:
    """Counts the examples of a split; 0 if the set is not here. `shapes` is not rendered for it.

    Args:
      name, data_dir, options: Set, as in the section `data`.
      split: Split.
      subset: Subset of the split, as in the section `data`, or None.
    """
    count = 0
    with contextlib.suppress(UserError):
        if name == "shapes":
            given = {key: value for key, value in dict(options or {}).items() if key in shapes.SPLITS}
            sizes = {key: getattr(shapes.Config(**given), key) for key in shapes.SPLITS}
            count = sum(stop - start for _, start, stop in parse_split(split, sizes, "shapes"))
        else:
            count = len(sources.open_source(name, split, data_dir=data_dir, options=options))
    return min(count, subset["examples"]) if subset and "examples" in subset else count
