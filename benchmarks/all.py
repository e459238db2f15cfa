"""Runs the benchmarks of speed and memory and writes docs/performance.md from what they print.

    python benchmarks/all.py                            # everything, an hour or more on two cores
    python benchmarks/all.py --only steps startup       # these sections anew; the others stay as they are in the page
    python benchmarks/all.py --only interpreters -- ~/newer/bin/python    # against another version of jax

Needs what the scripts need: torch, timm and open_clip_torch, and tensorflow for the input pipelines. A section whose
script fails says so, with the last line of the error.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from machine import versions

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "timm", "open_clip_torch", "tensorflow")
INTRODUCTION = """\
# Performance

Each table is what the command above it printed. Implementations take turns in one run, so other load on the machine
slows all of them alike: read the ratios, with their range over rounds in parentheses, and not the lone times. The
device is a CPU unless a section says otherwise.

`python benchmarks/all.py` writes this page; `--only NAME` measures one section again.
[scaling.md](scaling.md) works out what many devices should give.

On an NVIDIA GPU, `python benchmarks/gpu.py` measures in one call of at most ten minutes: ViT-B/16 in bfloat16 against
the card's own rate of matrix products, ResNet-50 and CLIP B/32 against `torch.compile` with channels-last and autocast,
the options of speed with cuDNN's attention, and a population. It has not been run on a GPU yet, and neither has
`attention="cudnn"`: tests run the script on a CPU, where its numbers mean nothing.
"""


class Section(NamedTuple):
    """A part of the page.

    Attributes:
      title: Heading.
      words: Script of this folder and its arguments.
      notes: Text below the table: what limits it, what was tried.
    """

    title: str
    words: tuple[str, ...]
    notes: str = ""


SECTIONS = {
    "steps": Section(
        "A training step",
        ("train_step.py", "--rounds=4", "--steps=2"),
        """\
A ratio above 1 means that this project is faster. Peak memory is that of the whole process; XLA's compiler takes part
of it.

What makes the difference on a CPU:
- Freed memory is kept, in buffers up to 256 MiB (`jaxvision/memory.py`). XLA allocates the buffers of a program at each
  call; without this, each step maps them again, page by page.
- Attention puts the heads first, and a 1x1 convolution multiplies two matrices. Otherwise XLA transposes on the way.
- BatchNorm is a factor and an offset, so that its gradient needs sums of dy and dy x, and no stored x - mean.
- The check of finite numbers computes the update twice, and reduces it by a logical and, which stores a byte for each
  parameter.
- The gradient of a depthwise convolution is a sum of shifted products, not the dense convolution that XLA makes of it.

What limits the ResNets: the gradients of 3x3 convolutions. XLA's CPU backend computes those of the kernels
more slowly than oneDNN, and transposes the map and the gradient before (`transpose_copy_fusion` in a profile). Tried
without a gain: sums of nine products, patches and one product, three shifts of the map by three of the gradient as one
product, barriers around the transposes, and the other choices of `--xla_cpu_experimental_ynn_fusion_type`. Several
steps in one dispatch are slower on a CPU for networks with convolutions, because XLA runs those in a loop without its
fast kernels.

What limits the ViTs: attention, whose products of small matrices (197 x 64) run at half the rate of large ones, and the
projections of 384 x 384, which do not reach the rate of a large product either. Tried without a gain: tokens padded to
200, 208 or 256, transposed keys, one product for query, key and value, LayerNorm in four other forms or recomputed for
the backward pass, and other types of fusion.

Tried for the time before the first step, without a gain on two cores: compiling while the data are read. Both need the
processor.""",
    ),
    "profile": Section(
        "Where the time of a step goes",
        ("step_profile.py", "vit_s16", "clip_b32", "resnet50", "convnext_t", "resnet18_32", "--parts=6"),
        """\
What is "unknown" in the ResNets are mostly the gradients of the kernels of 3x3 convolutions: XLA drops their names.""",
    ),
    "without_avx512": Section(
        "A training step on a processor without AVX-512",
        ("train_step.py", "--rounds=4", "--steps=1"),
        """\
The sections before this one are of a processor with AVX-512, which many laptops do not have. Without it, JAX's large
matrix products are no faster than torch's. XLA's gradient of a kernel is slowest there, so it is computed as products
of matrices (next section). Before that, at commit 4d3de06, `train_step.py --rounds=4 --steps=2` gave 0.28 (0.25 to
0.33) of torch eager for ResNet-8 and 0.29 (0.28 to 0.32) for ResNet-18.

What limits ConvNeXt: the gradient of the depthwise kernels takes 1.4 of 4.5 s (`step_profile.py convnext_t`), for few
operations: it reads the map and the gradient once for each of 49 taps. Tried without a gain over a step's four sizes of
map: products of matrices whose diagonals are summed, the same in tiles of 14 columns, and a loop over the rows of the
kernel only.""",
    ),
    "kernel_gradient": Section("The gradient of a kernel", ("kernel_gradient.py",)),
    "startup": Section(
        "Start-up",
        ("startup.py", "--rounds=3"),
        """\
"cold" compiles every program, "warm" finds them in the cache (docs/reliability.md). Of a refusal,
imports take most.

A run traces its step before the data are read and compiles it at the first dispatch; the program of an evaluation is
compiled at its first batch. Tried without a gain on two cores: compiling that program in a thread meanwhile, from the
moment the evaluations are open. The first evaluation after two steps, cold, came after 0.92 (0.91-1.04) of the time
without the thread for a ViT-Ti/4 and 1.04 (0.98-1.30) for a ResNet-18, in three rounds of turns beside other load
(`JAX_ENABLE_COMPILATION_CACHE=false jaxvision train --config=configs/quickstart.py` at 32 pixels, batch 16, with
`--config.train.total="4 steps" --config.evals.val.every="2 steps"`, at commit 4013ad4).""",
    ),
    "evaluation": Section(
        "Evaluation",
        ("evaluation.py", "--rounds=4"),
        """\
"together" is `classify`, `knn` and `class_mean` of one step. They need two forward passes between them: one over the
validation split, which gives logits and features, and one over the training split. "in turn" shares features only and
needs a third. Measured on a processor without AVX-512.""",
    ),
    "checkpoints": Section(
        "Checkpoints",
        ("checkpoints.py", "--rounds=4"),
        """\
Steps with a checkpoint in their midst against the same steps without. On two cores the writer takes its time from the
steps, so writing beside the training gains little there.""",
    ),
    "compilation": Section(
        "Compilation and memory",
        ("compilation.py",),
        """\
`scan` compiles one layer and runs it for all. `remat` stores less for the backward pass and computes it again. Memory
is that of XLA's plan for a CPU; plans for other devices differ.""",
    ),
    "options": Section(
        "Options of speed",
        ("options.py", "--networks=small", "--batch=32", "--steps=8", "--rounds=5", "--seconds=900"),
        """\
Measured on a processor without AVX-512. A ratio is the median within rounds, not that of the two medians. On a CPU
most options of speed cost time or do nothing, because they are made for accelerators. bfloat16 is emulated. Several
steps in a dispatch are slow for convolutions, which XLA runs in a loop without its fast kernels. Donation and bfloat16
moments make no difference at this size. A set that is held in the memory of the host is read faster than a stream.
`remat` takes about 40 % ("dots") and 65 % ("full") off the memory of the scanned ViT. The losses are equal where an
option must not change the result: donation, several steps, `remat`, data in memory. The scanned ViT draws other
parameters.""",
    ),
    "population": Section("Populations", ("population.py",)),
    "self_supervised": Section(
        "Methods without labels",
        ("self_supervised.py",),
        """\
The arms of the study [pretraining](../experiments/pretraining/README.md), without AVX-512. DINO and SwAV make two large
and four small views of an image, MAE and SimMIM one, the others two; BYOL, MoCo and DINO have a teacher besides.""",
    ),
    "losses": Section("Memory of losses over pairs", ("image_text_memory.py",)),
    "contrastive": Section("Memory of NT-Xent", ("contrastive_memory.py",)),
    "input": Section(
        "Input pipelines",
        ("input_pipeline.py", "--rounds=3"),
        """\
"fast" inverts the JPEG's transform with fewer digits, and OpenCV's linear filter takes less time than Pillow's. Both
are options of the host operations (docs/data.md).

tf.data decodes only the crop. No maintained package of Python with wheels does that on a CPU without CUDA (PyTurboJPEG
crops only without decoding, and needs a library of the system), so a whole picture is decoded here, reduced where the
crop is at least four times as large as wanted. On the device, colours cost a hundredth of what they do on the host, but
RandAugment costs more, because a step computes every operation it may draw.""",
    ),
    "gpu": Section("One GPU", ("gpu.py",)),
    "interpreters": Section(
        "A newer jax",
        ("interpreters.py", "--rounds=3", "--models", "vit_s16", "resnet18_32", "resnet8_32", "vit64_16"),
        """\
The first interpreter is the reference. A ratio below 1 means that the other one is faster. Measured beside other load,
on a processor without AVX-512.""",
    ),
}
NEEDS_WORDS = ("interpreters",)  # sections whose script needs words of the user, given after --
ELSEWHERE = ("without_avx512", "kernel_gradient", "gpu")  # sections of other processors, measured with --only


def environment() -> str:
    """Describes the machine, its load, and the versions of the packages."""
    found = [f"{package} {version}" for package, version in versions(PACKAGES).items()]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    return (
        f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}, {', '.join(found)}; "
        f"commit {commit.strip() or 'unknown'}; load at the start (1, 5, 15 minutes): {load}"
    )


def measure(section: Section, extra: list[str]) -> str:
    """Runs the script of a section and returns its text for the page.

    Args:
      section: Section of the page.
      extra: Further arguments of the script.
    """
    words = [section.words[0], *extra, *section.words[1:]]  # options that take several values come last
    where = environment()
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / words[0]), *words[1:]], cwd=ROOT, capture_output=True, text=True
    )
    printed = done.stdout.strip()
    if done.returncode:
        errors = done.stderr.strip().splitlines() or ["no message"]
        printed += f"\nended with status {done.returncode}: {errors[-1]}"
    command = " ".join(["python", f"benchmarks/{words[0]}", *words[1:]])
    return "\n\n".join(
        filter(None, [f"## {section.title}", f"    {command}", where, f"```\n{printed}\n```", section.notes])
    )


def parts_of(page: str) -> dict[str, str]:
    """Splits a page that this script wrote into its sections, heading -> text."""
    return {text.splitlines()[0].removeprefix("## "): text.strip() for text in re.split(r"(?m)^(?=## )", page)[1:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="sections to measure")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to write")
    parser.add_argument("extra", nargs="*", help="arguments of the script, after --, with one section")
    args = parser.parse_args()
    names = args.only or [name for name in SECTIONS if name not in NEEDS_WORDS + ELSEWHERE]
    if args.extra and len(names) != 1:
        parser.error("arguments of a script need --only with one section")
    parts = parts_of(args.page.read_text()) if args.page.exists() else {}
    for name in names:
        print(f"{name}: python benchmarks/{' '.join(SECTIONS[name].words)}", file=sys.stderr)
        parts[SECTIONS[name].title] = measure(SECTIONS[name], args.extra)
        texts = [parts[section.title] for section in SECTIONS.values() if section.title in parts]
        args.page.write_text("\n".join([INTRODUCTION, *(f"{text}\n" for text in texts)]))


if __name__ == "__main__":
    main()
