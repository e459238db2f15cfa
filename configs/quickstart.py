"""ResNet-8 on the embedded data set `shapes`, at 16 pixels: a first run that needs no download.

Run:       jaxvision train --config=configs/quickstart.py --workdir=runs/quickstart
Source:    He et al. 2016, arXiv 1512.03385, sec. 4.2, with one block per stage; sized for a short run on a CPU
Expected:  75 % top-1 on validation, measured here (docs/reproducing.md)
Cost:      1 min 45 s on two CPU cores next to other jobs, and once about 20 s to render the set
"""

from ml_collections import ConfigDict


def get_config():
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="shapes",
        options=dict(image_size=32, train=12_000, validation=1_000, test=1_000),
        split="train",
        host="decode|resize(16)",  # small images, for a short run
        batch_size=32,
        classes=10,
        examples=12_000,
        image_size=32,
    )
    c.augment = "flip_lr|normalize(0.5, 0.5)"
    c.model = dict(name="resnet", variant="8", zero_init_residual=False)
    c.task = dict(name="supervised")
    c.optimizer = dict(
        name="sgd",
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="cosine",
        warmup="5 percent",
    )
    c.train = dict(total="5 epochs")
    c.evals = dict(val=dict(name="classify", split="validation", every="1 epoch"))
    return c
