"""DINO on the synthetic set `shapes`, with multi-crop: four small crops beside two large ones.

Run:       jaxvision train --config=configs/self_supervised/dino_shapes.py --workdir=runs/dino_shapes
Source:    Caron et al. 2021, arXiv 2104.14294, sec. 3; sized for a small test
Expected:  k-NN on the features (k = 20) reaches 16.1 % top-1 (one seed); random weights give 14.8 % (the same command
           with --config.train.total='0 steps'), guessing 10 %
Cost:      a few minutes on two CPU cores
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
    colours = "flip_lr|color_jitter(0.4, 0.4, 0.2, 0.1, p=0.8)|grayscale(0.2)|normalize(0.5, 0.5)"
    c.augment = (
        f"multi_crop('random_resized_crop(16, (0.4, 1.0))|{colours}', "
        f"'random_resized_crop(8, (0.15, 0.4))|{colours}', 2, 4)"
    )
    c.model = dict(name="resnet", variant="8", width=0.5, zero_init_residual=False)
    c.task = dict(name="dino", prototypes=256, hidden=128, bottleneck=32, momentum=0.97)
    c.optimizer = dict(
        name="adamw",
        learning_rate=3e-3,
        schedule="cosine",
        warmup="5 percent",
        weight_decay=0.04,
        weight_decay_schedule="cosine(final=10.0)",
        freeze=(("last_layer", "5 percent"), (".*", False)),
    )
    c.train = dict(total="1200 steps", log_every="10 percent")
    c.evals = dict(knn=dict(name="knn", split="validation", train_split="train", train_subset=dict(examples=2_000)))
    return c
