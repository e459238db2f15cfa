"""SimCLR with a ViT-S/16 on ImageNet-2012, 300 epochs.

Run:       jaxvision train --config=configs/self_supervised/simclr_vit_s16_imagenet2012.py --workdir=...
Source:    Chen, Xie, He 2021 (MoCo v3), arXiv 2104.02057, sec. 4 to 6, table 4: batch, schedule, fixed positions and
           patch embedding. They swept learning rate and weight decay for SimCLR and do not give the best values: both,
           and the head, are those of MoCo v3, whose ViT-S has 12 heads; the temperature is that of SimCLR (arXiv
           2002.05709)
Expected:  69.0 % top-1 on `validation` of a linear classifier
Cost:      about 2.1e19 FLOPs
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
        host="decode|resize_short(256)|random_crop(256)",
        batch_size=4096,
        classes=1000,
        examples=1_281_167,
    )
    c.augment = (
        "views(2, 'random_resized_crop(224)|flip_lr|color_jitter(0.8, 0.8, 0.8, 0.2, p=0.8)|grayscale(0.2)"
        "|gaussian_blur(p=0.5)')|normalize_imagenet"
    )
    c.model = dict(name="vit", variant="S/16", num_heads=12, pool="token", posemb="sincos2d")
    c.task = dict(name="simclr", temperature=0.1, projection_layers=3, projection_dim=256, projection_hidden=4096)
    c.optimizer = dict(
        name="adamw",
        learning_rate=linear_scaling(1.5e-4, c.data.batch_size),
        weight_decay=0.1,
        freeze=(("^embedding/", True), (".*", False)),  # against the instability of their sec. 4
        schedule="cosine",
        warmup="40 epochs",
    )
    c.train = dict(total="300 epochs", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        knn=dict(
            name="knn",
            split="validation",
            train_split="train",
            train_subset=dict(examples=128_000, seed=0),
            host="decode|resize_short(256)|central_crop(224)",
            augment="normalize_imagenet",
            every="10 epochs",
        )
    )
    return c
