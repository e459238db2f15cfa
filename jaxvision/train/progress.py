"""What a person sees while it runs: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jaxvision.progress import duration, occupy, release

__all__ = ["Guessing", "Reporter", "console", "duration", "number", "words"]

SHOWN = ("loss", "top1", "examples_per_second")  # in the line of the bar; metrics.jsonl has them all
SHARES = ("top", "recall", "mean_class", "prompt_")  # results that are shares of examples, shown in percent


def console() -> Console:
    """Standard output; lines are not wrapped where it is no terminal."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=200, soft_wrap=True)


def number(name: str, value: float) -> str:
    """The value of a result as a person reads it: shares in percent, counts whole.

    >>> number("val/top1", 0.5), number("val/images", 1500.0), number("val/loss", 2.30258)
    ('50.00%', '1,500', '2.303')
    """
    if name.rsplit("/", 1)[-1].startswith(SHARES):
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

    Attributes:
      logs: how many in a row must be within 2 % of it.
    """

    def __init__(self, logs: int = 10):
        self.logs = logs
        self._count = 0

    def warning(self, values: Mapping[str, float]) -> str | None:
        """What to say of the numbers of a log: something once, when it has stayed there for so many.

        >>> guessing = Guessing(logs=2)
        >>> [guessing.warning({"loss_over_chance": x}) is not None for x in (1.0, 1.01, 1.0, 0.7)]
        [False, True, False, False]
        """
        near = abs(values.get("loss_over_chance", 0.0) - 1) < 0.02
        self._count = self._count + 1 if near else 0
        if self._count != self.logs:
            return None
        return (
            f"warning: over the last {self.logs} logs the loss was that of guessing. The embeddings may have collapsed "
            "(a lower optimizer.learning_rate or a longer warmup may help), or images and texts do not belong together"
        )


class Reporter:
    """Shows the progress of a run from `start` to `total` steps. Silent where `quiet`."""

    def __init__(self, start: int, total: int, quiet: bool = False):
        self.console = console()
        self._start, self._total, self._quiet = start, total, quiet
        self._began = time.perf_counter()
        self._bar: Progress | None = None
        if self.console.is_terminal and not quiet:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
            self._bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console)
            self._task = self._bar.add_task("starting", total=total, completed=start)
            self._bar.start()
            occupy(self)  # what an evaluation shows would overwrite it

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Reports the numbers of a logging step."""
        shown = words({name: values[name] for name in SHOWN if name in values})
        if self._bar:
            self._bar.update(self._task, completed=step, description=shown)
        elif not self._quiet:
            elapsed = time.perf_counter() - self._began
            left = elapsed / max(step - self._start, 1) * (self._total - step)
            self.console.print(f"step {step}/{self._total}  {shown}  left {duration(left)}")

    def note(self, text: str) -> None:
        """Prints a line of its own."""
        if not self._quiet:
            self.console.print(text)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar:
            self._bar.stop()
            release(self)
