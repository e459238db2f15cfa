"""SimCLR with a ResNet-18 on CIFAR-10, 100 to 1,000 epochs.

Run:       jaxvision train --config=configs/self_supervised/simclr_resnet18_cifar10.py:1000 --workdir=...
Source:    Chen et al. 2020, arXiv 2002.05709, app. B.9; network, batch size, learning rate, weight decay and
           temperature are from the authors' code, github.com/google-research/simclr, first README (since SimCLRv2 it
           has a weight decay of 1e-4). It does not normalise images
Expected:  about 91 % test top-1 of a linear classifier after 1,000 epochs (that README, SGD for 100 epochs)
Cost:      about 3.3e14 FLOPs per epoch: 3.3e17 for 1,000
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown
from jaxvision.optim.scaling import linear_scaling

ARGS = ("1000", "100", "200", "400")


def get_config(arg="1000"):
    if arg not in ARGS:
        raise unknown("argument of simclr_resnet18_cifar10.py", arg, ARGS)
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="cifar10",
        data_dir=placeholder(str),
        split="train",
        batch_size=512,
        classes=10,
        examples=50_000,
        image_size=32,
    )
    c.augment = (  # colour strength 0.5, no blur
        "views(2, 'random_resized_crop(32)|flip_lr|color_jitter(0.4, 0.4, 0.4, 0.1, p=0.8)|grayscale(0.2)')"
    )
    c.model = dict(name="resnet", variant="18", stem="cifar")
    c.task = dict(name="simclr", temperature=0.5, projection_layers=2, projection_dim=128)
    c.optimizer = dict(
        name="lars",
        learning_rate=linear_scaling(1.0, c.data.batch_size),
        weight_decay=1e-6,  # of kernels; biases and norms are neither decayed nor rescaled
        schedule="cosine",
        warmup="10 epochs",
    )
    c.train = dict(total=f"{arg} epochs", precision="float32")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        knn=dict(name="knn", split="train[45000:]", train_split="train[:45000]", every="10 epochs"),
        test=dict(name="linear_probe", split="test", train_split="train"),
    )
    return c
