"""SwAV on the synthetic set `shapes`: large and small crops predict the prototypes that large crops are assigned to.

Run:       jaxvision train --config=configs/self_supervised/swav_shapes.py --workdir=runs/swav_shapes
Source:    Caron et al. 2020, arXiv 2006.09882, sec. 3; sized for a small test
Expected:  k-NN on the features (k = 20) reaches 12.4 % top-1 (one seed); random weights give 14.8 % (the same command
           with --config.train.total='0 steps'), guessing 10 %: in so few steps SwAV does not improve on them
Cost:      about two minutes on two CPU cores
"""

from ml_collections import ConfigDict

COLOUR = "flip_lr|color_jitter(0.4, 0.4, 0.2, 0.1, p=0.8)|grayscale(0.2)|normalize(0.5, 0.5)"


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
    c.augment = (
        f"multi_crop('random_resized_crop(16, (0.4, 1.0))|{COLOUR}', 'random_resized_crop(8, (0.15, 0.4))|{COLOUR}'"
        ", 2, 4)"
    )
    c.model = dict(name="resnet", variant="8", width=0.5, zero_init_residual=False)
    c.task = dict(name="swav", prototypes=60, projection_dim=64, hidden=128, queue=256, queue_starts="25 percent")
    c.optimizer = dict(
        name="adamw",
        learning_rate=1e-3,
        weight_decay=1e-4,
        freeze=(("^prototypes/", "5 percent"), (".*", False)),
        schedule="cosine",
        warmup="5 percent",
    )
    c.train = dict(total="400 steps", log_every="10 percent")
    c.evals = dict(knn=dict(name="knn", split="validation", train_split="train", train_subset=dict(examples=2_000)))
    return c
