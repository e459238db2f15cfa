"""A ResNet-18 pretrained by SimCLR on CIFAR-10 without labels, fine-tuned on 4 to 400 labels per class.

Run:       jaxvision train --config=configs/self_supervised/simclr_finetune_cifar10.py:25 --workdir=... \\
               --config.init.weights=WORKDIR
           where WORKDIR is a run of configs/self_supervised/simclr_resnet18_cifar10.py. For another choice of
           images: --config.data.subset.seed=1
Source:    Chen et al. 2020, arXiv 2002.05709, app. B.5: crops and flips only, no weight decay, learning rate 0.05 x
           batch / 256. Batch size and length are our choice, because an epoch of 40 images is too short a unit
Expected:  not published for this network; on 1 % and 10 % of ImageNet see simclr_finetune_imagenet2012.py
Cost:      1,000 steps of 64 images: 2.1e14 FLOPs
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown
from jaxvision.optim.scaling import linear_scaling

ARGS = ("25", "4", "100", "400")


def get_config(arg="25"):
    if arg not in ARGS:
        raise unknown("argument of simclr_finetune_cifar10.py", arg, ARGS)
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="cifar10",
        data_dir=placeholder(str),
        split="train",
        subset=dict(per_class=int(arg), seed=0),
        batch_size=64,
        classes=10,
        examples=50_000,
        image_size=32,
    )
    c.augment = "random_resized_crop(32)|flip_lr"
    c.model = dict(name="resnet", variant="18", stem="cifar", head_init="zeros")
    c.init = dict(weights="runs/simclr", head="new")
    c.task = dict(name="supervised")
    c.optimizer = dict(
        name="sgd",
        learning_rate=linear_scaling(0.05, c.data.batch_size),
        momentum=0.9,
        nesterov=True,
        schedule="cosine",
    )
    c.train = dict(total="1_000 steps", precision="float32")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(test=dict(name="classify", split="test"))
    return c
