"""MoCo v2 with a ResNet-50 on ImageNet-2012, batch 256, 200 or 800 epochs; or MoCo v1.

Run:       jaxvision train --config=configs/self_supervised/moco_v2_resnet50_imagenet2012.py:200 --workdir=...
Source:    Chen et al. 2020, arXiv 2003.04297, sec. 3 and table 2; :v1 is He et al. 2020, arXiv 1911.05722, sec. 3.3 and
           4.1, 200 epochs; all numbers as in github.com/facebookresearch/moco. Departures: both views are cropped on
           the device, from one random square of the image resized to a shorter side of 256 pixels, there from the whole
           image; the layers of the head start smaller
Expected:  top-1 on `validation` of a linear classifier: 67.5 % after 200 epochs (5 runs, +- 0.1), 71.1 % after 800; :v1
           60.8 % (5 runs, +- 0.2); all from their README. Not run here
Cost:      200 epochs: 53 hours on 8 V100 (their README), about 8.4e18 FLOPs
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown
from jaxvision.optim.scaling import linear_scaling

ARGS = ("200", "800", "v1")
V1 = "grayscale(0.2)|color_jitter(0.4, 0.4, 0.4, 0.4)|flip_lr"
V2 = "color_jitter(0.4, 0.4, 0.4, 0.1, p=0.8)|grayscale(0.2)|gaussian_blur(p=0.5)|flip_lr"


def get_config(arg="200"):
    if arg not in ARGS:
        raise unknown("argument of moco_v2_resnet50_imagenet2012.py", arg, ARGS)
    v1 = arg == "v1"
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="imagenet2012",
        data_dir=placeholder(str),
        split="train",
        host="decode|resize_short(256)|random_crop(256)",
        batch_size=256,
        classes=1000,
        examples=1_281_167,
    )
    c.augment = f"views(2, 'random_resized_crop(224, (0.2, 1.0))|{V1 if v1 else V2}')|normalize_imagenet"
    c.model = dict(name="resnet", variant="50", zero_init_residual=False)
    c.task = dict(
        name="moco",
        queue_size=65_536,
        momentum=0.999,
        temperature=0.07 if v1 else 0.2,
        projection_layers=1 if v1 else 2,
        projection_dim=128,
        norm_splits=8,
    )
    c.optimizer = dict(
        name="sgd",
        learning_rate=linear_scaling(0.03, c.data.batch_size),
        momentum=0.9,
        weight_decay=1e-4,
        decay_rules=((".*", 1.0),),  # the authors' code decays biases and norms, too
        schedule="step('120 epochs', '160 epochs')" if v1 else "cosine",
    )
    c.train = dict(total="200 epochs" if v1 else f"{arg} epochs", precision="bfloat16")
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
