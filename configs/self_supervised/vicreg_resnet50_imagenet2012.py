"""VICReg with a ResNet-50 on ImageNet-2012, batch 2,048, 1,000 epochs.

Run:       jaxvision train --config=configs/self_supervised/vicreg_resnet50_imagenet2012.py --workdir=...
Source:    Bardes et al. 2022, arXiv 2105.04906, sec. 4.2 and app. C. The authors' code (facebookresearch/vicreg) has
           blur and solarization of Barlow Twins, which differ between the views. Departure: both views are cropped on
           the device, from one random square of the image resized to a shorter side of 256 pixels; in the paper from
           the whole image
Expected:  73.2 % top-1 on `validation` of a linear classifier (table 1); not run here
Cost:      6.6e19 FLOPs
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.optim.scaling import linear_scaling


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config. `arg` is not used."""
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="imagenet2012",
        data_dir=placeholder(str),
        split="train",
        host="decode|resize_short(256)|random_crop(256)",
        batch_size=2048,
        classes=1000,
        examples=1_281_167,
    )
    c.augment = (
        "views(2, 'random_resized_crop(224)|flip_lr|color_jitter(0.4, 0.4, 0.2, 0.1, p=0.8)|grayscale(0.2)"
        "|gaussian_blur(p=0.5)|solarize(p=0.1)')"
        "|normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))"
    )
    c.model = dict(name="resnet", variant="50")
    c.task = dict(
        name="vicreg",
        variance=25.0,
        invariance=25.0,
        covariance=1.0,
        projection_layers=3,
        projection_dim=8192,
        hidden=8192,
    )
    c.optimizer = dict(
        name="lars",
        learning_rate=linear_scaling(0.2, c.data.batch_size),
        weight_decay=1e-6,
        schedule="cosine(final=0.001)",
        warmup="10 epochs",
    )
    c.train = dict(total="1000 epochs", precision="bfloat16")
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
