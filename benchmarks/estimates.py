"""Measures the constants of jaxvision/estimate.py and jaxvision/input_costs.py, which foresee the time of a run.

    python benchmarks/estimates.py            # a minute or two on two cores
    python benchmarks/estimates.py --tiny     # seconds, to see that it works; the numbers mean nothing

`share` is UTILISATION of the CPU: the speed of a step as a share of that of large matrix products. The numbers below it
come from two short runs of the first config, each in a workdir of its own and with a common cache of compiled programs,
which only the second one finds filled.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import print_machine

# Model, side of its images, batch.
STEPS: dict[str, tuple[dict[str, Any], int, int]] = {
    "resnet8": (dict(name="resnet", variant="8"), 16, 32),
    "resnet20": (dict(name="resnet", variant="20"), 32, 64),
    "lenet": (dict(name="lenet"), 32, 64),
    "vit_ti8": (dict(name="vit", variant="Ti/8"), 32, 32),
    "vit_mu4": (dict(name="vit", variant="mu/4", depth=4), 32, 32),
}
RENDERED = 3_000  # images of `shapes` that are rendered, and a fifth of that for validation


def config_of(name: str, images: int) -> Any:
    """Returns the config of a run of one epoch on `shapes` that evaluates twice and saves four times.

    Args:
      name: Key of `STEPS`.
      images: Number of training images.
    """
    from ml_collections import ConfigDict

    model, side, batch = STEPS[name]
    c = ConfigDict()
    c.seed = 0
    options = dict(image_size=32, train=images, validation=images // 5, test=10)
    c.data = dict(
        name="shapes", options=options, split="train", host=f"decode|resize({side})", batch_size=batch, image_size=side
    )
    c.augment = "flip_lr|normalize(0.5, 0.5)"
    c.model = model
    c.task = dict(name="supervised")
    c.optimizer = dict(name="sgd", learning_rate=0.1, momentum=0.9)
    c.train = dict(total="1 epoch", checkpoint_every="25 percent")
    c.evals = dict(val=dict(name="classify", split="validation", every="50 percent"))
    return c


def steps(names: list[str], images: int) -> float:
    """Prints the share of the speed of matrix products that steps reach; returns the seconds to compile the first.

    Args:
      names: Keys of `STEPS`.
      images: Number of training images, which does not matter here.
    """
    from jaxvision import estimate, step_costs

    speed = estimate.matmul_flops()
    print(f"matrix products: {speed / 1e9:.0f} GFLOP/s")
    print(f"{'step':10}{'GFLOP':>8}{'ms':>8}{'share':>8}")
    compiling = []
    for name in names:
        config = config_of(name, images)
        tried, flops = step_costs.try_step(config), step_costs.step_cost(config).flops
        compiling.append(tried.compiling)
        print(f"{name:10}{flops / 1e9:8.2f}{1e3 * tried.seconds:8.1f}{flops / tried.seconds / speed:8.2f}")
    return compiling[0]


def rendering(name: str, images: int) -> None:
    """Prints the seconds to render an image of `shapes`; call it before anything else opens the set.

    Args:
      name: Key of `STEPS`.
      images: Number of training images.
    """
    from jaxvision.data import sources

    options = config_of(name, images).data.options.to_dict()
    began = time.perf_counter()
    sources.open_source("shapes", "train", options=options)
    count = sum(options[split] for split in ("train", "validation", "test"))
    print(f"rendering: 1/{count / (time.perf_counter() - began):,.0f} s for an image")


def runs(name: str, images: int, compiling: float, folder: Path) -> None:
    """Prints what a run takes besides its steps, from a run that compiles everything and one that compiles nothing.

    Args:
      name: Key of `STEPS`.
      images: Number of training images.
      compiling: Seconds to compile the step.
      folder: Empty folder.
    """
    import jax

    from jaxvision import programs
    from jaxvision.commands import train

    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    programs.keep()
    walls, account = [], {}
    for run in ("cold", "warm"):
        began = time.perf_counter()
        train.run_train(config_of(name, images), folder / run, quiet=True)
        walls.append(time.perf_counter() - began)
        launch = json.loads((folder / run / "run.json").read_text())["launches"][-1]
        account = launch["goodput"]["seconds"]
    saves = len(list((folder / "warm" / "checkpoints").iterdir()))
    print(f"a run: {walls[0]:.1f} s, with compiled programs {walls[1]:.1f} s; its step compiles in {compiling:.1f} s")
    print(f"all other programs: {(walls[0] - walls[1]) / compiling - 1:.2f} of the time to compile the step")
    print(f"loading the step: {account['compile'] / compiling:.2f} of the time to compile it")
    print(f"starting: {account['start_up']:.2f} s, of it building the experiment and opening the data")
    print(f"checkpoints: {account['checkpoint'] / max(saves, 1):.2f} s for each of {saves}")


def main() -> None:
    """Prints the constants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="two models and few images")
    tiny = parser.parse_args().tiny
    print_machine(("jax", "jaxlib"))
    names, images = (["vit_mu4", "lenet"], 320) if tiny else (list(STEPS), RENDERED)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAXVISION_DATA"] = str(Path(folder, "data"))
        rendering(names[0], images)
        compiling = steps(names, images)
        runs(names[0], images, compiling, Path(folder))


if __name__ == "__main__":
    main()
