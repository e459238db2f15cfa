"""Expected efficiency of training steps on many chips, from FLOPs, bytes and published bandwidths.

    python benchmarks/scaling.py            # prints the tables of docs/scaling.md

Nothing is run or measured here: see docs/scaling.md for the formulas and what they leave out.
"""

import os
from functools import partial

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

from jaxvision import models
from jaxvision.analysis.accounting import macs
from jaxvision.analysis.plan import gather_seconds
from jaxvision.hardware import CHIPS

UTILISATION = 0.5  # share of the peak that one chip reaches alone, assumed
COUNTS = (8, 64, 512)
SYSTEMS = {"TPU v4": CHIPS["v4"], "TPU v5e": CHIPS["v5e"], "TPU v5p": CHIPS["v5p"], "H100": CHIPS["H100"]}
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


def chip_table() -> str:
    """Returns the table of chips of docs/scaling.md, from `hardware.CHIPS`."""
    rows = ["| device | memory, GiB | bfloat16, TFLOP/s | float32 | it sends, GB/s | between islands | source |"]
    rows.append("|---|---:|---:|---:|---|---:|---|")
    for name, chip in CHIPS.items():
        fast = f"{chip.fast / 1e9:g} in {chip.island:,}"
        slow = f"{chip.slow / 1e9:.3g}" if chip.slow else ""
        numbers = f"{chip.memory / 2**30:g} | {chip.bfloat16 / 1e12:g} | {chip.float32 / 1e12:g} | {fast} | {slow}"
        rows.append(f"| {name} | {numbers} | {chip.source} |")
    return "\n".join(rows)


def main() -> None:
    print(f"{chip_table()}\n")
    print("| model | parameters, M | GFLOP an example | batch |\n|---|---:|---:|---:|")
    costs = {model: cost(name, options) for model, (name, options, _) in MODELS.items()}
    for model, (parameters, flops) in costs.items():
        print(f"| {model} | {parameters / 1e6:.1f} | {flops / 1e9:.1f} | {MODELS[model][2]:,} |")
    print("\n| model | system | " + " | ".join(f"{n} chips" for n in COUNTS) + " |\n|---|---|" + "---:|" * len(COUNTS))
    for model, (parameters, flops) in costs.items():
        for system, chip in SYSTEMS.items():
            cells = []
            for n in COUNTS:
                compute = flops * MODELS[model][2] / n / (chip.bfloat16 * UTILISATION)
                loss = 0.0
                if model.startswith("CLIP"):  # embeddings of both towers, gathered and scattered, float32 [batch, 512]
                    loss = 2 * gather_seconds(2 * 4 * 512 * MODELS[model][2], n, chip)
                # Data-parallel and fsdp send the same: gradients in bfloat16, and again or parameters in bfloat16.
                sent = 2 * gather_seconds(2 * parameters, n, chip)
                alone = compute / (compute + sent + loss)
                hidden = compute / (compute + loss + max(0.0, sent - 2 / 3 * compute))
                cells.append(f"{100 * alone:.0f} to {100 * hidden:.0f} %")
            print(f"| {model} | {system} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
