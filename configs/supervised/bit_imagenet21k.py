"""BiT-M: ResNet v2 with GroupNorm and weight standardisation on ImageNet-21k, 90 epochs.

Run:       jaxvision train --config=configs/supervised/bit_imagenet21k.py:R50x1 --workdir=...
           The set is not in TFDS's catalogue: prepare a TFDS builder `imagenet21k` with one split, `full`.
Source:    Kolesnikov et al. 2020, arXiv 1912.11370, sec. 3.2; the paper does not give loss and splits;
           they are those of big_vision, bit_i21k.py
Expected:  R152x4: 85.4 % top-1 on ImageNet-2012 after fine-tuning (table 2)
Cost:      R50x1: 3.3e19 FLOPs, 9 hours on 8 A100 at 40 % utilisation; R152x4 took the authors a TPU v3-512
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown

ARGS = ("R50x1", "R50x3", "R101x1", "R101x3", "R152x4")


def get_config(arg="R50x1"):
    if arg not in ARGS:
        raise unknown("argument of bit_imagenet21k.py", arg, ARGS)
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
    c.augment = "flip_lr|normalize(0.5, 0.5)"
    c.model = dict(name="bit", variant=arg, head_bias=-10.0)
    c.task = dict(name="supervised", loss="sigmoid_cross_entropy")
    c.optimizer = dict(
        name="sgd",
        learning_rate=0.03 * 4096 / 256,
        momentum=0.9,
        weight_decay=1e-4,
        clip_norm=1.0,
        schedule="step('30 epochs', '60 epochs', '80 epochs')",
        warmup="5000 steps",
    )
    c.train = dict(total="90 epochs", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        val=dict(name="classify", split="full[25600:51200]", every="5 epochs"),
        test=dict(name="classify", split="full[:25600]"),
    )
    return c
