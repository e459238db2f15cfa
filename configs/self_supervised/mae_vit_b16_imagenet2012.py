"""MAE with a ViT-B/16 on ImageNet-2012, 1,600 epochs.

Run:       jaxvision train --config=configs/self_supervised/mae_vit_b16_imagenet2012.py --workdir=...
           Shorter: --config.train.total="800 epochs"; larger: --config.model.variant=L/16
Source:    He et al. 2022, arXiv 2111.06377, app. A.1, table 8, and the authors' code (github.com/facebookresearch/mae).
           Their fixed positions have the frequencies 10,000 ** -(4 i / d); those of the encoder here end at 1 / 10,000
Expected:  83.6 % top-1 on `validation` after fine-tuning (table 3; mae_finetune_imagenet2012.py), 68.0 % with a linear
           classifier (authors' FINETUNE.md; mae_probe_imagenet2012.py). Not run here
Cost:      about 1.2e20 FLOPs, half of them in the decoder
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
        host="decode|random_resized_crop(224, (0.2, 1.0), method='bicubic')",
        batch_size=4096,
        classes=1000,
        examples=1_281_167,
    )
    c.augment = "flip_lr|normalize_imagenet"
    c.model = dict(name="vit", variant="B/16", pool="token", posemb="sincos2d", gelu="exact")
    c.task = dict(name="mae", ratio=0.75, decoder_width=512, decoder_depth=8, decoder_heads=16, normalized=True)
    c.optimizer = dict(
        name="adamw",
        learning_rate=linear_scaling(1.5e-4, c.data.batch_size),
        weight_decay=0.05,
        b2=0.95,
        schedule="cosine",
        warmup="40 epochs",
    )
    c.train = dict(total="1600 epochs", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        knn=dict(
            name="knn",
            split="validation",
            train_split="train",
            train_subset=dict(examples=128_000, seed=0),
            host="decode|resize_short(256)|central_crop(224)",
            augment="normalize_imagenet",
            every="50 epochs",
        )
    )
    return c
