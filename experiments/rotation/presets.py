"""The sizes of the study: data, network, budgets and evaluations."""

from pathlib import Path
from typing import Any, NamedTuple

from jaxvision import config as configs

STAGES = tuple(f"stages/{i}" for i in range(4))  # of a Network in Network of four blocks
RIGHT_ANGLES = (0, 90, 180, 270)
_ROTATION = dict(name="rotation", angles=RIGHT_ANGLES, each="all")
TASKS: dict[str, dict[str, Any]] = {  # section `task` of the arms that are probed by stage
    "rotation": _ROTATION,
    "supervised": dict(name="supervised"),
    "random": _ROTATION,  # 0 steps
}
ANGLES: dict[str, dict[str, Any]] = {  # and of the arms with other rotations
    "0 and 180": _ROTATION | dict(angles=(0, 180)),
    "90 and 270": _ROTATION | dict(angles=(90, 270)),
    "eight": _ROTATION | dict(angles=tuple(range(0, 360, 45))),
    "one of four": _ROTATION | dict(each="one"),
}


class Labels(NamedTuple):
    """Training with few labels.

    Attributes:
      sizes: Numbers of labelled images, ascending; each subset is part of the next.
      batch_size, augment, train: Values of the config.
      optimizers: Section `optimizer` for each way to use the labels.
      classifier: Options of the task `probe`, the classifier on the frozen second stage.
    """

    sizes: tuple[int, ...]
    batch_size: int
    augment: str
    train: dict[str, Any]
    optimizers: dict[str, dict[str, Any]]
    classifier: dict[str, Any]


class Preset(NamedTuple):
    """One size of the study.

    Attributes:
      title: Name of the data, for captions.
      data: Section `data` of the configs, without `batch_size`.
      augment, model, optimizer, train: Sections of the configs.
      batch_sizes: Images per step of each arm, before rotation.
      validation: Description of the images for evaluation.
      probe: Evaluation `probe`, without its layers.
      val: Evaluation `val` of training with labels.
      seeds: Seeds, each of which determines initialisation, order, labelled subsets and the images of the probes.
      angle_seeds: Seeds of the arms of `ANGLES`, some of `seeds`.
      labels: Settings of training with few labels.
      angles: Names of the arms of `ANGLES`.
      arms: Names of the arms of `TASKS`; without "supervised", what compares with it is left out.
      bar: Accuracy on rotations that the criterion `task` asks for; None for no such criterion.
      needs_dir: Data that --data_dir must name; empty if there is a default.
    """

    title: str
    data: dict[str, Any]
    augment: str
    model: dict[str, Any]
    optimizer: dict[str, Any]
    train: dict[str, Any]
    batch_sizes: dict[str, int]
    validation: str
    probe: dict[str, Any]
    val: dict[str, Any]
    seeds: tuple[int, ...]
    angle_seeds: tuple[int, ...]
    labels: Labels
    angles: tuple[str, ...] = tuple(ANGLES)
    arms: tuple[str, ...] = tuple(TASKS)
    bar: float | None = None
    needs_dir: str = ""


# Small scale: a quarter of the width, and each step costs every arm 128 images. Size and rate were chosen by single
# runs of seed 100, which is not reported.
_TURNED = 128
_SMALL_BATCHES = {"random": 32, "supervised": _TURNED, "one of four": _TURNED} | {
    arm: _TURNED // len(task["angles"])
    for arm, task in (TASKS | ANGLES).items()
    if arm in ("rotation", "0 and 180", "90 and 270", "eight")
}
_SGD = dict(
    name="sgd",
    learning_rate=0.05,
    momentum=0.9,
    nesterov=True,
    weight_decay=5e-4,
    schedule="cosine",
    warmup="5 percent",
)
_AUGMENT = "random_crop({}, 2)|flip_lr|normalize(0.5, 0.5)"
_QUIET = dict(log_every="5 percent", checkpoint_every="0 steps")
_CIFAR10 = Preset(
    title="CIFAR-10 at 24 pixels",
    data=dict(name="folder", split="train", host="decode|resize(24)", classes=10, examples=45_000),
    augment=_AUGMENT.format(24),
    model=dict(name="nin", blocks=4, width=0.25),
    optimizer=_SGD,
    train=_QUIET | dict(total="1_500 steps"),
    batch_sizes=_SMALL_BATCHES,
    validation="5,000 images of the training set that no run trains on",
    probe=dict(
        name="linear_probe",
        split="validation",
        train_split="train",
        train_subset=dict(examples=10_000),
        l2=(0.1, 10.0, 1000.0),
        batch_size=500,
    ),
    val=dict(name="classify", split="validation", batch_size=500),
    seeds=(0, 1, 2),
    angle_seeds=(0,),
    labels=Labels(
        sizes=(100, 1_000),
        batch_size=64,
        augment=_AUGMENT.format(24),
        train=_QUIET | dict(total="300 steps"),
        optimizers={"frozen": _SGD, "tuned": _SGD, "scratch": _SGD},
        classifier=dict(layer=STAGES[1], classifier="conv", hidden=48),
    ),
    needs_dir="a folder tree train/CLASS/*.png, validation/CLASS/*.png (data_scaling/make_cifar10_folder.py makes one)",
)

_CONFIGS = Path(__file__).parents[2] / "configs" / "self_supervised"
_PAPER = configs.load(f"{_CONFIGS / 'rotnet_cifar10.py'}:4").to_dict()
_PAPER_PROBE = configs.load(f"{_CONFIGS / 'rotnet_probe_cifar10.py'}:conv").to_dict()
_PAPER_TUNING = _PAPER_PROBE["optimizer"] | dict(learning_rate=0.01)  # our choice: the paper does not fine-tune

PRESETS = {
    "laptop": _CIFAR10._replace(
        title="shapes at 16 pixels",
        data=dict(
            name="shapes",
            options=dict(image_size=32, train=16_000, validation=2_000, test=1_000),
            split="train",
            host="decode|resize(16)",
            classes=10,
            examples=16_000,
        ),
        augment=_AUGMENT.format(16),
        model=_CIFAR10.model | dict(width=0.125),
        train=_QUIET | dict(total="200 steps"),
        validation="2,000 images",
        probe=_CIFAR10.probe | dict(train_subset=dict(examples=4_000)),
        labels=_CIFAR10.labels._replace(
            sizes=(100, 1_000),
            augment=_AUGMENT.format(16),
            train=_QUIET | dict(total="100 steps"),
            classifier=_CIFAR10.labels.classifier | dict(hidden=24),
        ),
        needs_dir="",
    ),
    "cifar10": _CIFAR10,
    # Half the width, all the pixels, and three times the steps: is the task itself learned?
    "cifar10_task": _CIFAR10._replace(
        title="CIFAR-10 at 32 pixels",
        data=_CIFAR10.data | dict(host="decode"),
        augment="random_crop(32, 4)|flip_lr|normalize(0.5, 0.5)",
        model=_CIFAR10.model | dict(width=0.5),
        train=_QUIET | dict(total="4_500 steps"),
        labels=_CIFAR10.labels._replace(sizes=()),
        angles=(),
        arms=("rotation", "random"),
        bar=0.75,
    ),
    # configs/self_supervised/rotnet_cifar10.py and rotnet_probe_cifar10.py, at the paper's batch of 128 images each.
    "paper": Preset(
        title="CIFAR-10",
        data={key: value for key, value in _PAPER["data"].items() if key not in ("batch_size", "data_dir")},
        augment=_PAPER["augment"],
        model=_PAPER["model"],
        optimizer=_PAPER["optimizer"],
        train=_PAPER["train"],
        batch_sizes=dict.fromkeys([*TASKS, *ANGLES], _PAPER["data"]["batch_size"]),
        validation="the test split",
        probe={key: value for key, value in _PAPER["evals"]["test"].items() if key != "layers"},
        val=_PAPER_PROBE["evals"]["test"],
        seeds=(0, 1, 2),
        angle_seeds=(0, 1, 2),
        labels=Labels(
            sizes=(200, 1_000, 4_000, 10_000, 50_000),
            batch_size=_PAPER_PROBE["data"]["batch_size"],
            augment=_PAPER_PROBE["augment"],
            train=_PAPER_PROBE["train"] | dict(total="39_100 steps"),  # 100 epochs of the whole set
            optimizers={
                "frozen": _PAPER_PROBE["optimizer"],
                "tuned": _PAPER_TUNING,
                "scratch": _PAPER_PROBE["optimizer"],
            },
            classifier={key: _PAPER_PROBE["task"][key] for key in ("layer", "classifier")},
        ),
    ),
}
