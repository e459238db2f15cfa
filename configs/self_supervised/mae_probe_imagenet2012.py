"""A linear classifier on a frozen ViT that MAE pretrained, behind BatchNorm, on ImageNet-2012.

Run:       jaxvision train --config=configs/self_supervised/mae_probe_imagenet2012.py --workdir=... \\
               --config.init.weights=WORKDIR
           where WORKDIR is a run of configs/self_supervised/mae_vit_b16_imagenet2012.py. From the authors' weights, as
           a .safetensors: --config.init.weights=FILE --config.init.source=timm --config.model.posemb=learned
Source:    He et al. 2022, arXiv 2111.06377, app. A.1, table 10: the class token, BatchNorm without scale and offset,
           LARS without weight decay, crops and flips only
Expected:  68.0 % top-1 on `validation` (ViT-B/16 of 1,600 epochs); 67.8 % with the authors' published code. Not run
           here
Cost:      about 4e18 FLOPs, of forward passes through the frozen ViT
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.optim.scaling import linear_scaling


def get_config():
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="imagenet2012",
        data_dir=placeholder(str),
        split="train",
        host="decode|random_resized_crop(224, method='bicubic')",
        batch_size=16_384,
        classes=1000,
        examples=1_281_167,
    )
    c.augment = "flip_lr|normalize_imagenet"
    c.model = dict(name="vit", variant="B/16", pool="token", posemb="sincos2d", gelu="exact")
    c.init = dict(weights="runs/mae", head="new", freeze="backbone")
    c.task = dict(name="probe", layer="features", norm=True)
    c.optimizer = dict(
        name="lars",
        learning_rate=linear_scaling(0.1, c.data.batch_size),
        weight_decay=0.0,
        schedule="cosine",
        warmup="10 epochs",
    )
    c.train = dict(total="90 epochs", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        val=dict(
            name="classify",
            split="validation",
            host="decode|resize_short(256, method='bicubic')|central_crop(224)",
            every="10 epochs",
        )
    )
    return c
