"""What a person sees while it runs: a bar on a terminal, plain lines elsewhere."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from jaxvision.progress import duration, occupy, release

__all__ = ["Guessing", "Reporter", "console", "duration", "number", "print_cautions", "words"]

SHOWN = ("loss", "examples_per_second")  # in the line of the bar, about what the task names; metrics.jsonl has all
_FEWEST_STEPS, _MOST_STEPS = 200, 2000  # at guessing, before `Guessing` warns; between them a tenth of the run
_NEAR, _FALL = 0.02, 0.01  # of the loss of guessing
SHARES = ("top", "recall", "mean_class", "prompt_")  # results that are shares of examples, shown in percent


def console() -> Console:
    """Standard output; lines are not wrapped where it is no terminal."""
    out = _Console(highlight=False)
    return out if out.is_terminal else _Console(highlight=False, width=200, soft_wrap=True)


class _Console(Console):
    """One that goes on in silence once nobody reads any more, as behind `| head`; rich ends the program."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_cautions(lines: Iterable[str], stderr: bool = False) -> None:
    """Prints what a person should know before something runs, each line once: evaluations may read one split.

    Args:
      lines: texts to print, one a line.
      stderr: True to leave standard output to results, as where a program reads them.
    """
    out = Console(highlight=False, stderr=True, width=200, soft_wrap=True) if stderr else console()
    for line in dict.fromkeys(lines):
        out.print(line, markup=False)


def number(name: str, value: float) -> str:
    """The value of a result as a person reads it: shares in percent, counts whole.

    >>> number("val/top1", 0.5), number("val/images", 1500.0), number("val/loss", 2.30258)
    ('50.00%', '1,500', '2.303')
    """
    leaf = name.rsplit("/", 1)[-1]
    if leaf.startswith(SHARES) or leaf.endswith("_top1"):
        return f"{value:.2%}"
    return f"{value:,.4g}" if value % 1 else f"{value:,.0f}"


def words(values: Mapping[str, float]) -> str:
    """Numbers as a person reads them.

    >>> words({"loss": 2.30258, "val/top1": 0.5, "examples_per_second": 1234.5})
    'loss 2.303  val/top1 50.00%  examples/s 1,234'
    """
    parts = []
    for name, value in values.items():
        leaf = name.rsplit("/", 1)[-1]
        if leaf == "examples_per_second":
            parts.append(f"examples/s {value:,.0f}")
        else:
            parts.append(f"{name} {number(name, value)}")
    return "  ".join(parts)


class Guessing:
    """Notices a loss that stays at that of the best answer which looks at nothing, as after a collapse.

    A healthy run begins there, too. So what counts are steps of the optimizer, however many a log covers, after the
    warm-up, in which the loss neither left guessing by 2 % nor fell by 1 % of it.

    Args:
      total: steps of the run.
      warmup: of them, those in which the learning rate rises.
    """

    def __init__(self, total: int, warmup: int = 0):
        self._warmup, self._needed = warmup, min(max(total // 10, _FEWEST_STEPS), _MOST_STEPS)
        self._since: int | None = None
        self._level, self._told = 0.0, False

    def state(self) -> dict[str, float | None]:
        """What it has seen, as JSON."""
        return {"since": self._since, "level": self._level, "told": self._told}

    def load(self, state: Mapping[str, float | None]) -> None:
        """Goes on from what `state` gave."""
        self._since, self._level, self._told = state["since"], state["level"], state["told"]

    def warning(self, step: int, values: Mapping[str, float]) -> str | None:
        """What to say of the numbers of a log at `step`: something once, when the loss has stayed there for long.

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
        if self._told or step - self._since < self._needed:
            return None
        self._told = True
        return (
            f"warning: over the last {step - self._since:,} steps the loss was that of guessing. The embeddings may "
            "have collapsed (a lower optimizer.learning_rate or a longer warmup may help), or images and texts do not "
            "belong together"
        )


class Reporter:
    """Shows the progress of a run.

    Args:
      start, total: Steps that it begins and ends with.
      quiet: True for silence.
      metrics: Names of the metrics that stand behind the loss.
    """

    def __init__(self, start: int, total: int, quiet: bool = False, metrics: Sequence[str] = ()):
        self.console = console()
        self._shown = dict.fromkeys([*SHOWN[:1], *metrics, *SHOWN[1:]])
        self._total, self._quiet = total, quiet
        self._bar: Progress | None = None
        if self.console.is_terminal and not quiet:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
            self._bar = Progress(*columns, TimeElapsedColumn(), TextColumn("{task.fields[left]}"), console=self.console)
            self._task = self._bar.add_task("starting", total=total, completed=start, left="")
            self._bar.start()
            occupy(self)  # what an evaluation shows would overwrite it

    def step(self, step: int, values: Mapping[str, float], left: float | None = None) -> None:
        """Reports the numbers of a logging step, and the seconds left where they are known."""
        shown = words({name: values[name] for name in self._shown if name in values})
        told = "" if left is None else f"left {duration(left)}"
        if self._bar:
            self._bar.update(self._task, completed=step, description=shown, left=told)
        elif not self._quiet:
            self.console.print(f"step {step}/{self._total}  {shown}  {told}".rstrip())

    def note(self, text: str) -> None:
        """Prints a line of its own."""
        if not self._quiet:
            self.console.print(text)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar:
            self._bar.stop()
            release(self)
