"""Barlow Twins with a ResNet-50 on ImageNet-2012, batch 2,048, 1,000 epochs.

Run:       jaxvision train --config=configs/self_supervised/barlow_twins_resnet50_imagenet2012.py --workdir=...
Source:    Zbontar et al. 2021, arXiv 2103.03230, sec. 2.2, and the authors' code (facebookresearch/barlowtwins), whose
           weight decay of 1e-6 is used. Its rate for biases and norms, 0.0048 for a batch of 256, is 0.024 times that
           of the kernels. Departure: both views are cropped on the device, from one random square of the image resized
           to a shorter side of 256 pixels; in the paper from the whole image
Expected:  73.2 % top-1 on `validation` of a linear classifier (table 1); not run here
Cost:      124 hours on 32 V100 (sec. 2.2), 6.5e19 FLOPs
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.optim.scaling import linear_scaling

VIEW = "random_resized_crop(224)|flip_lr|color_jitter(0.4, 0.4, 0.2, 0.1, p=0.8)|grayscale(0.2)"


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
        f"views(2, ('{VIEW}|gaussian_blur', '{VIEW}|gaussian_blur(p=0.1)|solarize(p=0.2)'))"
        "|normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))"
    )
    c.model = dict(name="resnet", variant="50")
    c.task = dict(name="barlow_twins", redundancy=0.0051, projection_layers=3, projection_dim=8192, hidden=8192)
    c.optimizer = dict(
        name="lars",
        learning_rate=linear_scaling(0.2, c.data.batch_size),
        lr_rules=((r"kernel$", 1.0), (r".*", 0.024)),
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
