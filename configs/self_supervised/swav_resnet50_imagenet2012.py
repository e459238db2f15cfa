"""SwAV with a ResNet-50 on ImageNet-2012: multi-crop, batch 4,096, 100 to 800 epochs; or batch 256 with a queue.

Run:       jaxvision train --config=configs/self_supervised/swav_resnet50_imagenet2012.py:100 --workdir=...
           :small is batch 256 and 200 epochs, for one machine
Source:    Caron et al. 2020, arXiv 2006.09882, sec. 3 and 4, and the authors' scripts, facebookresearch/swav on GitHub.
           Departures: all crops are made on the device, from one random square of the image resized to a shorter side
           of 256 pixels; the warm-up of :100 to :800 begins at 0 (theirs: 0.3); the rate is applied before the
           momentum; BatchNorm sees the whole batch (theirs: groups of devices)
Expected:  top-1 on `validation` of a linear classifier, in the authors' README: 72.1 % after 100 epochs, 73.9 % (200),
           74.6 % (400), 75.3 % (800); :small 72.7 %. None of these has been run with this code
Cost:      100 epochs: 6 hours on 64 V100 (the authors' README: 3 min 40 s an epoch)
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown

ARGS = ("100", "200", "400", "800", "small")
COLOUR = (
    "flip_lr|color_jitter(0.8, 0.8, 0.8, 0.2, p=0.8)|grayscale(0.2)|gaussian_blur(kernel=23, p=0.5)"
    "|normalize((0.485, 0.456, 0.406), (0.228, 0.224, 0.225))"
)


def get_config(arg="100"):
    if arg not in ARGS:
        raise unknown("argument of swav_resnet50_imagenet2012.py", arg, ARGS)
    small = arg == "small"
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="imagenet2012",
        data_dir=placeholder(str),
        split="train",
        host="decode|resize_short(256)|random_crop(256)",
        batch_size=256 if small else 4096,
        classes=1000,
        examples=1_281_167,
    )
    c.augment = (
        f"multi_crop('random_resized_crop(224, (0.14, 1.0))|{COLOUR}', 'random_resized_crop(96, (0.05, 0.14))|{COLOUR}'"
        ", 2, 6)"
    )
    c.model = dict(name="resnet", variant="50")
    c.task = dict(name="swav", prototypes=3000, temperature=0.1, epsilon=0.05, projection_dim=128, hidden=2048)
    if small:
        c.task.update(queue=3840, queue_starts="15 epochs")
    c.optimizer = dict(
        name="lars",
        variant="you2017",
        learning_rate=0.6 if small else 4.8,
        weight_decay=1e-6,
        decay_rules=((".*", 1.0),),  # biases and norms are decayed and rescaled, too
        freeze=(("^prototypes/", "1 epoch"), (".*", False)),
        schedule="cosine(final=0.001)",
        warmup=0 if small else "10 epochs",
    )
    c.train = dict(total="200 epochs" if small else f"{arg} epochs", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        knn=dict(
            name="knn",
            split="validation",
            train_split="train",
            train_subset=dict(examples=128_000, seed=0),
            host="decode|resize_short(256)|central_crop(224)",
            augment="normalize((0.485, 0.456, 0.406), (0.228, 0.224, 0.225))",
            every="10 epochs",
        )
    )
    return c
