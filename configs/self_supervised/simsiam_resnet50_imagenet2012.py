"""SimSiam with a ResNet-50 on ImageNet-2012, batch 256, 100 to 800 epochs.

Run:       jaxvision train --config=configs/self_supervised/simsiam_resnet50_imagenet2012.py:100 --workdir=...
Source:    Chen and He 2021, arXiv 2011.10566, sec. 3 ("Baseline settings") and 4.2, and the authors' code
           (facebookresearch/simsiam): SGD decays all parameters, and the predictor's rate stays. Departure: both views
           are cropped on the device, from one random square of the image resized to a shorter side of 256 pixels; in
           the paper from the whole image
Expected:  top-1 on `validation` of a linear classifier (table 4): 68.1 % after 100 epochs, 70.0 % after 200, 70.8 %
           after 400, 71.3 % after 800; not run here
Cost:      100 epochs: 6.3e18 FLOPs
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown
from jaxvision.optim.scaling import linear_scaling

ARGS = ("100", "200", "400", "800")


def get_config(arg: str = "100") -> ConfigDict:
    """Returns the config for `arg` epochs."""
    if arg not in ARGS:
        raise unknown("argument of simsiam_resnet50_imagenet2012.py", arg, ARGS)
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
    c.augment = (
        "views(2, 'random_resized_crop(224, (0.2, 1.0))|flip_lr|color_jitter(0.4, 0.4, 0.4, 0.1, p=0.8)|grayscale(0.2)"
        "|gaussian_blur(p=0.5)')|normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))"
    )
    c.model = dict(name="resnet", variant="50")
    c.task = dict(name="simsiam", projection_dim=2048, hidden=2048, predictor_hidden=512)
    c.optimizer = dict(
        name="sgd",
        learning_rate=linear_scaling(0.05, c.data.batch_size),
        weight_decay=1e-4,
        decay_rules=((r".*", 1.0),),
        schedule="cosine",
        schedule_rules=((r"^predictor/", "constant"),),
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
