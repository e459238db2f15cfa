"""VICReg on the synthetic set `shapes`: views agree, dimensions vary and do not correlate.

Run:       jaxvision train --config=configs/self_supervised/vicreg_shapes.py --workdir=runs/vicreg_shapes
Source:    Bardes et al. 2022, arXiv 2105.04906, sec. 4.1; sized for a small test
Expected:  k-NN on the features (k = 20) reaches 19.0 % top-1 (one seed); random weights give 14.8 %, guessing 10 %
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
    c.augment = (
        "views(2, 'random_resized_crop(16, (0.5, 1.0))|flip_lr|color_jitter(0.4, 0.4, 0.2, 0.1, p=0.8)|grayscale(0.2)')"
        "|normalize(0.5, 0.5)"
    )
    c.model = dict(name="resnet", variant="8", width=0.5, zero_init_residual=False)
    c.task = dict(name="vicreg", projection_dim=128, hidden=128)
    c.optimizer = dict(name="adamw", learning_rate=3e-3, weight_decay=1e-4, schedule="cosine", warmup="5 percent")
    c.train = dict(total="400 steps", log_every="10 percent")
    c.evals = dict(knn=dict(name="knn", split="validation", train_split="train", train_subset=dict(examples=2_000)))
    return c
