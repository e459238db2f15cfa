"""Trains a config from Python, as `jaxvision train` does from a shell: `jaxvision.train(config, workdir, data=...)`."""

import contextlib
import functools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import logs, programs, signals, storage, trained
from jaxvision import workdir as workdirs
from jaxvision.commands import photos
from jaxvision.commands import train as command
from jaxvision.data import sources
from jaxvision.data.sources import python
from jaxvision.errors import UserError
from jaxvision.parallel import distributed
from jaxvision.train import metrics
from jaxvision.train.progress import console, number
from jaxvision.train.saved import Saved
from jaxvision.train.watch import Preempted

_OF_OTHER_DATA = ("data_dir", "options", "examples", "image_size", "multi_label")
RUNS = "runs"  # folder of the runs whose folder is not given


class Run:
    """A run in a folder. Its numbers are read at each use.

    Args:
      workdir: Folder of the run.

    Attributes:
      workdir: Folder of the run.
    """

    def __init__(self, workdir: str | os.PathLike):
        self.workdir = os.fspath(workdir)

    @property
    def results(self) -> dict[str, float]:
        """Results of the last evaluations, `{"NAME/metric": value}`; empty while the run is not finished."""
        return (workdirs.results(self._path) or {"results": {}})["results"]

    @property
    def finished(self) -> bool:
        """True if the run has reached its end."""
        return workdirs.results(self._path) is not None

    @property
    def step(self) -> int:
        """Step of the newest checkpoint; 0 if there is none."""
        return Saved(self._path).newest() or 0

    @property
    def config(self) -> ConfigDict:
        """Config of the run."""
        return workdirs.saved_config(self._path)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl, each a dict with `step` and some metrics."""
        return metrics.read(self._path / "metrics.jsonl")

    def curve(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the values of a metric, for a plot.

        Args:
          metric: Name of the metric, such as "loss" or "val/top1".

        Returns:
          Steps, int64 [n], and values, float64 [n]; a number that was not finite is NaN.

        Raises:
          UserError: No line has this metric.
        """
        lines = self.metrics
        pairs = [(line["step"], line[metric]) for line in lines if metric in line]
        if not pairs:
            names = sorted({name for line in lines for name in line} - {"step"})
            raise UserError(f"{self.workdir} has no metric {metric!r}; it has {', '.join(names) or 'none yet'}")
        steps, values = zip(*pairs)
        return np.array(steps), np.array([np.nan if x is None else x for x in values], float)

    @functools.cached_property
    def model(self) -> trained.Trained:
        """The model of the newest checkpoint, to call with images; see `jaxvision.load`."""
        return trained.Trained(photos.open_model(self.workdir))

    @property
    def _path(self) -> Any:
        return storage.path(self.workdir, "workdir")

    def __repr__(self) -> str:
        said = ", ".join(f"{name} {number(name, value)}" for name, value in self.results.items())
        return f"<run {self.workdir}: {said or f'step {self.step}' + ('' if self.finished else ', not finished')}>"


def train(
    config: ConfigDict | Mapping[str, Any] | str | os.PathLike,
    workdir: str | os.PathLike | None = None,
    *,
    data: Any = None,
    classes: Sequence[str] | int | None = None,
    changes: Mapping[str, Any] | None = None,
    fresh: bool = False,
    resume: bool = False,
    stop_after: int | None = None,
    quiet: bool = False,
) -> Run:
    """Trains a config, as `jaxvision train` does. The same call resumes a run that was stopped, bit for bit.

    An interrupt (Ctrl-C, the stop button of a notebook) saves the state first.

    Args:
      config: Config; or its sections as a dict; or the path of a config file, `FILE.py` or `FILE.py:ARG`.
      workdir: Folder of the run; None for a new one in `runs/`, see `Run.workdir`. Several processes need one.
      data: Data in place of those that the config names: arrays `dict(image=..., label=...)`, or a pair (images,
        labels); a `datasets.Dataset`; anything with `__len__` and `__getitem__` that returns (image, label) or a dict,
        such as a `Dataset` of torch; or a dict of these by split, `dict(train=..., validation=...)`.
      classes: Names of the classes of `data`, or their number, if the object does not know them.
      changes: New values of the config by dotted key, such as `{"train.total": "2 epochs"}`.
      fresh: True to move an earlier run in the folder aside first.
      resume: True to resume the run in the folder even if it was started with another config.
      stop_after: Step after which to save and stop.
      quiet: True to print nothing.

    Returns:
      The run, with its results, metrics and model.

    Raises:
      UserError: Something in the config, the data or the folder does not fit; nothing has been written then.
      KeyboardInterrupt: An interrupt arrived. The message says how to go on.
      Preempted: SIGTERM arrived.
    """
    with signals.listening("train"), _stopped_early(), contextlib.ExitStack() as stack:
        stack.enter_context(logs.errors_only("absl"))  # libraries log much there
        stack.enter_context(logs.each_once())
        began = time.perf_counter()
        config = _read(config, changes)
        if data is not None:
            options = stack.enter_context(python.offered(data, classes))
            config = with_objects(config, options)
        elif classes is not None:
            raise UserError(
                "classes are those of data=, which is missing: give data, or set data.classes in the config"
            )
        programs.keep()
        distributed.initialize()
        where = _folder(config, workdir)
        with _explaining(where, stop_after, quiet):
            command.run_train(
                config, where, fresh=fresh, resume=resume, stop_after=stop_after, quiet=quiet, began=began
            )
    return Run(where)


def with_objects(config: ConfigDict, options: Mapping[str, Any]) -> ConfigDict:
    """Returns the config with objects of this program in place of the data that it names.

    What described the other data set (folder, options, numbers of examples and classes) is left out. Entries of
    `evals` that name a set of their own stay as they are.

    Args:
      config: Config.
      options: Section `data.options`, from `sources.python.offered`.

    Raises:
      UserError: The number of classes is not known.
    """
    sections = config.to_dict()
    section = {key: value for key, value in sections["data"].items() if key not in _OF_OTHER_DATA}
    section.setdefault("split", "train")
    info = sources.open_source("python", "all", options=options).info
    if info.num_classes is not None:
        section.pop("classes", None)
    elif "label" in info.fields and "label" in section.get("fields", ("label",)) and not section.get("classes"):
        raise UserError(
            "data: how many classes there are is not known without reading every example: give classes=, their names "
            "or their number"
        )
    sections["data"] = {**section, "name": "python", "options": dict(options)}
    for entry in (sections.get("evals") or {}).values():
        for one in (entry, *(entry.get("sets") or {}).values()):
            if one.get("data") is None and entry.get("data") is None:
                for key in ("data_dir", "options"):
                    one.pop(key, None)
    return ConfigDict(sections)


def _read(config: Any, changes: Mapping[str, Any] | None) -> ConfigDict:
    if isinstance(config, str | os.PathLike):
        return configs.load(os.fspath(config), changes)
    if not isinstance(config, Mapping | ConfigDict):
        raise UserError(f"config is a {type(config).__name__}: give a ConfigDict, a dict or the path of a config file")
    plain = configs.normalised(config if isinstance(config, ConfigDict) else ConfigDict(dict(config)))
    if missing := [name for name in ("data", "model", "task", "optimizer", "train") if name not in plain]:
        raise UserError(
            f"the config has no section {missing[0]!r}: a config has data, model, task, optimizer and train"
        )
    return configs.override(plain, changes or {})


def _folder(config: ConfigDict, workdir: str | os.PathLike | None) -> str:
    """The folder of the run. Every process must call it, since new names differ between them."""
    with distributed.together("choosing the workdir"):
        if workdir is None and jax.process_count() > 1:
            raise UserError(
                "workdir is missing: several processes need the same one, as in jaxvision.train(config, 'runs/NAME')"
            )
    return _new_folder(config) if workdir is None else os.fspath(workdir)


def _new_folder(config: ConfigDict) -> str:
    name = f"{RUNS}/{config.model.get('name', 'run')}-{time.strftime('%Y%m%d-%H%M%S')}".replace(":", "-")
    taken = (name if i == 0 else f"{name}-{i}" for i in range(10**6))
    return next(path for path in taken if not os.path.lexists(path))


@contextlib.contextmanager
def _stopped_early() -> Iterator[None]:
    """Says what a signal did that came before there was anything to save; as later, SIGTERM is no interrupt."""
    try:
        yield
    except signals.Interrupted:
        says = "stopped before there was anything to save: call jaxvision.train again"
        raise (Preempted if signals.requested() == "SIGTERM" else KeyboardInterrupt)(says) from None


@contextlib.contextmanager
def _explaining(workdir: str, stop_after: int | None, quiet: bool) -> Iterator[None]:
    """Turns the end of a run by a signal into a KeyboardInterrupt that says how to go on."""
    go_on = f"jaxvision.train(config, {workdir!r}, ...) with the same arguments continues from there"
    try:
        yield
    except Preempted as reason:
        if signals.requested() == "SIGINT":
            raise KeyboardInterrupt(f"{reason} in {workdir}. {go_on}") from None
        if signals.requested() or stop_after is None:
            raise
        if not quiet:
            console().print(f"{reason} in {workdir}. {go_on}", markup=False)
