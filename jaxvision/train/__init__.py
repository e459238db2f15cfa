"""One training loop for every task. `jaxvision.train(config)` calls `jaxvision.run.train`.

state.py        the state of a run, made in its shardings
step.py         one update as a pure function, and a runner of several updates in one dispatch
turns.py        the updates of a step, of one player or of several in turn
players.py      the parameters of each player
accumulation.py the gradient of a batch from its microbatches: their mean, or the exact one of a loss over all pairs
feed.py         the data of the steps: batches from a stream, or a data set held in memory
loop.py         the training loop: steps, logs, evaluations, checkpoints, in that order
journal.py      what a run carries in addition to its state, so that its records do not depend on stops
exact.py        sums without rounding, for the journal
goodput.py      a stopwatch of where the time goes
checkpoint.py   the writer of checkpoints
saved.py        the reader of checkpoints
stored.py       the arrays and the JSON of a checkpoint, as Orbax stores them
entries.py      the names in the folder of checkpoints
digests.py      digests of the files of a checkpoint, to detect damage
metrics.py      the writer of metrics.jsonl; board.py: of TensorBoard events
observers.py    calls the loggers of a run
profiler.py     records a trace of some steps
finite.py       skips steps whose numbers are not finite; skips.py: the same on the host
divergence.py   tells from its numbers whether a run diverged
progress.py     the display of the progress; transcript.py: keeps its lines in console.txt
time_left.py    the seconds to the end of the run; compiling.py: the seconds spent compiling
throughput.py   examples per second, share of time spent waiting for data, model FLOPs utilisation
watch.py        turns a signal to stop into a checkpoint
watchdog.py     ends a run that makes no progress
echoes.py       silences repeated errors of Orbax
"""

import importlib
import inspect
import sys
import types
from typing import Any


class _CallablePackage(types.ModuleType):
    """This package, which has the name of the function `jaxvision.train` and so stands for it, too."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    @property
    def _function(self) -> Any:
        return importlib.import_module("jaxvision.run").train  # by name, since nothing in here needs it


sys.modules[__name__].__class__ = _CallablePackage
