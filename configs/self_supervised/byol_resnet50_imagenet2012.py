"""BYOL with a ResNet-50 on ImageNet-2012, batch 4,096, 100 to 1,000 epochs.

Run:       jaxvision train --config=configs/self_supervised/byol_resnet50_imagenet2012.py:1000 --workdir=...
Source:    Grill et al. 2020, arXiv 2006.07733, sec. 3.2 and app. B, and the authors' code
           (deepmind/deepmind-research/byol, configs/byol.py) for the rate, the decay and the teacher's momentum of
           shorter runs. Departures: both views are one batch for BatchNorm, and are cropped on the device, from one
           random square of the image resized to a shorter side of 256 pixels; in the paper from the whole image
Expected:  top-1 on `validation` of a linear classifier: 74.3 % after 1,000 epochs (table 1), 72.5 % after 300 (table
           5); not run here
Cost:      1,000 epochs: about 8 hours on 512 cores of TPU v3 (sec. 3.2), 8.4e19 FLOPs
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown
from jaxvision.optim.scaling import linear_scaling

LENGTHS = {  # epochs -> learning rate for a batch of 256, weight decay, momentum of the teacher at the start
    "1000": (0.2, 1.5e-6, 0.996),
    "300": (0.3, 1e-6, 0.99),
    "100": (0.45, 1e-6, 0.99),
}
ARGS = tuple(LENGTHS)
VIEW = "random_resized_crop(224)|flip_lr|color_jitter(0.4, 0.4, 0.2, 0.1, p=0.8)|grayscale(0.2)"


def get_config(arg: str = "1000") -> ConfigDict:
    """Returns the config for `arg` epochs."""
    if arg not in ARGS:
        raise unknown("argument of byol_resnet50_imagenet2012.py", arg, ARGS)
    rate, weight_decay, momentum = LENGTHS[arg]
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
        f"views(2, ('{VIEW}|gaussian_blur', '{VIEW}|gaussian_blur(p=0.1)|solarize(p=0.2)'))"
        "|normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))"
    )
    c.model = dict(name="resnet", variant="50")
    c.task = dict(name="byol", momentum=momentum, projection_dim=256, hidden=4096)
    c.optimizer = dict(
        name="lars",
        learning_rate=linear_scaling(rate, c.data.batch_size),
        weight_decay=weight_decay,
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
            every="10 epochs",
        )
    )
    return c
