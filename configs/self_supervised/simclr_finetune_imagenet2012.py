"""A ResNet-50 pretrained by SimCLR, fine-tuned on 1 % or 10 % of ImageNet's labels.

Run:       jaxvision train --config=configs/self_supervised/simclr_finetune_imagenet2012.py:1percent --workdir=... \\
               --config.init.weights=WORKDIR
           where WORKDIR is a run of configs/self_supervised/simclr_resnet50_imagenet2012.py:1000; for :v2_1percent and
           :v2_10percent a run of ...:v2
Source:    Chen et al. 2020, arXiv 2002.05709, app. B.5; :v2_* is Chen et al. 2020b, arXiv 2006.10029, sec. 2 and 3.1:
           from the first layer of the head, with another learning rate and batch size, and LARS as in the authors'
           README. The labelled images are those of the papers. The papers do not state a schedule: the cosine is from
           the code
Expected:  top-1 on `validation`: 48.3 % (1 %), 65.6 % (10 %); :v2_* 57.9 % and 68.4 %
Cost:      1 %: 1.9e16 FLOPs; 10 %: 9.5e16
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown
from jaxvision.optim.scaling import linear_scaling, sqrt_scaling

ARGS = ("1percent", "10percent", "v2_1percent", "v2_10percent")


def get_config(arg="1percent"):
    if arg not in ARGS:
        raise unknown("argument of simclr_finetune_imagenet2012.py", arg, ARGS)
    v2, one = arg.startswith("v2_"), arg.endswith("_1percent") or arg == "1percent"
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="imagenet2012_subset/1pct" if one else "imagenet2012_subset/10pct",
        data_dir=placeholder(str),
        split="train",
        host="decode|random_resized_crop(224)",
        batch_size=1024 if v2 else 4096,
        classes=1000,
        examples=12_811 if one else 128_116,
    )
    c.augment = "flip_lr"
    c.model = dict(name="resnet", variant="50", head_init="zeros", projection_layers=1 if v2 else 0)
    c.init = dict(weights="runs/simclr", head="new")
    c.task = dict(name="supervised")
    if v2:
        c.optimizer = dict(
            name="lars",
            learning_rate=sqrt_scaling(0.005, c.data.batch_size),
            # No weight decay. As in the authors' code, LARS does not rescale the new head, which starts at norm 0.
            decay_rules=(("^head/", 0.0), ("kernel$", 1.0), (".*", 0.0)),
            schedule="cosine",
        )
    else:
        c.optimizer = dict(
            name="sgd",
            learning_rate=linear_scaling(0.05, c.data.batch_size),
            momentum=0.9,
            nesterov=True,
            schedule="cosine",
        )
    c.train = dict(total="60 epochs" if one else "30 epochs", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        val=dict(
            name="classify",
            split="validation",
            host="decode|resize(256)|central_crop(224)",  # both sides, as in app. B.5
            every="10 epochs",
        )
    )
    return c
