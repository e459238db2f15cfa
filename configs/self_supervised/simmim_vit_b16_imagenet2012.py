"""SimMIM with a ViT-B/16 on ImageNet-2012, 800 epochs.

Run:       jaxvision train --config=configs/self_supervised/simmim_vit_b16_imagenet2012.py --workdir=...
Source:    Xie et al. 2022, arXiv 2111.09886, sec. 4, and the authors' config simmim_pretrain__vit_base__img224__800ep
           (github.com/microsoft/SimMIM), with 16 devices of 128 images. Their ViT has a relative position bias, which
           all blocks share; this one has fixed positions
Expected:  83.8 % top-1 on `validation` after fine-tuning (authors' README). Not run here
Cost:      about 1.1e20 FLOPs
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config():
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="imagenet2012",
        data_dir=placeholder(str),
        split="train",
        host="decode|random_resized_crop(224, (0.67, 1.0))",
        batch_size=2048,
        classes=1000,
        examples=1_281_167,
    )
    c.augment = "flip_lr|normalize_imagenet"
    c.model = dict(
        name="vit",
        variant="B/16",
        pool="token",
        posemb="sincos2d",
        gelu="exact",
        init="normal",
        layer_scale=0.1,
        drop_path=0.1,
    )
    c.task = dict(name="simmim", ratio=0.6, block=32)
    c.optimizer = dict(
        name="adamw",
        learning_rate=1e-4 * c.data.batch_size / 512,  # the authors' linear rule, for batches of 512
        weight_decay=0.05,
        b2=0.999,
        clip_norm=5.0,
        schedule="step('700 epochs', factor=0.1)",
        warmup="10 epochs",
    )
    c.train = dict(total="800 epochs", precision="bfloat16")
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
