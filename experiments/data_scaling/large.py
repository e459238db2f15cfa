"""The presets at large scale: ImageNet, ImageNet-21k and JFT-300M, with the arms and the recipe of the paper."""

from jaxvision.commands.study import sibling

setting = sibling(__file__, "setting")
Arm, Lengths, Pair, Preset, Transfer = setting.Arm, setting.Lengths, setting.Pair, setting.Preset, setting.Transfer
FEWSHOT, SMALL_VIT = setting.FEWSHOT, setting.SMALL_VIT

# Dosovitskiy et al. 2021, table 3, pre-training on JFT: Adam with a weight decay of 0.1 for both families,
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
    "ViT-B32": Arm(dict(**_LARGE_VIT, variant="B/32"), 8e-4, SMALL_VIT),
    "BiT-R50x2": Arm(dict(name="bit", variant="R50x1", width=2), 1e-3, _SMALL_BIT),
    "ViT-B16": Arm(dict(**_LARGE_VIT, variant="B/16"), 8e-4, SMALL_VIT),
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
        fewshot=FEWSHOT | dict(data="imagenet2012", split="validation", train_split="train"),  # as in fig. 4
    ),
    arms=_LARGE_ARMS,
    pairs=_large_pairs(*_IMAGENET21K_SIZES),
    seeds=(0, 1, 2),
    steps=100_000,  # 29 epochs of the whole set
    support="that is fitted to images of ImageNet-2012, as in the paper",
    optimizer=_PAPER,
    train=_LARGE_TRAIN,
    rates=(3e-4, 1e-3, 3e-3),
    tuned_sizes=_IMAGENET21K_SIZES[::2],
    lengths=Lengths((3,), (14_000_000,), (0,)),
    transfer=_PETS,
)

_IMAGENET = Preset(
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
        fewshot=FEWSHOT | dict(data="oxford_iiit_pet", split="test", train_split="train"),
    ),
    arms=_LARGE_ARMS,
    pairs=_large_pairs(*_IMAGENET_SIZES),
    seeds=(0, 1, 2),
    steps=112_600,  # 90 epochs of the whole set
    support="that is fitted to images of Oxford-IIIT Pets",
    optimizer=_PAPER,
    train=_LARGE_TRAIN,
    rates=(3e-4, 1e-3, 3e-3),
    tuned_sizes=_IMAGENET_SIZES[::2],
    lengths=Lengths((3,), (1_268_355,), (0,)),
    transfer=_PETS,
)

# For those who have JFT-300M: prepared as the TFDS set `jft300m` with the split `train`, the sizes of fig. 4.
_JFT300M = _IMAGENET21K._replace(
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
    lengths=None,
    needs_dir="the folder of the TFDS set jft300m",
)

PRESETS = {"imagenet": _IMAGENET, "imagenet21k": _IMAGENET21K, "jft300m": _JFT300M}
