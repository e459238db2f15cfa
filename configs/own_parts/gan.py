"""A GAN, a task of two players, on `shapes` at 16 pixels. The task is in experiments/own_parts/gan.py.

Run:       jaxvision train --config=configs/own_parts/gan.py --workdir=runs/gan
Source:    Goodfellow et al. 2014, arXiv 1406.2661; learning rates as in Heusel et al. 2017, arXiv 1706.08500
Expected:  the discriminator classifies about 90 % of real and of generated images correctly (seed 0)
Cost:      about a minute on two CPU cores
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config. `arg` is not used."""
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="shapes",
        options=dict(image_size=32, train=12_000, validation=1_000, test=1_000),
        split="train",
        host="decode|resize(16)",
        batch_size=64,
        classes=10,
        examples=12_000,
        image_size=32,
    )
    c.augment = "flip_lr|normalize(0.5, 0.5)"
    # The discriminator. With BatchNorm it could tell generated images by the statistics of their batch.
    c.model = dict(name="vit", variant="S/4", width=64, depth=4, mlp_dim=128, num_heads=4)
    c.task = dict(name="experiments.own_parts.gan:make_gan", latent=32)
    c.optimizer = dict(
        name="adam",
        b1=0.5,
        learning_rate=1e-4,
        players=dict(discriminator=dict(learning_rate=4e-4)),
    )
    c.train = dict(total="300 steps", log_every="10 percent", ema=0.99)
    c.evals = dict(knn=dict(name="knn", split="validation", train_split="train", train_subset=dict(examples=2_000)))
    return c
