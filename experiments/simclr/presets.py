"""The sizes of the study: data, network, budget, and which arms are run."""

from pathlib import Path
from typing import Any, NamedTuple

from jaxvision import config as configs
from jaxvision.optim.scaling import linear_scaling, sqrt_scaling

OPS = {  # those of fig. 5 of the paper except Sobel filters and noise, in the order of application
    "crop": "random_resized_crop({size})|flip_lr",
    "rotate": "rotate90",
    "colour": "color_jitter({jitter:g}, {jitter:g}, {jitter:g}, {hue:g}, p=0.8)|grayscale(0.2)",
    "blur": "gaussian_blur(p=0.5)",
    "cutout": "cutout({half})",
}


class Arm(NamedTuple):
    """The settings of a run, without its seed.

    Attributes:
      ops: Names in `OPS` of the transformations that make the views.
      strength: Strength of the colour distortion, s in appendix A of the paper.
      temperature: Temperature of the loss.
      layers: Number of layers of the projection head: 0 none, 1 linear, 2 nonlinear.
      width: Dimensions in the loss, if there is a head.
      batch_size: Number of images, each of which has two views.
      length: Length of training, in units of `Preset.images`; 0 leaves the network random.
      rule: Scaling of the learning rate with the batch size, "linear" or "sqrt".
    """

    ops: tuple[str, ...]
    strength: float
    temperature: float
    layers: int
    width: int
    batch_size: int
    length: float = 1.0
    rule: str = "linear"


class Preset(NamedTuple):
    """One size of the study.

    Attributes:
      title: Name of the data, for captions.
      full: Arm from which all others differ.
      seeds: Seeds of the main arms and of the temperatures.
      further_seeds: Seeds of strengths, widths and batches, some of `seeds`; the grid takes the first one.
      images: Number of images that a run of length 1 sees, with repetitions.
      size: Side of the views in pixels.
      rate: Learning rate for a batch of 256; both rules give the same at the batch size of `full`.
      sections: Sections of the config: data without batch_size, model, optimizer without learning_rate, train without
        total, and evals with `val`, a linear probe.
      whole: Operation that resizes views without a crop to `size`, if the host does not.
      ops: Transformations of the grid.
      strengths, temperatures, widths, batch_sizes, lengths: Values besides those of `full`.
      arms: Names of the arms of `main` that are run; criteria without theirs are left out.
      needs_dir: Data that --data_dir must name; empty if there is a default.
    """

    title: str
    full: Arm
    seeds: tuple[int, ...]
    further_seeds: tuple[int, ...]
    images: int
    size: int
    rate: float
    sections: dict[str, Any]
    whole: str = ""
    ops: tuple[str, ...] = tuple(OPS)
    strengths: tuple[float, ...] = ()
    temperatures: tuple[float, ...] = ()
    widths: tuple[int, ...] = ()
    batch_sizes: tuple[int, ...] = ()
    lengths: tuple[float, ...] = ()
    arms: tuple[str, ...] = ("full", "crop", "colour", "no_head", "linear_head", "random")
    needs_dir: str = ""

    @property
    def main(self) -> dict[str, Arm]:
        """The arms of the criteria, and the linear head."""
        full = self.full
        arms = {
            "full": full,
            "crop": full._replace(ops=("crop",)),
            "colour": full._replace(ops=("colour",)),
            "no_head": full._replace(layers=0),
            "linear_head": full._replace(layers=1),
            "random": full._replace(length=0.0),
        }
        return {name: arms[name] for name in self.arms}

    def axis(self, field: str) -> dict[float, Arm]:
        """Value -> arm, ascending, for one numeric field of `Arm`: the values of the preset and that of `full`.

        Args:
          field: Name of a numeric field of `Arm`.
        """
        values = {*getattr(self, f"{field}s"), getattr(self.full, field)}
        return {value: self.full._replace(**{field: value}) for value in sorted(values)}

    @property
    def batches(self) -> dict[tuple[int, float, str], Arm]:
        """(batch size, length, rule) -> arm: every size and length with the linear rule, length 1 with the other."""
        lengths = {(length, "linear") for length in (1.0, *self.lengths)} | {(1.0, "sqrt")}
        return {
            (arm.batch_size, length, rule): arm._replace(length=length, rule=rule)
            for arm in self.axis("batch_size").values()
            for length, rule in sorted(lengths)
            if rule == "linear" or arm != self.full
        }

    @property
    def grid(self) -> dict[tuple[str, str], Arm]:
        """An arm for each pair of transformations, and for each alone, under (OP, OP)."""
        ops = [op for op in OPS if op in self.ops]
        return {
            (one, other): self.full._replace(ops=(one,) if one == other else (one, other))
            for i, one in enumerate(ops)
            for other in ops[i:]
        }

    def views(self, arm: Arm) -> str:
        """The augmentation of an arm.

        Args:
          arm: Arm of the study.
        """
        numbers = dict(size=self.size, half=self.size // 2, jitter=0.8 * arm.strength, hue=0.2 * arm.strength)
        specs = [spec.format(**numbers) for op, spec in OPS.items() if op in arm.ops]
        if self.whole and "crop" not in arm.ops:
            specs.insert(0, self.whole)
        return f"views(2, {'|'.join(specs)!r})"

    def learning_rate(self, arm: Arm) -> float:
        """The peak of the schedule.

        Args:
          arm: Arm of the study.
        """
        if arm.rule == "linear":
            return linear_scaling(self.rate, arm.batch_size)
        equal = self.full.batch_size
        return sqrt_scaling(linear_scaling(self.rate, equal) / equal**0.5, arm.batch_size)


def _without(section: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in keys}


_PROBE = dict(
    name="linear_probe",
    split="validation",
    train_split="train",
    layers=("features", "projection"),
    l2=(1.0, 10.0, 100.0),
)

# Small scale: images of 16 pixels, so that a run takes two minutes on one core. The strength is that of app. B.9; rate
# and temperature were chosen by single runs of seed 100, which is not reported.
_FULL = Arm(ops=("crop", "colour"), strength=0.5, temperature=0.1, layers=2, width=64, batch_size=128)
_SMALL = dict(
    model=dict(name="resnet", variant="8", width=1.5, zero_init_residual=False),
    optimizer=dict(name="lars", weight_decay=1e-6, schedule="cosine", warmup="10 percent"),
    train=dict(log_every="10 percent", checkpoint_every="0 steps"),
)

_PAPER = configs.load(
    f"{Path(__file__).parents[2] / 'configs' / 'self_supervised' / 'simclr_resnet50_imagenet2012.py'}:100"
).to_dict()

PRESETS = {
    "laptop": Preset(
        title="shapes at 16 pixels",
        full=_FULL._replace(batch_size=64),
        seeds=(0, 1, 2),
        further_seeds=(0,),
        images=150 * 64,
        size=16,
        rate=3.0,
        sections=dict(
            data=dict(
                name="shapes",
                options=dict(image_size=32, train=8_000, validation=2_000, test=1_000),
                split="train",
                host="decode|resize(16)",
                classes=10,
                examples=8_000,
            ),
            **_SMALL | dict(model=_SMALL["model"] | dict(width=0.5)),
            evals=dict(val=_PROBE | dict(train_subset=dict(examples=4_000), batch_size=500)),
        ),
        ops=("crop", "colour", "blur"),
        strengths=(1.0,),
        temperatures=(0.5,),
    ),
    "cifar10": Preset(
        title="CIFAR-10 at 16 pixels",
        full=_FULL,
        seeds=(0, 1, 2),
        further_seeds=(0,),
        images=600 * 128,
        size=16,
        rate=3.0,
        sections=dict(
            data=dict(name="folder", split="train", host="decode|resize(16)", classes=10, examples=45_000),
            **_SMALL,
            evals=dict(val=_PROBE | dict(train_subset=dict(examples=10_000), batch_size=500)),
        ),
        ops=("crop", "rotate", "colour", "cutout"),
        strengths=(0.25, 1.0),
        temperatures=(0.05, 0.5, 1.0),
        widths=(16, 256),
        batch_sizes=(64, 256),
        lengths=(0.5,),
        needs_dir="a folder tree train/CLASS/*.png, validation/CLASS/*.png "
        "(experiments/data_scaling/make_cifar10_folder.py makes one)",
    ),
    # configs/self_supervised/simclr_resnet50_imagenet2012.py without blur, which is a transformation of the grid here.
    "paper": Preset(
        title="ImageNet-2012",
        full=_FULL._replace(strength=1.0, width=128, batch_size=4_096),
        seeds=(0, 1, 2),
        further_seeds=(0, 1, 2),
        images=100 * 1_281_167,
        size=224,
        rate=0.3,
        sections=dict(
            data=_without(_PAPER["data"], "batch_size", "data_dir"),
            model=_PAPER["model"],
            optimizer=_without(_PAPER["optimizer"], "learning_rate") | dict(warmup="10 percent"),  # of 100 epochs
            train=_without(_PAPER["train"], "total") | dict(log_every="10 percent"),
            evals=dict(
                val=_PROBE
                | dict(
                    train_subset=dict(examples=128_000),
                    host="decode|resize_short(256)|central_crop(224)",
                    augment="none",
                    batch_size=1_024,
                )
            ),
        ),
        whole="central_crop(224)",
        strengths=(0.125, 0.25, 0.5),
        temperatures=(0.05, 0.5, 1.0),
        widths=(32, 512, 2_048),
        batch_sizes=(256, 1_024),
        lengths=(2.0, 4.0),
    ),
}

# The criterion `head` alone, with more seeds and five times the steps; else as `cifar10`.
PRESETS["cifar10_heads"] = PRESETS["cifar10"]._replace(
    seeds=(0, 1, 2, 3, 4),
    images=2_000 * 128,
    ops=(),
    strengths=(),
    temperatures=(),
    widths=(),
    batch_sizes=(),
    lengths=(),
    arms=("full", "no_head", "linear_head", "random"),
)
