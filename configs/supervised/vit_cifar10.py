"""ViT on CIFAR-10 from scratch: Ti/4 for 300 epochs, or a small ViT with patches of 8 pixels for 10 epochs.

Run:       jaxvision train --config=configs/supervised/vit_cifar10.py:tiny --workdir=...
           From a folder tree (see experiments/data_scaling/make_cifar10_folder.py), without TFDS:
           --config=configs/supervised/vit_cifar10.py:small,folder --config.data.data_dir=DIR
Source:    :tiny takes DeiT's recipe (Touvron et al. 2021, arXiv 2012.12877, table 9), without erasing and
           repeated augmentation; :small is a plain recipe for a short run on a CPU
Expected:  :small 56.1 % on validation, measured here (docs/reproducing.md); nothing is published for :tiny
Cost:      :tiny 2.9e16 FLOPs; :small under ten minutes on two CPU cores
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown

ARGS = ("tiny", "small", "tiny,folder", "small,folder")
NORMALIZE = "normalize((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))"


def get_config(arg="tiny"):
    if arg not in ARGS:
        raise unknown("argument of vit_cifar10.py", arg, ARGS)
    size, _, folder = arg.partition(",")
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="folder" if folder else "cifar10",
        data_dir=placeholder(str),
        split="train" if folder else "train[:45000]",
        batch_size=512,
        classes=10,
        examples=45_000,
        image_size=32,
    )
    c.augment = f"random_crop(32, 4)|flip_lr|randaugment(2, 9, std=0.5, p=0.5)|mixup_or_cutmix(0.8, 1.0)|{NORMALIZE}"
    c.model = dict(name="vit", variant="Ti/4", pool="gap", posemb="sincos2d", drop_path=0.1)
    c.task = dict(name="supervised", label_smoothing=0.1)
    c.optimizer = dict(
        name="adamw",
        learning_rate=1e-3,
        weight_decay=0.05,
        clip_norm=1.0,
        schedule="cosine",
        warmup="10 epochs",
    )
    c.train = dict(total="300 epochs", precision="float32")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(val=dict(name="classify", split="validation" if folder else "train[45000:]", every="5 percent"))
    if not folder:
        c.evals.test = dict(name="classify", split="test")

    if size == "small":
        c.data.batch_size = 128
        c.augment = f"random_crop(32, 4)|flip_lr|{NORMALIZE}"
        c.model.update(variant="Ti/8", width=64, depth=4, num_heads=4, drop_path=0.0)
        c.task.label_smoothing = 0.0
        c.optimizer.update(warmup="1 epoch")
        c.train.total = "10 epochs"
        c.evals.val.every = "1 epoch"
    return c
