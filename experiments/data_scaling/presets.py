"""The sizes of the study: data, arms, budgets and measures."""

from typing import Any, NamedTuple

from jaxvision.commands.study import sibling

relations = sibling(__file__, "relations")

SHOTS = (1, 5, 10, 25)
TUNING_SEED = 100  # not a reported seed


class Arm(NamedTuple):
    """One architecture and its learning rate; `small` holds options that make it small enough for smoke tests."""

    model: dict[str, Any]
    learning_rate: float
    small: dict[str, Any]


class Pair(NamedTuple):
    """A ResNet and a ViT, compared at these numbers of examples; `matched` if they cost about the same."""

    resnet: str
    vit: str
    sizes: tuple[int, ...]
    matched: bool = True


class Transfer(NamedTuple):
    """Fine-tuning to another task: SGD with momentum 0.9, cosine decay, clipping at 1 (table 4 of the paper)."""

    title: str
    data: dict[str, Any]
    augment: str
    validation: str
    steps: int
    learning_rate: float


class Preset(NamedTuple):
    """One size of the study.

    Attributes:
      title: Name of the data, for captions.
      data: Section `data` of the configs, without subset; `examples` is the size of the whole set.
      evals: Section `evals` of the configs; all criteria use `val`.
      arms: Arms by name.
      pairs: Pairs that are compared; the first one also has the tuned, long and transfer runs.
      seeds: Seeds, each of which determines subset, initialisation and order.
      steps: Number of steps of every run, at every size.
      support: Description of the images that few-shot accuracy is fitted to; empty if it is not measured.
      optimizer: Section `optimizer`, without the learning rate of the arm.
      train: Section `train`, without the length.
      transfer: Task to which the runs of the largest size, and the same networks from random weights, are fine-tuned;
        None for no such runs.
      augment: Augmentation of training; at small scale only the scaling of pixels.
      measures: Evaluations of the finished runs that are not in `evals`.
      rates: Learning rates of the sweep, for both arms at `tuned_sizes`.
      long: Factor by which the steps of the long schedule are multiplied, at the largest size, for `long_seeds`.
      needs_dir: Data that --data_dir must name; empty if there is a default.
      crosses: True for a constructed crossing, whose criteria are those of relations.py.
    """

    title: str
    data: dict[str, Any]
    evals: dict[str, Any]
    arms: dict[str, Arm]
    pairs: tuple[Pair, ...]
    seeds: tuple[int, ...]
    steps: int
    support: str
    optimizer: dict[str, Any]
    train: dict[str, Any]
    transfer: Transfer | None
    augment: str = "normalize(0.5, 0.5)"
    measures: dict[str, Any] = {}
    rates: tuple[float, ...] = ()
    tuned_sizes: tuple[int, ...] = ()
    long: int = 0
    long_seeds: tuple[int, ...] = ()
    needs_dir: str = ""
    crosses: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Training examples of the first pair, ascending; each subset is part of the next."""
        return self.pairs[0].sizes


_FEWSHOT = dict(name="fewshot", shots=SHOTS, l2=1024.0, draws=3)

# Small scale: images of 16 pixels, so that a run takes a minute on two cores. One learning rate for all.
_ADAM = dict(name="adamw", weight_decay=0.1, clip_norm=1.0, schedule="cosine", warmup="5 percent")
_TRAIN = dict(log_every="5 percent", checkpoint_every="0 steps")
_VIT = dict(name="vit", variant="Ti/4", depth=4, pool="token", posemb="learned")
_SMALL_VIT = dict(width=16, depth=1, mlp_dim=32, num_heads=2)
_SMALL_RESNET = dict(width=0.25)
_ARMS = {
    "ResNet-8": Arm(dict(name="resnet", variant="8", zero_init_residual=False), 1e-3, _SMALL_RESNET),
    "ViT-64": Arm(dict(**_VIT, width=64, mlp_dim=256, num_heads=2), 1e-3, _SMALL_VIT),
    "ResNet-20": Arm(dict(name="resnet", variant="20", zero_init_residual=False), 1e-3, _SMALL_RESNET),
    "ViT-112": Arm(dict(**_VIT, width=112, mlp_dim=448, num_heads=4), 1e-3, _SMALL_VIT),
}
_SHAPES = dict(name="shapes", host="decode|resize(16)", batch_size=32, classes=10)
_LAPTOP_SHAPES = dict(image_size=32, train=16_000, validation=2_000, test=1_000)
_NEGATIVES = Transfer(
    title="500 other images of shapes in negative grey",
    data=dict(**_SHAPES, options=_LAPTOP_SHAPES, split="test[:500]", examples=500),
    augment="grayscale|invert|normalize(0.5, 0.5)",
    validation="validation",
    steps=200,
    learning_rate=0.01,
)

# Large scale: Dosovitskiy et al. 2021, table 3, pre-training on JFT: Adam with a weight decay of 0.1 for both families,
# no dropout, linear decay after 10,000 steps of warm-up; ViT-B 8e-4, ResNet-50 1e-3. Pairs of their table 6: 50 and 55
# exaFLOPs, 199 and 224.
_PAPER = dict(
    name="adamw", weight_decay=0.1, clip_norm=1.0, mu_dtype="bfloat16", schedule="linear", warmup="10_000 steps"
)
_LARGE_TRAIN = dict(precision="bfloat16", log_every="1 percent", checkpoint_every="5 percent")
_CROP = "decode|random_resized_crop(224, area=(0.05, 1.0))"
_FLIPS = "flip_lr|normalize(0.5, 0.5)"
_SMALL_BIT = dict(blocks=(1, 1), width=0.5)
_LARGE_VIT = dict(name="vit", pool="token", posemb="learned")
_LARGE_ARMS = {
    "BiT-R50x1": Arm(dict(name="bit", variant="R50x1"), 1e-3, _SMALL_BIT),
    "ViT-B32": Arm(dict(**_LARGE_VIT, variant="B/32"), 8e-4, _SMALL_VIT),
    "BiT-R50x2": Arm(dict(name="bit", variant="R50x1", width=2), 1e-3, _SMALL_BIT),
    "ViT-B16": Arm(dict(**_LARGE_VIT, variant="B/16"), 8e-4, _SMALL_VIT),
}
_PETS = Transfer(
    title="Oxford-IIIT Pets",
    data=dict(name="oxford_iiit_pet", split="train", batch_size=512, host=_CROP, classes=37, examples=3_680),
    augment=_FLIPS,
    validation="test",
    steps=500,
    learning_rate=0.01,
)


def _large_pairs(*sizes: int) -> tuple[Pair, ...]:
    return Pair("BiT-R50x1", "ViT-B32", sizes), Pair("BiT-R50x2", "ViT-B16", sizes)


_IMAGENET_SIZES = (115_000, 210_000, 384_000, 700_000, 1_268_355)  # 9 % to 100 %
_IMAGENET21K_SIZES = (1_300_000, 2_400_000, 4_300_000, 7_800_000, 14_000_000)
_IMAGENET21K = Preset(
    title="ImageNet-21k",
    data=dict(
        name="imagenet21k",
        split="full[51200:]",
        batch_size=4_096,
        host=_CROP,
        classes=21_843,
        examples=14_145_922,
    ),
    augment=_FLIPS,
    evals=dict(
        val=dict(name="classify", split="full[25600:51200]", every="10 percent"),
        test=dict(name="classify", split="full[:25600]"),
        fewshot=_FEWSHOT | dict(data="imagenet2012", split="validation", train_split="train"),  # as in fig. 4
    ),
    arms=_LARGE_ARMS,
    pairs=_large_pairs(*_IMAGENET21K_SIZES),
    seeds=(0, 1, 2),
    steps=100_000,  # 29 epochs of the whole set
    support="of ImageNet-2012, as in the paper",
    optimizer=_PAPER,
    train=_LARGE_TRAIN,
    rates=(3e-4, 1e-3, 3e-3),
    tuned_sizes=_IMAGENET21K_SIZES[::2],
    long=3,
    long_seeds=(0,),
    transfer=_PETS,
)

_CIFAR10 = Preset(
    title="CIFAR-10 at 16 pixels",
    data=dict(name="folder", split="train", batch_size=128, host="decode|resize(16)", classes=10, examples=45_000),
    evals=dict(val=dict(name="classify", split="validation", every="10 percent", batch_size=500)),
    measures=dict(fewshot=_FEWSHOT | dict(split="validation", train_split="train", batch_size=500)),
    arms=_ARMS,
    pairs=(Pair("ResNet-8", "ViT-64", (400, 1_300, 4_200, 14_000, 45_000)),),
    seeds=(0, 1, 2),
    steps=2_000,
    support="of the training split, so that the larger subsets hold some of them",
    optimizer=_ADAM,
    train=_TRAIN,
    rates=(1e-3, 3e-3, 1e-2),
    tuned_sizes=(400, 45_000),
    long=4,
    long_seeds=(0,),
    transfer=_NEGATIVES._replace(title="500 images of shapes", augment="normalize(0.5, 0.5)"),
    needs_dir="a folder tree train/CLASS/*.png, validation/CLASS/*.png (make_cifar10_folder.py makes one)",
)

PRESETS = {
    "laptop": Preset(
        title="shapes at 16 pixels",
        data=dict(**_SHAPES, options=_LAPTOP_SHAPES, split="train", examples=16_000),
        evals=dict(
            val=dict(name="classify", split="validation", every="10 percent", batch_size=500),
            fewshot=_FEWSHOT | dict(split="validation", train_split="test", batch_size=500),  # no run trains on it
        ),
        arms=_ARMS,
        pairs=(Pair("ResNet-8", "ViT-64", (250, 2_000, 16_000)),),
        seeds=(0, 1, 2),
        steps=1_000,
        support="of the test split, which no run trains on",
        optimizer=_ADAM,
        train=_TRAIN,
        transfer=_NEGATIVES._replace(steps=100),
    ),
    "cifar10": _CIFAR10,
    # In the same --out it reuses the runs of `cifar10`.
    "cifar10_large": _CIFAR10._replace(
        pairs=(
            *_CIFAR10.pairs,
            Pair("ResNet-20", "ViT-112", (400, 4_200, 45_000)),
            Pair("ResNet-8", "ViT-112", (400, 4_200, 45_000), matched=False),
        ),
    ),
    "imagenet": Preset(
        title="ImageNet-2012",
        data=dict(
            name="imagenet2012",
            split="train[:99%]",
            batch_size=1_024,
            host=_CROP,
            classes=1_000,
            examples=1_268_355,
        ),
        augment=_FLIPS,
        evals=dict(
            val=dict(name="classify", split="train[99%:]", every="10 percent"),
            test=dict(name="classify", split="validation"),
            fewshot=_FEWSHOT | dict(data="oxford_iiit_pet", split="test", train_split="train"),
        ),
        arms=_LARGE_ARMS,
        pairs=_large_pairs(*_IMAGENET_SIZES),
        seeds=(0, 1, 2),
        steps=112_600,  # 90 epochs of the whole set
        support="of Oxford-IIIT Pets",
        optimizer=_PAPER,
        train=_LARGE_TRAIN,
        rates=(3e-4, 1e-3, 3e-3),
        tuned_sizes=_IMAGENET_SIZES[::2],
        long=3,
        long_seeds=(0,),
        transfer=_PETS,
    ),
    "imagenet21k": _IMAGENET21K,
    # For those who have JFT-300M: prepared as the TFDS set `jft300m` with the split `train`, the sizes of fig. 4.
    "jft300m": _IMAGENET21K._replace(
        title="JFT-300M",
        data=_IMAGENET21K.data | dict(name="jft300m", split="train[51200:]", classes=18_291, examples=303_000_000),
        evals=_IMAGENET21K.evals
        | dict(
            val=dict(name="classify", split="train[25600:51200]", every="10 percent"),
            test=dict(name="classify", split="train[:25600]"),
        ),
        pairs=_large_pairs(9_000_000, 30_000_000, 90_000_000, 302_900_000),
        steps=518_000,  # 7 epochs of the whole set
        rates=(),
        tuned_sizes=(),
        long=0,
        long_seeds=(),
        needs_dir="the folder of the TFDS set jft300m",
    ),
}
PRESETS["relations"] = relations.preset(PRESETS["laptop"])
