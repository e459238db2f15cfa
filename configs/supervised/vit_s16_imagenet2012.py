"""ViT-S/16 on ImageNet-2012, 90 epochs: the plain baseline.

Run:       jaxvision train --config=configs/supervised/vit_s16_imagenet2012.py --workdir=...
           (for 300 epochs: --config.train.total="300 epochs")
Source:    Beyer, Zhai, Kolesnikov 2022, arXiv 2205.01580, table 1; public config: big_vision, vit_s16_i1k.py
Expected:  76.7 % top-1 on `val` with a linear head, as here (76.5 % with the paper's MLP head); 80.0 % after 300 epochs
Cost:      6 to 7 hours on a TPU v3-8
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config():
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="imagenet2012",
        data_dir=placeholder(str),
        split="train[:99%]",
        host="decode|random_resized_crop(224, area=(0.05, 1.0))",
        batch_size=1024,
        classes=1000,
        examples=1_268_355,
    )
    c.augment = "flip_lr|randaugment(2, 10, variant='reference')|mixup(0.2)|normalize(0.5, 0.5)"
    c.model = dict(name="vit", variant="S/16", pool="gap", posemb="sincos2d")
    c.task = dict(name="supervised", loss="softmax_cross_entropy")
    c.optimizer = dict(
        name="adamw",
        learning_rate=1e-3,
        weight_decay=0.1,  # 1e-4 in big_vision, which does not multiply it by the learning rate
        clip_norm=1.0,
        mu_dtype="bfloat16",
        schedule="cosine",
        warmup="10_000 steps",
    )
    c.train = dict(total="90 epochs", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        minival=dict(name="classify", split="train[99%:]", every="5 epochs"),
        val=dict(name="classify", split="validation"),
    )
    return c
