"""Expected efficiency of training steps on many chips, from FLOPs, bytes and published bandwidths.

    python benchmarks/scaling.py            # prints the tables of docs/scaling.md

Nothing is run or measured here: see docs/scaling.md for the formulas and what they leave out.
"""

import os
from functools import partial
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

from jaxvision import models
from jaxvision.analysis.accounting import macs

UTILISATION = 0.5  # share of the peak that one chip reaches alone, assumed
CHIPS = (8, 64, 512)


class Chip(NamedTuple):
    """A chip and its network.

    Attributes:
      peak: Dense bfloat16 FLOP/s.
      inner: Chips that the fast network joins.
      fast: Function from the number of chips to bytes/s that one chip sends over the fast network.
      slow: Bytes/s that one chip sends over the network between such groups.
    """

    peak: float
    inner: int
    fast: dict[int, float]
    slow: float


# One direction. A ring over a torus uses both directions of each axis; without a wrap-around half of them.
SYSTEMS = {
    "TPU v4": Chip(275e12, 4096, {8: 150e9, 64: 300e9, 512: 300e9}, 0.0),
    "TPU v5e": Chip(197e12, 256, {8: 100e9, 64: 100e9, 512: 200e9}, 25e9 / 8),
    "TPU v5p": Chip(459e12, 8960, {8: 300e9, 64: 600e9, 512: 600e9}, 0.0),
    "H100": Chip(989e12, 8, {8: 450e9, 64: 450e9, 512: 450e9}, 50e9),
}
VIT = dict(pool="gap", posemb="sincos2d")
MODELS = {
    "ViT-B/16": ("vit", dict(VIT, variant="B/16"), 4096),
    "ViT-L/16": ("vit", dict(VIT, variant="L/16"), 4096),
    "ResNet-50": ("resnet", dict(variant=50), 4096),
    "CLIP B/32": ("two_towers", dict(variant="clip_vit_b32"), 32_768),
}


def cost(name: str, options: dict) -> tuple[int, float]:
    """Returns the number of parameters and the FLOPs of a step for one example: three forward passes.

    Args:
      name: Name of the model.
      options: Options of the model.
    """
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), "float32")
    if name == "two_towers":
        model = models.build(name, None, **options)
        apply = partial(model.apply, train=False)
        given = dict(images=images, tokens=jax.ShapeDtypeStruct((1, 77), "int32"))
        variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), **given)
        forward = macs(lambda v, g: apply(v, **g), variables, given)
    else:
        model = models.build(name, 1000, **options)
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        forward = macs(model.apply, variables, images)
    return sum(x.size for x in jax.tree.leaves(variables["params"])), 6.0 * forward


def seconds(size: float, chips: int, chip: Chip) -> float:
    """Time of a gather or a scatter of `size` bytes over all chips: inside the groups, then between them.

    Args:
      size: Bytes of the whole array.
      chips: Number of chips.
      chip: Chip and network.
    """
    inner = min(chips, chip.inner)
    outer = chips // inner
    time = size * (inner - 1) / inner / chip.fast[chips]
    return time + (size / inner * (outer - 1) / outer / chip.slow if outer > 1 else 0.0)


def main() -> None:
    print("| model | parameters, M | GFLOP an example | batch |\n|---|---:|---:|---:|")
    costs = {model: cost(name, options) for model, (name, options, _) in MODELS.items()}
    for model, (parameters, flops) in costs.items():
        print(f"| {model} | {parameters / 1e6:.1f} | {flops / 1e9:.1f} | {MODELS[model][2]:,} |")
    print("\n| model | system | " + " | ".join(f"{n} chips" for n in CHIPS) + " |\n|---|---|" + "---:|" * len(CHIPS))
    for model, (parameters, flops) in costs.items():
        for system, chip in SYSTEMS.items():
            cells = []
            for n in CHIPS:
                compute = flops * MODELS[model][2] / n / (chip.peak * UTILISATION)
                loss = 0.0
                if model.startswith("CLIP"):  # embeddings of both towers, gathered and scattered, float32 [batch, 512]
                    loss = 2 * seconds(2 * 4 * 512 * MODELS[model][2], n, chip)
                # Data-parallel and fsdp send the same: gradients in bfloat16, and again or parameters in bfloat16.
                sent = 2 * seconds(2 * parameters, n, chip)
                alone = compute / (compute + sent + loss)
                hidden = compute / (compute + loss + max(0.0, sent - 2 / 3 * compute))
                cells.append(f"{100 * alone:.0f} to {100 * hidden:.0f} %")
            print(f"| {model} | {system} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
