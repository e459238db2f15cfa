"""The goals of speed for one NVIDIA GPU, and what is reached, as a table in at most ten minutes.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --only clip options --batch=64
    python benchmarks/gpu.py --tiny                         # tiny networks on the CPU, to see that it works

It calls the other benchmarks, in bfloat16: train_step.py (a ViT-B/16 against the card's own rate of matrix products,
ResNet-50 and CLIP B/32 against `torch.compile` with channels-last and autocast), options.py (every option of speed,
with the fused attention of cuDNN), and population.py (16 runs as one). A part has its share of the time, and what the
parts before it left; a row that fails, or for which there was no time, is named and the rest goes on. Needs a CUDA
build of JAX, and one of torch, timm and open_clip_torch for the comparisons; without them the rows say so.
"""

import argparse
import contextlib
import importlib.util
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import train_step
from machine import print_machine, reason
from step_models import NETWORKS

HERE = Path(__file__).parent
CUDNN = "ViT cuDNN attention"


class Row(NamedTuple):
    """A line of the last table.

    Attributes:
      what: What was measured.
      found: The number, or the reason why there is none.
      goal: Goal; "" for none.
      met: Whether the goal is met; None if there is none, or no number.
    """

    what: str
    found: str
    goal: str = ""
    met: bool | None = None


class Part(NamedTuple):
    """A part of the measurement.

    Attributes:
      seconds: Its share of the time.
      measure: Function of the options of the command line and the time at which to end, by `time.monotonic()`.
    """

    seconds: float
    measure: Callable[[argparse.Namespace, float], list[Row]]


class Failed(Exception):
    """A script did not reach its end; the message says why."""


def utilisation(args: argparse.Namespace, end: float) -> list[Row]:
    """Measures ViT-B/16 against the rate of matrix products.

    Args:
      args: Options of the command line.
      end: Time at which to end.
    """
    measured = train_step.measure(*_of_steps("vit_b16", ("jaxvision",), args), end)
    what, goal = "ViT-B/16, bfloat16, of the rate of a matrix product", "55 %"
    if measured.rate is None:
        return [Row(what, measured.failed[train_step.MATMUL], goal)]
    rate = Row("matrix product, bfloat16", f"{measured.rate / 1e12:,.2f} TFLOP/s")
    if "jaxvision" in measured.failed or not measured.flops:
        return [rate, Row(what, measured.failed.get("jaxvision", "the FLOPs are not known"), goal)]
    share = measured.flops / statistics.median(measured.times["jaxvision"]) / measured.rate
    return [rate, Row(what, f"{share:.1%}", goal, share >= 0.55)]


def against_torch(model: str, title: str) -> Callable[[argparse.Namespace, float], list[Row]]:
    """Returns the function of a part that measures a network against `torch.compile`.

    Args:
      model: Name of the network in step_models.py.
      title: Name of the network in the table.
    """

    def measure(args: argparse.Namespace, end: float) -> list[Row]:
        missing = _missing(("torch", "torchvision", "timm", *(["open_clip"] if NETWORKS[model].texts else [])), args)
        compared = () if missing else ("torch compile",)
        measured = train_step.measure(*_of_steps(model, ("jaxvision", *compared), args), end)
        what, goal = f"{title}, speed against torch.compile", "1.00"
        why = measured.failed.get("jaxvision") or missing or measured.failed.get("torch compile")
        if why:
            return [Row(what, why, goal)]
        both = zip(measured.times["torch compile"], measured.times["jaxvision"], strict=True)
        ratios = [theirs / ours for theirs, ours in both]
        return [Row(what, train_step.spread(ratios), goal, statistics.median(ratios) >= 1)]

    return measure


def options(args: argparse.Namespace, end: float) -> list[Row]:
    """Measures the options of speed, with cuDNN's attention.

    Args:
      args: Options of the command line.
      end: Time at which to end.
    """
    left = max(end - time.monotonic(), 1)
    words = ["options.py", f"--seconds={0.8 * left:.0f}", f"--batch={args.batch or 128}"]
    words += ["--tiny", "--only", CUDNN] if args.tiny else ["--precision=bfloat16", "--rounds=3"]
    what, goal = "attention='cudnn', time against 'xla'", "it runs"
    line = next((line for line in run_script(words, end) if line.startswith(CUDNN)), "no such line")
    found = re.search(r"[\d.]+ \([\d.]+-[\d.]+\)", line)
    return [Row(what, found[0] if found else line.partition("not measured: ")[2] or line, goal, bool(found) or None)]


def population(args: argparse.Namespace, end: float) -> list[Row]:
    """Measures sixteen runs as one against separate runs.

    Args:
      args: Options of the command line.
      end: Time at which to end.
    """
    words = ["population.py", "--models=vit", "--sample=1", "--ways", "population, at once"]
    words += ["--members=2", "--steps=2", "--batch=8"] if args.tiny else []
    what, goal = "16 runs as a population, speed against one after the other", "8.0"
    for line in run_script(words, end):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 5 and cells[2] == "population, at once":
            speed = 1 / float(cells[5])
            return [Row(what, f"{speed:.1f}", goal, speed >= 8)]
    return [Row(what, "no such line", goal)]


def run_script(words: list[str], end: float) -> list[str]:
    """Runs a script of this folder, shows what it prints, and returns the lines.

    Args:
      words: Name of the script and its arguments.
      end: Time at which it is killed with all processes that it started, by `time.monotonic()`.

    Raises:
      Failed: It was killed, or ended with an error.
    """
    command = [sys.executable, str(HERE / words[0]), *words[1:]]
    script = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(script.pid, signal.SIGKILL)

    timer = threading.Timer(max(end - time.monotonic(), 0), kill)
    timer.start()
    lines = []
    try:
        for line in script.stdout or ():
            print(line, end="")
            lines.append(line.rstrip())
        status = script.wait()
    finally:
        timer.cancel()
        kill()
    if status:
        why = "the time was up" if time.monotonic() >= end else f"{words[0]} ended with status {status}, see above"
        raise Failed(why)
    return lines


def _of_steps(model: str, implementations: tuple[str, ...], args: argparse.Namespace) -> tuple[str, argparse.Namespace]:
    """The arguments of `train_step.measure`."""
    made = argparse.Namespace(
        device="cpu" if args.tiny else "gpu",
        precision="float32" if args.tiny else "bfloat16",
        implementations=implementations,
        batch=None if args.tiny else args.batch or 128,
        rounds=1 if args.tiny else 5,
        steps=1 if args.tiny else 10,
        channels_last=True,
    )
    return "tiny" if args.tiny else model, made


def _missing(modules: tuple[str, ...], args: argparse.Namespace) -> str:
    """What is missing for a comparison with torch, in words; "" for nothing."""
    if absent := [name for name in modules if importlib.util.find_spec(name) is None]:
        return f"not installed: {', '.join(absent)}"
    import torch

    return "" if args.tiny or torch.version.cuda else f"torch {torch.__version__} is no build with CUDA"


PARTS = {
    "vit": Part(80, utilisation),
    "resnet": Part(130, against_torch("resnet50", "ResNet-50")),
    "clip": Part(140, against_torch("clip_b32", "CLIP B/32")),
    "options": Part(140, options),
    "population": Part(100, population),
}


def measure(args: argparse.Namespace, parts: dict[str, Part]) -> list[Row]:
    """Measures the parts, one after the other, and returns their rows.

    Args:
      args: Options of the command line.
      parts: Parts by name.
    """
    rows, end = [], time.monotonic()
    for name, part in parts.items():
        end += part.seconds * args.minutes / 10  # so a part gets what those before it left
        began = time.monotonic()
        try:
            rows += part.measure(args, end)
        except Exception as error:  # the other parts go on
            rows.append(Row(name, str(error) if isinstance(error, Failed) else reason(error)))
        print(f"\n{name}: {time.monotonic() - began:.0f} s")
    return rows


def find_gpu() -> str:
    """Returns the name of the GPU; ends the program, with the reason, if JAX finds none."""
    code = "import jax; print(jax.devices('gpu')[0].device_kind)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if found.returncode:
        why = (found.stderr.strip().splitlines() or ["no message"])[-1]
        sys.exit(f"JAX finds no NVIDIA GPU here ({why}): pip install 'jax[cuda13]', or --tiny to try this on the CPU")
    return found.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure")
    parser.add_argument("--batch", type=int, help="images in a batch; default: 128")
    parser.add_argument("--minutes", type=float, default=10, help="time for all parts together")
    parser.add_argument("--tiny", action="store_true", help="tiny networks on the CPU, to see that it works")
    args = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu" if args.tiny else "cuda"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the processes share the card
    print_machine(("jax", "jaxlib", "flax", "optax", "torch", "timm", "open_clip_torch"))
    print(f"device: {'the CPU, whose numbers mean nothing here' if args.tiny else find_gpu()}")
    rows = measure(args, {name: PARTS[name] for name in args.only})
    print(f"\n{'':62}{'goal':>10}  {'met':5}found")
    for row in rows:
        met = {True: "yes", False: "no", None: "-"}[row.met]
        print(f"{row.what:62}{row.goal:>10}  {met:5}{row.found}")


if __name__ == "__main__":
    main()
