"""DINOv2 on the synthetic set `shapes`: DINO with masked patches, KoLeo and Sinkhorn's algorithm, and a small ViT.

Run:       jaxvision train --config=configs/self_supervised/dinov2_shapes.py --workdir=runs/dinov2_shapes
Source:    Oquab et al. 2023, arXiv 2304.07193, sec. 4; sized for a small test
Expected:  k-NN on the features of the teacher (k = 20) reaches 14.4 % top-1 (one seed); random weights give 12.9 % (the
           same command with --config.train.total='0 steps'), guessing 10 %
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
        host="decode|resize(24)",
        batch_size=64,
        classes=10,
        examples=12_000,
        image_size=32,
    )
    colours = "flip_lr|color_jitter(0.4, 0.4, 0.2, 0.1, p=0.8)|grayscale(0.2)|normalize(0.5, 0.5)"
    c.augment = (
        f"multi_crop('random_resized_crop(24, (0.4, 1.0))|{colours}', "
        f"'random_resized_crop(12, (0.15, 0.4))|{colours}', 2, 4)"
    )
    c.model = dict(name="vit", variant="Ti/4", width=64, depth=4, num_heads=4, pool="token", posemb="sincos2d")
    c.task = dict(
        name="dino",
        patches=1.0,
        koleo=0.1,
        centering="sinkhorn",
        prototypes=256,
        hidden=128,
        bottleneck=32,
        momentum=0.97,
        network="teacher",
    )
    c.optimizer = dict(
        name="adamw",
        learning_rate=1e-3,
        schedule="cosine",
        warmup="5 percent",
        weight_decay=0.04,
        weight_decay_schedule="cosine(final=10.0)",
        clip_norm=3.0,
        freeze=(("last_layer", "5 percent"), (".*", False)),
    )
    c.train = dict(total="300 steps", log_every="10 percent")
    c.evals = dict(knn=dict(name="knn", split="validation", train_split="train", train_subset=dict(examples=2_000)))
    return c
