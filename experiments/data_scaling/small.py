"""The presets at small scale: images of 16 pixels, so that a run takes a minute or so on two cores.

The arms are those of the paper in small: BiT's ResNets (GroupNorm, weight standardisation) and ViTs. Beside them are
the ResNets with BatchNorm that CIFAR is usually trained with. All arms of a preset have the same recipe: the paper's
Adam with weight decay 0.1 and one learning rate, crops and flips.
"""

from jaxvision.commands.study import sibling

setting = sibling(__file__, "setting")
Arm, Lengths, Pair, Preset, Transfer = setting.Arm, setting.Lengths, setting.Pair, setting.Preset, setting.Transfer
FEWSHOT, PLAIN, SMALL_VIT = setting.FEWSHOT, setting.PLAIN, setting.SMALL_VIT

ADAM = dict(name="adamw", weight_decay=0.1, clip_norm=1.0, schedule="cosine", warmup="5 percent")
LEARNING_RATE = 1e-3
TRAIN = dict(log_every="5 percent", checkpoint_every="0 steps")
CROP_AND_FLIP = f"random_crop(16, 2)|flip_lr|{PLAIN}"
# Learns faster than with the paper's class token and learned positions: Beyer et al. 2022, arXiv 2205.01580.
_VIT = dict(name="vit", variant="Ti/4", depth=4, pool="gap", posemb="sincos2d")
_SMALL_RESNET = dict(width=0.25)
ARMS = {
    "BiT-8": Arm(dict(name="bit", variant="R8x1"), LEARNING_RATE, _SMALL_RESNET),
    "ResNet-8": Arm(dict(name="resnet", variant="8", zero_init_residual=False), LEARNING_RATE, _SMALL_RESNET),
    "ViT-64": Arm(dict(**_VIT, width=64, mlp_dim=256, num_heads=2), LEARNING_RATE, SMALL_VIT),
    "BiT-20": Arm(dict(name="bit", variant="R20x1"), LEARNING_RATE, _SMALL_RESNET),
    "ResNet-20": Arm(dict(name="resnet", variant="20", zero_init_residual=False), LEARNING_RATE, _SMALL_RESNET),
    "ViT-112": Arm(dict(**_VIT, width=112, mlp_dim=448, num_heads=4), LEARNING_RATE, SMALL_VIT),
}

# One object that fills the frame: with several, as many steps leave the ViT near chance.
_OBJECTS = dict(image_size=32, train=5_000, validation=2_000, test=500, question="alone")
_LAPTOP_SIZES = (200, 1_000, 5_000)
_LAPTOP = Preset(
    title="single objects of shapes at 16 pixels",
    data=dict(
        name="shapes",
        options=_OBJECTS,
        split="train",
        batch_size=64,
        host="decode|resize(16)",
        classes=5,
        examples=5_000,
    ),
    evals=dict(val=dict(name="classify", split="validation", every="20 percent", batch_size=500)),
    arms=ARMS,
    pairs=(Pair("BiT-8", "ViT-64", _LAPTOP_SIZES), Pair("ResNet-8", "ViT-64", _LAPTOP_SIZES[::2])),
    families=(("BiT-8", "ResNet-8"),),
    seeds=(0, 1, 2),
    steps=900,
    optimizer=ADAM,
    train=TRAIN,
    augment=CROP_AND_FLIP,
    seen=2_000,
)

_SIZES = (400, 1_300, 4_200, 14_000, 45_000)
_CIFAR10 = Preset(
    title="CIFAR-10 at 16 pixels",
    data=dict(name="folder", split="train", batch_size=128, host="decode|resize(16)", classes=10, examples=45_000),
    evals=dict(val=dict(name="classify", split="validation", every="10 percent", batch_size=500)),
    measures=dict(fewshot=FEWSHOT | dict(split="validation", train_split="train", batch_size=500)),
    arms=ARMS,
    pairs=(Pair("BiT-8", "ViT-64", _SIZES), Pair("ResNet-8", "ViT-64", _SIZES)),
    families=(("BiT-8", "ResNet-8"),),
    seeds=(0, 1, 2),
    steps=2_000,
    support="that is fitted to images of the training split, so that the larger subsets hold some of them",
    optimizer=ADAM,
    train=TRAIN,
    augment=CROP_AND_FLIP,
    rates=(1e-3, 3e-3, 1e-2),
    tuned_sizes=(400, 45_000),
    plain_sizes=(400, 4_200, 45_000),
    lengths=Lengths((0.25, 4), (400, 4_200, 45_000), (0,)),
    transfer=Transfer(
        title="500 images of shapes",
        data=dict(
            name="shapes",
            options=dict(image_size=32, train=16_000, validation=2_000, test=1_000),
            split="test[:500]",
            batch_size=32,
            host="decode|resize(16)",
            classes=10,
            examples=500,
        ),
        augment=PLAIN,
        validation="validation",
        steps=200,
        learning_rate=0.01,
    ),
    needs_dir="a folder tree train/CLASS/*.png, validation/CLASS/*.png (make_cifar10_folder.py makes one)",
)
_FEW_SIZES = _SIZES[::2]
# In the same --out it reuses the runs of `cifar10`.
_CIFAR10_LARGE = _CIFAR10._replace(
    pairs=(
        *_CIFAR10.pairs,
        Pair("BiT-20", "ViT-112", _FEW_SIZES),
        Pair("ResNet-20", "ViT-112", _FEW_SIZES),
        Pair("BiT-8", "ViT-112", _FEW_SIZES, matched=False),
    ),
    families=(("BiT-8", "ResNet-8"), ("BiT-20", "ResNet-20")),
)

PRESETS = {"laptop": _LAPTOP, "cifar10": _CIFAR10, "cifar10_large": _CIFAR10_LARGE}
