"""A ResNet-50 that learns the predictions of a fine-tuned SimCLRv2 network on all of ImageNet, without its labels.

Run:       jaxvision train --config=configs/self_supervised/simclr_distill_imagenet2012.py:self --workdir=... \\
               --config.init.weights=WORKDIR
           where WORKDIR is a run of configs/self_supervised/simclr_finetune_imagenet2012.py:v2_1percent (or
           :v2_10percent). For :wide, a run pretrained and fine-tuned with model.width=2
Source:    Chen et al. 2020b (SimCLRv2), arXiv 2006.10029, sec. 2, eq. 2, and sec. 3.1: temperature 0.1 for a teacher of
           the student's size (:self), 1.0 for a larger one (:wide), 400 epochs, crops and flips only
Expected:  not published for these teachers. From a ResNet-152, three times as wide and with selective kernels, which
           this project does not have: 73.9 % top-1 on `validation` with 1 % of the labels, 77.5 % with 10 %
Cost:      1.7e19 FLOPs with the teacher of the student's size
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown
from jaxvision.optim.scaling import sqrt_scaling

ARGS = ("self", "wide")


def get_config(arg="self"):
    if arg not in ARGS:
        raise unknown("argument of simclr_distill_imagenet2012.py", arg, ARGS)
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="imagenet2012",
        data_dir=placeholder(str),
        split="train",
        host="decode|random_resized_crop(224)",
        batch_size=4096,
        classes=1000,
        examples=1_281_167,
    )
    c.augment = "flip_lr"
    c.model = dict(name="resnet", variant="50")
    c.task = dict(
        name="distill",
        teacher=dict(name="resnet", variant="50", width=1 if arg == "self" else 2, projection_layers=1),
        temperature=0.1 if arg == "self" else 1.0,
        alpha=1.0,
    )
    c.init = dict(weights="runs/simclr_finetuned", part="teacher")
    c.optimizer = dict(
        name="lars",
        learning_rate=sqrt_scaling(0.1, c.data.batch_size),
        weight_decay=1e-4,
        decay_rules=(("^head/", 0.0), ("kernel$", 1.0), (".*", 0.0)),
        schedule="cosine",
        warmup="5 percent",
    )
    c.train = dict(total="400 epochs", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        val=dict(
            name="classify",
            split="validation",
            host="decode|resize_short(256)|central_crop(224)",
            augment="none",
            every="10 epochs",
        )
    )
    return c
