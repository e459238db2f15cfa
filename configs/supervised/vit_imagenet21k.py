"""ViT on ImageNet-21k, 300 epochs: pretraining with augmentation matched to the model's size.

Run:       jaxvision train --config=configs/supervised/vit_imagenet21k.py:B/16 --workdir=...
           The set is not in TFDS's catalogue: prepare a TFDS builder `imagenet21k` with one split, `full`.
Source:    Steiner et al. 2022 (AugReg), arXiv 2106.10270, fig. 4; public config: big_vision, vit_i21k.py
Expected:  B/16: 84.0 % top-1 on ImageNet-2012 after fine-tuning at 224 pixels (Scenic, baselines)
Cost:      B/16: 4.5e20 FLOPs, 5 days on 8 A100 at 40 % utilisation
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown

NONE = ""
LIGHT1 = "|randaugment(2, 0, variant='reference')"  # magnitude 0 still changes images, see randaugment
LIGHT2 = "|randaugment(2, 10, variant='reference')|mixup(0.2)"
MEDIUM2 = "|randaugment(2, 15, variant='reference')|mixup(0.5)"
AUGMENT = {"Ti/16": NONE, "S/32": NONE, "S/16": LIGHT1, "B/32": LIGHT2, "B/16": LIGHT2, "L/16": MEDIUM2}
ARGS = tuple(AUGMENT)


def get_config(arg="B/16"):
    if arg not in ARGS:
        raise unknown("argument of vit_imagenet21k.py", arg, ARGS)
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="imagenet21k",
        data_dir=placeholder(str),
        split="full[51200:]",
        host="decode|random_resized_crop(224, area=(0.05, 1.0))",
        batch_size=4096,
        classes=21_843,
        examples=14_145_922,
    )
    c.augment = f"flip_lr{AUGMENT[arg]}|normalize(0.5, 0.5)"
    c.model = dict(name="vit", variant=arg, pool="gap", posemb="learned", head_bias=-10.0)
    c.task = dict(name="supervised", loss="sigmoid_cross_entropy")
    c.optimizer = dict(
        name="adamw",
        learning_rate=1e-3,
        weight_decay=0.1,  # 1e-4 in big_vision, which does not multiply it by the learning rate
        clip_norm=1.0,
        mu_dtype="bfloat16",
        schedule="cosine",
        warmup="10_000 steps",
    )
    c.train = dict(total="300 epochs", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        val=dict(name="classify", split="full[25600:51200]", every="5 epochs"),
        test=dict(name="classify", split="full[:25600]"),
    )
    return c
