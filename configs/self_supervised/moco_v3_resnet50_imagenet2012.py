"""MoCo v3 with a ResNet-50 on ImageNet-2012, batch 4,096, 100, 300 or 1,000 epochs.

Run:       jaxvision train --config=configs/self_supervised/moco_v3_resnet50_imagenet2012.py:100 --workdir=...
Source:    Chen, Xie, He 2021, arXiv 2104.02057, sec. 3; all numbers as in github.com/facebookresearch/moco-v3,
           CONFIG.md and main_moco.py. Departure: both views are cropped on the device, from one random square of the
           image resized to a shorter side of 256 pixels, there from the whole image
Expected:  top-1 on `validation` of a linear classifier: 68.9, 72.8 and 74.6 % (their CONFIG.md). Not run here
Cost:      100 epochs: about 8.4e18 FLOPs
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown
from jaxvision.optim.scaling import linear_scaling

RECIPES = {  # epochs -> learning rate of 256 images, weight decay, momentum of the teacher
    "100": (0.6, 1e-6, 0.99),
    "300": (0.3, 1e-6, 0.99),
    "1000": (0.3, 1.5e-6, 0.996),
}
VIEW = "random_resized_crop(224, (0.2, 1.0))|color_jitter(0.4, 0.4, 0.2, 0.1, p=0.8)|grayscale(0.2)"


def get_config(arg="100"):
    if arg not in RECIPES:
        raise unknown("argument of moco_v3_resnet50_imagenet2012.py", arg, RECIPES)
    rate, decay, momentum = RECIPES[arg]
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
    c.model = dict(name="resnet", variant="50")
    c.task = dict(
        name="moco_v3",
        momentum=momentum,
        temperature=1.0,
        projection_layers=2,
        projection_dim=256,
        hidden=4096,
        predictor_norm=False,
    )
    c.optimizer = dict(
        name="lars",
        learning_rate=linear_scaling(rate, c.data.batch_size),
        weight_decay=decay,
        schedule="cosine",
        warmup="10 epochs",
    )
    c.train = dict(total=f"{arg} epochs", precision="bfloat16")
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
