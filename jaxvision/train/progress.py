"""Shows the progress of a run: a bar on a terminal, plain lines elsewhere."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypedDict

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from jaxvision.progress import duration, occupy, release

__all__ = ["Guessing", "Reporter", "console", "duration", "number", "print_cautions", "words"]

SHOWN = ("loss", "examples_per_second")  # shown for every task, around the metrics that it names
_FEWEST_STEPS, _MOST_STEPS = 200, 2000  # limits of the steps before `Guessing` warns: a tenth of the run between them
_NEAR, _FALL = 0.02, 0.01  # shares of the loss of guessing
SHARES = ("top", "recall", "mean_class", "prompt_")  # beginnings of the names of results that are shown in percent
# Last words of the names of results of which the lowest value, or the highest, is the best.
LOWEST = {"loss", "losses", "error", "err", "nll", "perplexity", "ppl", "mse", "rmse", "mae", "ece", "brier", "fid"}
HIGHEST = {"top", "recall", "precision", "accuracy", "acc", "map", "ap", "auroc", "auc", "f", "iou", "miou", "psnr"}
_HIGHEST = re.compile(r"(.*_)?mean_class|prompt_(mean|min|max)|\d+shot_[a-z]+\d*(_draw\d+)?")  # also accuracies


def console() -> Console:
    """Returns a console on standard output, which wraps no lines unless it is a terminal."""
    out = _Console(highlight=False)
    return out if out.is_terminal else _Console(highlight=False, width=200, soft_wrap=True)


class _Console(Console):
    """A console that prints nothing more once its reader is gone, as with `| head`; that of rich ends the program."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_cautions(lines: Iterable[str], stderr: bool = False) -> None:
    """Prints warnings about what will run. Each line is printed once: several evaluations may read the same split.

    Args:
      lines: Warnings, one on each line.
      stderr: True to print to standard error, so that a program can read results from standard output.
    """
    out = Console(highlight=False, stderr=True, width=200, soft_wrap=True) if stderr else console()
    for line in dict.fromkeys(lines):
        out.print(line, markup=False)


def number(name: str, value: float) -> str:
    """Formats the value of a result: shares in percent, counts without decimals.

    Args:
      name: Name of the result, "NAME/metric".
      value: Value of the result.

    >>> number("val/top1", 0.5), number("val/images", 1500.0), number("val/loss", 2.30258)
    ('50.00%', '1,500', '2.303')
    """
    if is_share(name):
        return f"{value:.2%}"
    return f"{value:,.4g}" if value % 1 else f"{value:,.0f}"


def is_share(name: str) -> bool:
    """Returns whether a result is a share in [0, 1], by its name.

    Args:
      name: Name of the result, "NAME/metric".

    >>> is_share("val/top1"), is_share("val/loss")
    (True, False)
    """
    leaf = name.rsplit("/", 1)[-1]
    return leaf.startswith(SHARES) or leaf.endswith("_top1")


def best_is(name: str) -> str | None:
    """Returns which value of a result is the best, by its name: "highest", "lowest", or None if that is not known.

    Args:
      name: Name of the result, "NAME/metric".

    >>> best_is("val/top1"), best_is("val/top1_error"), best_is("val/map"), best_is("val/gap")
    ('highest', 'lowest', 'highest', None)
    """
    leaf = name.rsplit("/", 1)[-1].lower()
    last = (re.findall("[a-z]+", leaf) or [""])[-1]
    if last in LOWEST:
        return "lowest"
    return "highest" if last in HIGHEST or _HIGHEST.fullmatch(leaf) else None


def words(values: Mapping[str, float]) -> str:
    """Formats named numbers as one line.

    Args:
      values: Numbers by name.

    >>> words({"loss": 2.30258, "val/top1": 0.5, "examples_per_second": 1234.5})
    'loss 2.303  val/top1 50.00%  examples/s 1,234'
    """
    items = []
    for name, value in values.items():
        leaf = name.rsplit("/", 1)[-1]
        if leaf == "examples_per_second":
            items.append(f"examples/s {value:,.0f}")
        else:
            items.append(f"{name} {number(name, value)}")
    return "  ".join(items)


class GuessingState(TypedDict):
    """What `Guessing` has seen, as JSON.

    Attributes:
      since: First step at which the loss was that of guessing, or None.
      level: Loss at that step, divided by the loss of guessing.
      told: True if the warning was printed.
    """

    since: int | None
    level: float
    told: bool


class Guessing:
    """Warns of a loss that stays at the level of guessing, the best answer without the input, as after a collapse.

    A healthy run starts at that level too. So the warning counts steps of the optimizer after the warm-up in which the
    loss neither moved 2 % away from guessing nor fell by 1 % of it, however many steps a log covers.

    Args:
      total: Number of steps of the run.
      warmup: Number of steps at the start in which the learning rate rises.
    """

    def __init__(self, total: int, warmup: int = 0):
        self._warmup, self._needed = warmup, min(max(total // 10, _FEWEST_STEPS), _MOST_STEPS)
        self._since: int | None = None
        self._level, self._warned = 0.0, False

    def state(self) -> GuessingState:
        """Returns what it has seen, for a checkpoint."""
        return {"since": self._since, "level": self._level, "told": self._warned}

    def load(self, state: GuessingState) -> None:
        """Restores what it has seen.

        Args:
          state: State from `state`.
        """
        self._since, self._level, self._warned = state["since"], state["level"], state["told"]

    def warning(self, step: int, values: Mapping[str, float]) -> str | None:
        """Returns the warning, once, when the loss has stayed at guessing for long; else None.

        Args:
          step: Number of steps taken.
          values: Numbers of the log line of that step; `loss_over_chance` is read.

        >>> guessing = Guessing(total=1000)
        >>> [guessing.warning(step, {"loss_over_chance": 1.01}) is not None for step in (1, 200, 201, 402)]
        [False, False, True, False]
        """
        ratio = values.get("loss_over_chance", 0.0)
        if step <= self._warmup or not abs(ratio - 1) < _NEAR:
            self._since = None
            return None
        if self._since is None or ratio < self._level - _FALL:
            self._since, self._level = step, ratio
        if self._warned or step - self._since < self._needed:
            return None
        self._warned = True
        return (
            f"warning: over the last {step - self._since:,} steps the loss was that of guessing. The network may have "
            "collapsed: try a lower optimizer.learning_rate or a longer warmup, and look with `jaxvision inspect "
            "--pages` whether the inputs can answer what is asked, such as texts that belong to their images"
        )


class Reporter:
    """Shows the progress of a run.

    Args:
      start, total: First and last step.
      quiet: True to print nothing.
      metrics: Names of the metrics that are shown after the loss.
      keep: Function that is called with each line that is shown, such as `Transcript.add`.
    """

    def __init__(
        self,
        start: int,
        total: int,
        quiet: bool = False,
        metrics: Sequence[str] = (),
        keep: Callable[[str], None] = lambda line: None,
    ):
        self.console, self._keep = console(), keep
        self._shown = dict.fromkeys([*SHOWN[:1], *metrics, *SHOWN[1:]])
        self._total, self._quiet = total, quiet
        self._bar: Progress | None = None
        if self.console.is_terminal and not quiet:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
            self._bar = Progress(*columns, TimeElapsedColumn(), TextColumn("{task.fields[left]}"), console=self.console)
            self._task = self._bar.add_task("starting", total=total, completed=start, left="")
            self._bar.start()
            occupy(self)  # so that an evaluation shows no bar of its own, which would overwrite this one

    def step(self, step: int, values: Mapping[str, float], left: float | None = None, at_least: bool = False) -> None:
        """Shows the numbers of a log line.

        Args:
          step: Number of steps taken.
          values: Numbers of the log line by name.
          left: Seconds to the end of the run; None if not known.
          at_least: True if `left` is a lower bound.
        """
        shown = words({name: values[name] for name in self._shown if name in values})
        time_left = "" if left is None else f"left {'at least ' * at_least}{duration(left)}"
        line = f"step {step}/{self._total}  {shown}  {time_left}".rstrip()
        if self._bar:
            self._bar.update(self._task, completed=step, description=shown, left=time_left)
        elif not self._quiet:
            self.console.print(line)
        if not self._quiet:
            self._keep(line)

    def note(self, text: str) -> None:
        """Prints a text on a line of its own.

        Args:
          text: Text to print.
        """
        if not self._quiet:
            self.console.print(text, markup=False)
            self._keep(text)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar:
            self._bar.stop()
            release(self)
