"""The sizes of the study: data, networks and budgets."""

from pathlib import Path
from typing import Any, NamedTuple

from jaxvision import config as configs

KINDS: dict[str, dict[str, Any]] = {  # options of `resnet`
    "plain": dict(shortcut="none"),
    "residual": dict(zero_init_residual=False),  # as in the paper; the shortcuts of the variants have no parameters
}


class Preset(NamedTuple):
    """One size of the study.

    Attributes:
      title: Name of the data, for captions.
      data, augment, optimizer, train, evals: Sections of the configs.
      depths: Numbers of layers, ascending; the criteria compare the last with the first.
      seeds: Seeds, each of which determines initialisation, order and augmentation.
      width: Factor of the channels of every layer.
      validation: Description of the images for evaluation.
      needs_dir: Data that --data_dir must name; empty if there is a default.
    """

    title: str
    data: dict[str, Any]
    augment: str
    optimizer: dict[str, Any]
    train: dict[str, Any]
    evals: dict[str, Any]
    depths: tuple[int, ...]
    seeds: tuple[int, ...]
    width: float
    validation: str
    needs_dir: str = ""


_PAPER = configs.load(f"{Path(__file__).parents[2] / 'configs' / 'supervised' / 'resnet_cifar10.py'}:20").to_dict()

# Small scale: 16 pixels. The recipe is the paper's; the rate falls at the same shares of the run.
_SMALL = Preset(
    title="CIFAR-10 at 16 pixels",
    data=dict(name="folder", split="train", host="decode|resize(16)", batch_size=128, classes=10, examples=45_000),
    augment=_PAPER["augment"].replace("random_crop(32, 4)", "random_crop(16, 2)"),
    optimizer=_PAPER["optimizer"] | dict(schedule="step('50 percent', '75 percent')"),
    train=dict(total="1_000 steps", log_every="10 percent", checkpoint_every="0 steps"),
    evals=dict(val=dict(name="classify", split="validation", batch_size=500)),
    depths=(20, 56),
    seeds=(0, 1, 2),
    width=1.0,
    validation="5,000 images of the training set that no run trains on",
    needs_dir="a folder tree train/CLASS/*.png, validation/CLASS/*.png (data_scaling/make_cifar10_folder.py makes one)",
)

PRESETS = {
    "laptop": _SMALL._replace(
        title="single objects of shapes at 16 pixels",
        data=dict(
            name="shapes",
            options=dict(image_size=32, train=5_000, validation=2_000, test=500, question="alone"),
            split="train",
            host="decode|resize(16)",
            batch_size=64,
            classes=5,
            examples=5_000,
        ),
        augment="normalize(0.5, 0.5)|random_crop(16, 2)|flip_lr",
        train=_SMALL.train | dict(total="200 steps"),
        width=0.5,
        validation="2,000 images",
        needs_dir="",
    ),
    "cifar10": _SMALL,
    # configs/supervised/resnet_cifar10.py without its warm-up, which only the net of 110 layers has.
    "paper": Preset(
        title="CIFAR-10",
        data={key: value for key, value in _PAPER["data"].items() if key != "data_dir"},
        augment=_PAPER["augment"],
        optimizer=_PAPER["optimizer"],
        train=_PAPER["train"] | dict(log_every="1 percent"),
        evals=dict(test=_PAPER["evals"]["test"]),
        depths=(20, 32, 44, 56),
        seeds=(0, 1, 2, 3, 4),
        width=1.0,
        validation="the test split",
    ),
}
