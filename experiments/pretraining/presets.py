"""The arms and the sizes of the study: methods, data, networks and budgets.

A new method is an entry in `_methods`, for the small presets, and one in the arms of `imagenet`, for its config; then
costs.py counts its FLOPs.
"""

from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision import augment
from jaxvision import config as configs
from jaxvision.optim.scaling import linear_scaling

Section = dict[str, Any]
BASELINES = ("random", "supervised")  # arms of every backbone that are no methods


class Arm(NamedTuple):
    """The settings of a run, without its seed and its number of steps.

    Attributes:
      data, model, task, optimizer, train: Sections of the config; `data` with `batch_size`.
      augment: Augmentation of training.
      seen: Augmentation of evaluations: the normalisation of training.
    """

    data: Section
    augment: str
    model: Section
    task: Section
    optimizer: Section
    train: Section
    seen: str


class Preset(NamedTuple):
    """One size of the study.

    Attributes:
      title: Name of the data, for captions.
      seeds: Seeds of all arms.
      arms: Arms by name, "BACKBONE/METHOD". Each backbone has "random" and "supervised" (`BASELINES`).
      reference: Name of the arm whose steps define the budget.
      steps: Number of these steps.
      labels: Numbers of training images by evaluation: the neighbours of k-NN, and the labels of the two probes.
      evals: Values that all evaluations share, such as their split.
      needs_dir: Data that --data_dir must name; empty if there is a default.
    """

    title: str
    seeds: tuple[int, ...]
    arms: dict[str, Arm]
    reference: str
    steps: int
    labels: dict[str, int]
    evals: Section
    needs_dir: str = ""

    def config(self, name: str, seed: int, steps: int, data_dir: str | None) -> ConfigDict:
        """Makes the config of a run.

        Args:
          name: Name of the arm.
          seed: Seed of the run.
          steps: Number of steps.
          data_dir: Folder of the data; None for a placeholder.
        """
        arm = self.arms[name]
        c = ConfigDict()
        c.seed = seed
        c.data = arm.data | dict(data_dir=data_dir or placeholder(str))
        c.augment = arm.augment
        c.model = arm.model
        c.task = arm.task
        c.optimizer = arm.optimizer
        c.train = arm.train | dict(total=f"{steps} steps")
        shared = dict(train_split=arm.data["split"], augment=arm.seen) | self.evals
        subset = {name: dict(train_subset=dict(examples=n, seed=seed)) for name, n in self.labels.items()}
        c.evals = dict(
            knn=dict(name="knn", k=(20,), **shared, **subset["knn"]),
            probe=dict(name="linear_probe", l2=(1.0, 10.0, 100.0), **shared, **subset["probe"]),
            few=dict(name="linear_probe", l2=(1.0, 10.0, 100.0), **shared, **subset["few"]),
        )
        return c


class Method(NamedTuple):
    """A method in the small presets.

    Attributes:
      task: Section `task`.
      augment: Key of `AUGMENTS`.
      optimizer: Section `optimizer`, without schedule and warm-up.
    """

    task: Section
    augment: str
    optimizer: Section


class Heads(NamedTuple):
    """The sizes of the heads in a small preset.

    Attributes:
      hidden: Number of units of hidden layers.
      dim: Width of projections.
      prototypes: Number of prototypes.
      queue: Number of features of earlier batches.
      momentum: Share of a teacher that stays in the first step.
    """

    hidden: int
    dim: int
    prototypes: int
    queue: int
    momentum: float


_CROP = "random_resized_crop({side}, {area})|flip_lr"
_COLOUR = "|color_jitter(0.4, 0.4, 0.4, 0.1, p=0.8)|grayscale(0.2)"  # strength 0.5, SimCLR's for CIFAR-10
_SEEN = "normalize(0.5, 0.5)"
AUGMENTS = {
    "plain": f"{_CROP.format(side='{size}', area='(0.2, 1.0)')}|{_SEEN}",
    "pair": f"views(2, '{_CROP.format(side='{size}', area='(0.2, 1.0)')}{_COLOUR}')|{_SEEN}",
    "crops": (
        f"multi_crop('{_CROP.format(side='{size}', area='(0.3, 1.0)')}{_COLOUR}|{_SEEN}', "
        f"'{_CROP.format(side='{half}', area='(0.1, 0.3)')}{_COLOUR}|{_SEEN}', 2, 4)"
    ),
}


def _methods(heads: Heads, batch_size: int, size: int) -> dict[str, Method]:
    """Makes the arms of the small presets by name, with the rates for a batch size, for images of `size` pixels."""
    adamw = dict(name="adamw", learning_rate=1e-3, weight_decay=1e-4)
    vit = adamw | dict(weight_decay=0.05, clip_norm=1.0)
    lars = dict(name="lars", learning_rate=linear_scaling(3.0, batch_size), weight_decay=1e-6)
    supervised = dict(name="supervised")
    projection = dict(projection_dim=heads.dim)
    two_layers = projection | dict(hidden=heads.hidden)
    wide = dict(projection_dim=heads.hidden, hidden=heads.hidden)
    simclr = dict(name="simclr", temperature=0.1, projection_layers=2, **projection)
    return {
        "resnet/random": Method(supervised, "plain", adamw),
        "resnet/supervised": Method(supervised, "plain", adamw | dict(weight_decay=0.05)),
        "resnet/simclr": Method(simclr, "pair", lars),
        "resnet/simclr_adamw": Method(simclr, "pair", adamw),
        "resnet/moco": Method(
            dict(name="moco", momentum=heads.momentum, queue_size=4 * heads.queue, norm_splits=4, **projection),
            "pair",
            adamw,
        ),
        "resnet/byol": Method(dict(name="byol", momentum=heads.momentum, **two_layers), "pair", adamw),
        "resnet/simsiam": Method(
            dict(name="simsiam", predictor_hidden=heads.dim // 2, **two_layers),
            "pair",
            adamw | dict(schedule_rules=(("^predictor/", "constant"),)),
        ),
        "resnet/swav": Method(
            dict(name="swav", prototypes=heads.prototypes, queue=heads.queue, queue_starts="25 percent", **two_layers),
            "crops",
            adamw | dict(freeze=(("^prototypes/", "5 percent"), (".*", False))),
        ),
        "resnet/barlow_twins": Method(dict(name="barlow_twins", **wide), "pair", adamw),
        "resnet/vicreg": Method(dict(name="vicreg", **wide), "pair", adamw),
        "resnet/nnclr": Method(
            dict(name="nnclr", queue_size=4 * heads.queue, predictor_hidden=heads.hidden, **two_layers), "pair", adamw
        ),
        "vit/random": Method(supervised, "plain", vit),
        "vit/supervised": Method(supervised, "plain", vit),
        "vit/simclr": Method(simclr, "pair", vit),
        "vit/moco_v3": Method(
            dict(name="moco_v3", momentum=heads.momentum, **two_layers),
            "pair",
            vit | dict(freeze=(("^embedding/", True), (".*", False))),
        ),
        "vit/dino": Method(
            dict(
                name="dino",
                prototypes=4 * heads.prototypes,
                hidden=heads.hidden,
                bottleneck=heads.dim,
                momentum=heads.momentum,
            ),
            "crops",
            vit | dict(freeze=(("last_layer", "5 percent"), (".*", False))),
        ),
        "vit/mae": Method(
            dict(name="mae", decoder_width=heads.dim, decoder_depth=2, decoder_heads=4), "plain", vit | dict(b2=0.95)
        ),
        "vit/simmim": Method(dict(name="simmim", block=size // 4), "plain", vit),
    }


def _small_arms(
    data: Section, size: int, batch_size: int, heads: Heads, models: dict[str, Section], precision: str = "float32"
) -> dict[str, Arm]:
    """Makes the arms of a small preset, for images of `size` pixels and the models by backbone."""
    return {
        name: Arm(
            data=data | dict(batch_size=batch_size),
            augment=AUGMENTS[method.augment].format(size=size, half=size // 2),
            model=models[name.split("/")[0]],
            task=method.task,
            optimizer=method.optimizer | dict(schedule="cosine", warmup="10 percent"),
            train=dict(log_every="10 percent", checkpoint_every="0 steps", precision=precision),
            seen=_SEEN,
        )
        for name, method in _methods(heads, batch_size, size).items()
    }


def _of_config(name: str, **optimizer: Any) -> Arm:
    """Makes an arm of a config of configs/, with changes to its section `optimizer`."""
    c = configs.load(f"{Path(__file__).parents[2] / 'configs' / name}").to_dict()
    seen = c["evals"].get("knn", {}).get("augment") or augment.evaluation(c["augment"])
    return Arm(
        data={key: value for key, value in c["data"].items() if key != "data_dir"},
        augment=c["augment"],
        model=c["model"],
        task=c["task"],
        optimizer=c["optimizer"] | dict(warmup="10 percent") | optimizer,
        train={key: value for key, value in c["train"].items() if key != "total"} | dict(log_every="1 percent"),
        seen=seen,
    )


_FOLDER = (
    "a folder tree train/CLASS/*.png, validation/CLASS/*.png "
    "(experiments/data_scaling/make_cifar10_folder.py makes one)"
)
_CIFAR10 = dict(name="folder", split="train", classes=10, examples=45_000)
_RESNET8 = dict(name="resnet", variant="8", zero_init_residual=False)
_VIT = dict(name="vit", variant="Ti/4", depth=4, num_heads=4)

PRESETS = {
    "laptop": Preset(
        title="shapes at 16 pixels",
        seeds=(0, 1, 2),
        arms=_small_arms(
            data=dict(
                name="shapes",
                options=dict(image_size=32, train=8_000, validation=2_000, test=1_000),
                split="train",
                host="decode|resize(16)",
                classes=10,
                examples=8_000,
            ),
            size=16,
            batch_size=64,
            heads=Heads(hidden=128, dim=64, prototypes=60, queue=256, momentum=0.97),
            models={"resnet": _RESNET8 | dict(width=0.5), "vit": _VIT | dict(width=48, depth=2)},
        ),
        reference="resnet/simclr",
        steps=150,
        labels=dict(knn=4_000, probe=4_000, few=80),
        evals=dict(split="validation", batch_size=500),
    ),
    "cifar10": Preset(
        title="CIFAR-10 at 16 pixels",
        seeds=(0, 1, 2),
        arms=_small_arms(
            data=_CIFAR10 | dict(host="decode|resize(16)"),
            size=16,
            batch_size=128,
            heads=Heads(hidden=256, dim=64, prototypes=100, queue=512, momentum=0.97),
            models={"resnet": _RESNET8, "vit": _VIT | dict(width=64)},
        ),
        reference="resnet/simclr",
        steps=600,
        labels=dict(knn=10_000, probe=10_000, few=450),
        evals=dict(split="validation", batch_size=500),
        needs_dir=_FOLDER,
    ),
    # All the pixels, networks of the usual size and 200 epochs of SimCLR, in bfloat16.
    "gpu": Preset(
        title="CIFAR-10 at 32 pixels",
        seeds=(0, 1, 2, 3, 4),
        arms=_small_arms(
            data=_CIFAR10 | dict(host="decode", image_size=32),
            size=32,
            batch_size=512,
            heads=Heads(hidden=2048, dim=128, prototypes=512, queue=2_048, momentum=0.99),
            models={
                "resnet": dict(name="resnet", variant="18", stem="cifar"),
                "vit": dict(name="vit", variant="Ti/4", pool="token"),
            },
            precision="bfloat16",
        ),
        reference="resnet/simclr",
        steps=200 * 45_000 // 512,
        labels=dict(knn=45_000, probe=45_000, few=450),
        evals=dict(split="validation", batch_size=1_000),
        needs_dir=_FOLDER,
    ),
    # The configs of the papers, for the FLOPs of 100 epochs of SimCLR.
    "imagenet": Preset(
        title="ImageNet-2012",
        seeds=(0, 1, 2),
        arms={
            "resnet/random": _of_config("supervised/resnet50_imagenet2012.py:classic", schedule="cosine"),
            "resnet/supervised": _of_config("supervised/resnet50_imagenet2012.py:classic", schedule="cosine"),
            "resnet/simclr": _of_config("self_supervised/simclr_resnet50_imagenet2012.py:100"),
            "resnet/moco": _of_config("self_supervised/moco_v2_resnet50_imagenet2012.py:200"),
            "resnet/moco_v3": _of_config("self_supervised/moco_v3_resnet50_imagenet2012.py"),
            "resnet/byol": _of_config("self_supervised/byol_resnet50_imagenet2012.py:100"),
            "resnet/simsiam": _of_config("self_supervised/simsiam_resnet50_imagenet2012.py:100"),
            "resnet/swav": _of_config("self_supervised/swav_resnet50_imagenet2012.py:100"),
            "resnet/barlow_twins": _of_config("self_supervised/barlow_twins_resnet50_imagenet2012.py"),
            "resnet/vicreg": _of_config("self_supervised/vicreg_resnet50_imagenet2012.py"),
            "resnet/nnclr": _of_config("self_supervised/nnclr_resnet50_imagenet2012.py"),
            "vit/random": _of_config("supervised/vit_s16_imagenet2012.py"),
            "vit/supervised": _of_config("supervised/vit_s16_imagenet2012.py"),
            "vit/simclr": _of_config("self_supervised/simclr_vit_s16_imagenet2012.py"),
            "vit/moco_v3": _of_config("self_supervised/moco_v3_vit_imagenet2012.py:S"),
            "vit/dino": _of_config("self_supervised/dino_vit_s16_imagenet2012.py:100"),
        },
        reference="resnet/simclr",
        steps=100 * 1_281_167 // 4_096,
        labels=dict(knn=128_000, probe=128_000, few=12_811),
        evals=dict(
            split="validation",
            train_split="train",
            host="decode|resize_short(256)|central_crop(224)",
            batch_size=1_024,
        ),
    ),
}
