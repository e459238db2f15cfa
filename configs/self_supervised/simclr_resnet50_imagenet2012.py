"""SimCLR with a ResNet-50 on ImageNet-2012, batch 4,096, 100 to 1,000 epochs; or SimCLRv2's pretraining.

Run:       jaxvision train --config=configs/self_supervised/simclr_resnet50_imagenet2012.py:100 --workdir=...
           To fine-tune it on 1 % or 10 % of the labels: configs/self_supervised/simclr_finetune_imagenet2012.py
Source:    Chen et al. 2020, arXiv 2002.05709, sec. 2 and app. A and B; :v2 is Chen et al. 2020b, arXiv 2006.10029, sec.
           2 and 3: three layers in the head, 800 epochs, another learning rate and weight decay, without memory and
           selective kernels. Departure: both views are cropped on the device, from one random square of the image
           resized to a shorter side of 256 pixels; in the paper from the whole image
Expected:  top-1 on `validation` of a linear classifier: 64.5 % after 100 epochs, 69.3 % after 1,000; :v2 71.7 %
Cost:      100 epochs: 6 hours on 32 TPU v3 (the authors' README), 6.3e18 FLOPs
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown
from jaxvision.optim.scaling import linear_scaling, sqrt_scaling

ARGS = ("100", "200", "400", "800", "1000", "v2")


def get_config(arg="100"):
    if arg not in ARGS:
        raise unknown("argument of simclr_resnet50_imagenet2012.py", arg, ARGS)
    v2 = arg == "v2"
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
    c.task = dict(name="simclr", temperature=0.1, projection_layers=3 if v2 else 2, projection_dim=128)
    c.optimizer = dict(
        name="lars",
        learning_rate=sqrt_scaling(0.1, c.data.batch_size) if v2 else linear_scaling(0.3, c.data.batch_size),
        weight_decay=1e-4 if v2 else 1e-6,
        schedule="cosine",
        warmup="5 percent" if v2 else "10 epochs",
    )
    c.train = dict(total="800 epochs" if v2 else f"{arg} epochs", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        knn=dict(
            name="knn",
            split="validation",
            train_split="train",
            train_subset=dict(examples=128_000, seed=0),
            host="decode|resize_short(256)|central_crop(224)",
            augment="none",
            every="10 epochs",
        )
    )
    return c
