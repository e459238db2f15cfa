"""SimMIM on the synthetic set `shapes`: a small ViT predicts the pixels of masked blocks by a linear layer.

Run:       jaxvision train --config=configs/self_supervised/simmim_shapes.py --workdir=runs/simmim_shapes
Source:    Xie et al. 2022, arXiv 2111.09886, sec. 3; sized for a small test
Expected:  k-NN on the features (k = 20) reaches 12.3 % top-1 (one seed); random weights give 12.4 % (the same command
           with --config.train.total='0 steps'), guessing 10 %: in so few steps SimMIM does not improve on them
Cost:      about two minutes on two CPU cores
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
        host="decode",
        batch_size=64,
        classes=10,
        examples=12_000,
        image_size=32,
    )
    c.augment = "random_resized_crop(32, (0.5, 1.0))|flip_lr|normalize(0.5, 0.5)"
    c.model = dict(name="vit", variant="Ti/4", width=64, depth=4, num_heads=4)
    c.task = dict(name="simmim", block=8)
    c.optimizer = dict(
        name="adamw", learning_rate=2e-3, weight_decay=0.05, b2=0.95, schedule="cosine", warmup="5 percent"
    )
    c.train = dict(total="400 steps", log_every="10 percent")
    c.evals = dict(knn=dict(name="knn", split="validation", train_split="train", train_subset=dict(examples=2_000)))
    return c
