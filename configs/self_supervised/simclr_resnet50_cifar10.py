"""SimCLR with a ResNet-50 on CIFAR-10, at batch sizes of 256 to 4,096; or with labels, the supervised contrastive loss.

Run:       jaxvision train --config=configs/self_supervised/simclr_resnet50_cifar10.py:1024 --workdir=...
           With labels: ...simclr_resnet50_cifar10.py:supervised
Source:    Chen et al. 2020, arXiv 2002.05709, app. B.9. The authors tried learning rates of 0.5, 1.0 and 1.5 for 256
           images and temperatures of 0.1, 0.5 and 1.0. 0.5 is the best temperature of a long run (fig. B.8); they do
           not give the best rate. :supervised is Khosla et al. 2020, arXiv 2004.11362, eq. 2, in this
           setting, not in theirs
Expected:  94.0 % test top-1 of a linear classifier, batch 1,024, 1,000 epochs
Cost:      about 7.8e14 FLOPs per epoch: 7.8e17 for 1,000
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown
from jaxvision.optim.scaling import linear_scaling

ARGS = ("1024", "256", "512", "2048", "4096", "supervised")


def get_config(arg="1024"):
    if arg not in ARGS:
        raise unknown("argument of simclr_resnet50_cifar10.py", arg, ARGS)
    supervised = arg == "supervised"
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="cifar10",
        data_dir=placeholder(str),
        split="train",
        batch_size=1024 if supervised else int(arg),
        classes=10,
        examples=50_000,
        image_size=32,
    )
    c.augment = (  # colour strength 0.5, no blur
        "views(2, 'random_resized_crop(32)|flip_lr|color_jitter(0.4, 0.4, 0.4, 0.1, p=0.8)|grayscale(0.2)')"
    )
    c.model = dict(name="resnet", variant="50", stem="cifar")
    c.task = dict(
        name="simclr",
        loss="supervised_contrastive" if supervised else "nt_xent",
        temperature=0.1 if supervised else 0.5,
        projection_layers=2,
        projection_dim=128,
    )
    c.optimizer = dict(
        name="lars",
        learning_rate=linear_scaling(1.0, c.data.batch_size),
        weight_decay=1e-6,
        schedule="cosine",
        warmup="10 epochs",
    )
    c.train = dict(total="1000 epochs", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        knn=dict(name="knn", split="train[45000:]", train_split="train[:45000]", every="10 epochs"),
        test=dict(name="linear_probe", split="test", train_split="train"),
    )
    return c
