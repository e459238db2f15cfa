"""Sixteen small models as one population against sixteen separate runs: time, and whether the results are the same.

    python benchmarks/population.py                          # on the devices that JAX finds
    python benchmarks/population.py --models=vit --steps=500

Every member has its own learning rate, weight decay and seed, and is trained on `shapes` at 16 pixels. An entry is the
time of whole processes, with compilation, evaluation and checkpoints: the separate runs one after the other (all cost
the same, so `--sample` of them are timed and scaled), the population in both of its ways. Compare CPU seconds on
a machine that runs other programs too. The last column is the largest relative difference between the validation losses
of the sampled runs and those of the same members of the population.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from machine import print_machine

MODELS = {
    "resnet": dict(name="resnet", variant="8"),
    "vit": dict(name="vit", variant="Ti/4", width=64, depth=4, num_heads=4),
    "mixer": dict(name="mixer", variant="S/4", width=64, depth=4, tokens_dim=32, channels_dim=256),
}
DATA = dict(image_size=32, train=4000, validation=500, test=100)
WAYS = {"separate runs": None, "population, in turns": False, "population, at once": True}


class Cost(NamedTuple):
    """The time of some processes.

    Attributes:
      wall: Seconds on the clock.
      cpu: Seconds of CPU time.
    """

    wall: float
    cpu: float


def members(model: str, count: int, steps: int, batch: int, folder: Path) -> list:
    """Makes the runs: learning rates from 0.03 to 0.3 on a logarithmic scale, two weight decays, a seed for each.

    Args:
      model: Name of the model, a key of `MODELS`.
      count: Number of members.
      steps: Steps of each run.
      batch: Examples in a batch.
      folder: Folder for the workdirs.
    """
    from ml_collections import ConfigDict

    from jaxvision.sweep.population import Member

    def config(i: int) -> ConfigDict:
        c = ConfigDict()
        c.seed = i
        c.data = dict(name="shapes", split="train", host="decode|resize(16)", batch_size=batch)
        c.data.options = DATA
        c.augment = "flip_lr|normalize(0.5, 0.5)"
        c.model = MODELS[model]
        c.task = dict(name="supervised")
        c.optimizer = dict(name="sgd", learning_rate=0.03 * 10 ** (i / max(count - 1, 1)), schedule="cosine")
        c.optimizer.update(weight_decay=(1e-4, 1e-3)[i % 2], clip_norm=1.0)
        c.train = dict(total=f"{steps} steps", log_every="50 percent", checkpoint_every=0)
        c.evals = dict(val=dict(name="classify", split="validation"))
        return c

    return [Member(config(i), folder / str(i)) for i in range(count)]


def work(args: argparse.Namespace) -> None:
    """Does the work of one process: one separate run, or the population.

    Args:
      args: Options of the command line.
    """
    from jaxvision.commands import train
    from jaxvision.sweep import population

    folder = Path(args.folder)
    of_all = members(args.work, args.members, args.steps, args.batch, folder)
    if args.index is not None:
        train.run_train(of_all[args.index].config, of_all[args.index].workdir, quiet=True)
    else:
        population.train(of_all, folder / "out", at_once=args.at_once, quiet=True)


def measure(*words: str) -> Cost:
    """Runs this file in its own process and returns the cost.

    Args:
      *words: Command-line options of the process.
    """
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, *words])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(words)} failed, for the reason above")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime)


def compare(model: str, args: argparse.Namespace, folder: Path) -> None:
    """Prints the lines of one model.

    Args:
      model: Name of the model, a key of `MODELS`.
      args: Options of the command line.
      folder: Folder for the workdirs.
    """
    sample = range(0, args.members, max(args.members // args.sample, 1))[: args.sample]
    sizes = [f"--{name}={getattr(args, name)}" for name in ("members", "steps", "batch")]
    loss = lambda way, i: json.loads((folder / way / str(i) / "results.json").read_text())["results"]["val/loss"]
    costs = {}
    for way in (way for way in WAYS if way in args.ways):
        at_once = WAYS[way]
        words = [f"--work={model}", f"--folder={folder / way}", *sizes]
        if at_once is None:
            each = [measure(*words, f"--index={i}") for i in sample]
            scale = args.members / len(sample)
            costs[way] = Cost(scale * sum(c.wall for c in each), scale * sum(c.cpu for c in each))
        else:
            costs[way] = measure(*words, *["--at_once"] * at_once)
        cost, base = costs[way], costs["separate runs"]
        off = max(abs(loss(way, i) / loss("separate runs", i) - 1) for i in sample)
        print(
            f"| {model} | {way} | {cost.wall:.0f} | {cost.cpu:.0f} | {cost.wall / base.wall:.2f} | "
            f"{cost.cpu / base.cpu:.2f} | {off:.1e} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--sample", type=int, default=2, help="separate runs that are timed, to estimate all")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="with the separate runs")
    for name in ("work", "folder"):  # of the processes that this one starts
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    parser.add_argument("--index", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--at_once", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.ways = ["separate runs", *args.ways]
    if args.work:
        return work(args)
    from jaxvision.data import sources

    sources.open_source("shapes", "train", options=DATA)  # renders it, before anything is timed
    print_machine(("jaxvision", "jax", "flax", "optax"))
    print(f"{args.members} members, {args.steps} steps of {args.batch}\n")
    print("| model | way | seconds | CPU seconds | ratio | CPU ratio | difference |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models.split(","):
            compare(model, args, Path(folder) / model)
    return None


if __name__ == "__main__":
    main()
