"""Time of an evaluation: against the bare forward pass, several evaluators together, and timm's plain loop in torch.

    python benchmarks/evaluation.py             # float32 on the CPU
    python benchmarks/evaluation.py --tiny      # a few seconds, to see that it works; the times mean nothing

Random images are held in memory. `forward` is the jitted forward pass alone, over batches that are on the device;
`classify` is the evaluator of that name, with its accuracies and loss. The other ways run `classify`, `knn` and
`class_mean`: `together` as the evaluations of a step do, which share the forward pass over each of the two splits; `in
turn` without being announced, so that `classify` takes a pass of its own and the others share features; `each alone`
without a common store. The variables are new arrays in each evaluation, as after steps of training. torch computes the
same accuracies and loss as `classify`.

Every way runs in its own process. All stay alive and take turns (turns.py). The ratios compare within a round.
"""

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from machine import print_machine, versions
from turns import Turn, take_turns

MODELS: dict[str, dict[str, Any]] = {
    "resnet8": dict(ours=("resnet", {"variant": "8"}), size=32, batch=128, examples=1024),
    "vit_ti4": dict(ours=("vit", {"variant": "Ti/4", "pool": "token", "posemb": "learned"}), size=32, batch=64,
                    examples=256, timm="vit_tiny_patch16_224", options={"img_size": 32, "patch_size": 4}),
    "vit_s16": dict(ours=("vit", {"variant": "S/16", "pool": "token", "posemb": "learned"}), size=224, batch=8,
                    examples=32, timm="vit_small_patch16_224", options={}),
    "tiny": dict(ours=("vit", {"variant": "mu/4", "depth": 1}), size=8, batch=8, examples=20),
}  # fmt: skip
CLASSES = 10
WAYS = ("forward", "classify", "together", "in turn", "each alone")
TORCH = ("torch eager", "torch compile")


def make_images(model: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    n, size = model["examples"], model["size"]
    return rng.integers(0, 256, (n, size, size, 3), np.uint8), np.arange(n) % CLASSES


def jaxvision_runner(name: str, way: str) -> Callable[[int], int]:
    """Builds one of `WAYS`.

    Args:
      name: Name of the model.
      way: Name of the way.

    Returns:
      Function of a number of examples that evaluates at least so many, and returns how many.
    """
    import jax
    import jax.numpy as jnp

    from jaxvision import models
    from jaxvision.data.sources import Info, Source
    from jaxvision.evals import class_mean, classify, dataset, knn
    from jaxvision.evals.store import Store
    from jaxvision.parallel.mesh import make_mesh, replicate
    from jaxvision.tasks import supervised

    model = MODELS[name]
    images, labels = make_images(model)

    class Images(Source):
        info = Info("images", "validation", len(images), tuple(map(str, range(CLASSES))), CLASSES)

        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"image": images[index], "label": int(labels[index])}

    kind, options = model["ours"]
    task = supervised.make_supervised(
        model=lambda num_classes: models.build(kind, num_classes, **options), num_classes=CLASSES
    )
    mesh = make_mesh()
    shapes = {"image": jnp.zeros((1, model["size"], model["size"], 3)), "label": jnp.zeros(1, jnp.int32)}
    variables = replicate(jax.jit(task.init)(jax.random.key(0), shapes), mesh)
    renewed = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))

    def opened(store: Store, split: str) -> dataset.EvalSet:
        return dataset.EvalSet(
            Images(), host="decode", augment="normalize(0.5, 0.5)", batch_size=model["batch"], mesh=mesh, store=store,
            identity={"split": split},
        )  # fmt: skip

    makers: dict[str, Callable[[Any, Any], Callable]] = {
        "classify": lambda data, train: classify.make_classify(task=task, data=data),
        "knn": lambda data, train: knn.make_knn(task=task, data=data, train=train, k=(5,)),
        "class_mean": lambda data, train: class_mean.make_class_mean(task=task, data=data, train=train),
    }

    def evaluators(names: Iterable[str]) -> tuple[list[Callable], list[dataset.EvalSet]]:
        """Evaluators with a common store, and the two splits as each of them sees them."""
        store, runs, seen = Store(), [], []
        splits = opened(store, "validation"), opened(store, "train")
        for name in names:
            data, train = (split.for_evaluator() for split in splits)
            runs.append(makers[name](data, train))
            seen += [data, train]
        for split in seen:
            split.plan()
        return runs, seen

    if way == "forward":
        data = opened(Store(), "validation")
        batches = list(data.batches())
        forward = jax.jit(lambda variables, batch: task.outputs(variables, data.preprocess(batch))["logits"])
        once = lambda: jax.block_until_ready([forward(variables, batch) for batch in batches])
    else:
        chosen = {"classify": [["classify"]], "each alone": [[name] for name in makers]}.get(way, [list(makers)])
        groups = [evaluators(names) for names in chosen]

        def once() -> None:
            new = renewed(variables)
            for _, seen in groups if way == "together" else ():
                for split in seen:
                    split.expect(new)
            for runs, _ in groups:
                for run in runs:
                    run(new)

    return functools.partial(repeat, once, len(images))


def torch_runner(name: str, way: str) -> Callable[[int], int]:
    """Builds the plain loop of timm and torch; see `jaxvision_runner`.

    Args:
      name: Name of the model.
      way: Name of the way, one of `TORCH`.
    """
    import torch
    from torchvision_shim import allow_torchvision

    allow_torchvision()
    import timm

    model = MODELS[name]
    torch.manual_seed(0)
    net = timm.create_model(model["timm"], num_classes=CLASSES, **model["options"]).eval()
    forward = torch.compile(net) if way == "torch compile" else net
    images, labels = (torch.from_numpy(x) for x in make_images(model))
    images, batch = images.permute(0, 3, 1, 2).contiguous(), model["batch"]

    def once() -> None:
        right = torch.zeros(2)
        loss = torch.zeros(())
        with torch.inference_mode():
            for start in range(0, len(images), batch):
                x = images[start : start + batch].float().div_(255).sub_(0.5).div_(0.5)
                y = labels[start : start + batch]
                logits = forward(x)
                hits = logits.topk(5).indices == y[:, None]
                right += torch.stack([hits[:, 0].sum(), hits.sum()])
                loss += torch.nn.functional.cross_entropy(logits, y, reduction="sum")
        right.tolist(), loss.item()

    return functools.partial(repeat, once, len(images))


def repeat(once: Callable[[], Any], size: int, examples: int) -> int:
    times = -(-examples // size)
    for _ in range(times):
        once()
    return times * size


def build(name: str, way: str) -> Callable[[int], int]:
    return torch_runner(name, way) if way in TORCH else jaxvision_runner(name, way)


def in_this_process(builds: Mapping[str, Callable], examples: int) -> dict[str, list[Turn]]:
    turns = {}
    for way, make in builds.items():
        run, start = make(), time.perf_counter()
        speed = run(examples) / (time.perf_counter() - start)
        turns[way] = [Turn(speed, speed)]
    return turns


def print_table(name: str, turns: Mapping[str, list[Turn]]) -> None:
    model = MODELS[name]
    print(f"\n{name}, {model['size']} px, batch {model['batch']}, {model['examples']} examples")
    print(f"{'':15}{'ms an example':>15}{'time / forward':>24}{'time / together':>24}")
    for way, measured in turns.items():
        cells = ""
        for base in ("forward", "together"):
            ratios = [b.per_second / a.per_second for a, b in zip(measured, turns[base])]
            cells += f"{statistics.median(ratios):10.2f} ({min(ratios):.2f}-{max(ratios):.2f})".rjust(24)
        print(f"{way:15}{1e3 / statistics.median(turn.per_second for turn in measured):15.3f}{cells}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=[m for m in MODELS if m != "tiny"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--without_torch", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    print_machine(("jax", "flax", "torch", "timm"))
    has_torch = len(versions(("torch", "timm"))) == 2
    for name in ["tiny"] if args.tiny else args.models or [m for m in MODELS if m != "tiny"]:
        with_torch = "timm" in MODELS[name] and has_torch and not args.without_torch
        ways = (*WAYS, *(TORCH if with_torch else ()))
        builds = {way: functools.partial(build, name, way) for way in ways}
        examples = MODELS[name]["examples"]
        print_table(name, in_this_process(builds, 1) if args.tiny else take_turns(builds, examples, args.rounds))


if __name__ == "__main__":
    main()
