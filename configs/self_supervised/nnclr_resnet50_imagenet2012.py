"""NNCLR with a ResNet-50 on ImageNet-2012, batch 4,096, 1,000 epochs.

Run:       jaxvision train --config=configs/self_supervised/nnclr_resnet50_imagenet2012.py --workdir=...
Source:    Dwibedi et al. 2021, arXiv 2104.14548, sec. 4.1 ("Implementation details"). Departures: the views are those
           of simclr_resnet50_imagenet2012.py, without the paper's multi-crop; both are cropped on the device, from one
           random square of the image resized to a shorter side of 256 pixels, in the paper from the whole image
Expected:  75.4 % top-1 on `validation` of a linear classifier (table 1, without multi-crop); not run here
Cost:      6.3e19 FLOPs
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
        batch_size=4096,
        classes=1000,
        examples=1_281_167,
    )
    c.augment = (
        "views(2, 'random_resized_crop(224)|flip_lr|color_jitter(0.8, 0.8, 0.8, 0.2, p=0.8)|grayscale(0.2)"
        "|gaussian_blur(p=0.5)')"
    )
    c.model = dict(name="resnet", variant="50")
    c.task = dict(
        name="nnclr", temperature=0.1, queue_size=98_304, projection_dim=256, hidden=2048, predictor_hidden=4096
    )
    c.optimizer = dict(
        name="lars",
        learning_rate=linear_scaling(0.3, c.data.batch_size),
        weight_decay=1e-6,
        schedule="cosine",
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
