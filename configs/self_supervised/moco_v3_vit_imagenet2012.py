"""MoCo v3 with a ViT-S/16 or ViT-B/16 on ImageNet-2012, 300 epochs.

Run:       jaxvision train --config=configs/self_supervised/moco_v3_vit_imagenet2012.py:S --workdir=...
Source:    Chen, Xie, He 2021, arXiv 2104.02057, sec. 4 to 6 and table 4; momentum, temperature and augmentation as in
           github.com/facebookresearch/moco-v3, CONFIG.md. Its ViT-S has 12 heads. Departures: both views are cropped on
           the device, from one random square of the image resized to a shorter side of 256 pixels, there from the whole
           image; only kernels are decayed, there all parameters; the frozen patch projection is drawn from a normal
           distribution, there from a uniform one
Expected:  top-1 on `validation` of a linear classifier: S 73.4 % (73.2 % with their PyTorch code), B 76.7 %. Not run
           here
Cost:      about 2.8e19 FLOPs for S, 1.1e20 for B
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown
from jaxvision.optim.scaling import linear_scaling

ARGS = ("S", "B")
VIEW = "random_resized_crop(224)|color_jitter(0.4, 0.4, 0.2, 0.1, p=0.8)|grayscale(0.2)"


def get_config(arg="S"):
    if arg not in ARGS:
        raise unknown("argument of moco_v3_vit_imagenet2012.py", arg, ARGS)
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
    c.augment = (  # the two views of BYOL
        f"views(2, ('{VIEW}|gaussian_blur|flip_lr', '{VIEW}|gaussian_blur(p=0.1)|solarize(p=0.2)|flip_lr'))"
        "|normalize_imagenet"
    )
    c.model = dict(name="vit", variant=f"{arg}/16", num_heads=12, pool="token", posemb="sincos2d", gelu="exact")
    c.task = dict(name="moco_v3", momentum=0.99, temperature=0.2, projection_layers=3, projection_dim=256, hidden=4096)
    c.optimizer = dict(
        name="adamw",
        learning_rate=linear_scaling(1.5e-4, c.data.batch_size),
        weight_decay=0.1,
        freeze=(("^embedding/", True), (".*", False)),  # the random patch projection, against the instability of sec. 4
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
