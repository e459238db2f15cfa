"""Segmentation of `shapes`: the label is a mask. Task and evaluator are in experiments/own_parts/segmentation.py.

Run:       jaxvision train --config=configs/own_parts/segmentation.py --workdir=runs/segmentation
Source:    the maps of all stages are summed, as in Kirillov et al. 2019, arXiv 1901.02446, sec. 3
Expected:  mean IoU 0.855 on validation, 0.932 of the background and 0.779 of shapes (seed 0)
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
        host="decode",
        fields=("image", "instance_mask", "label"),
        batch_size=32,
        classes=10,
        examples=12_000,
        image_size=32,
    )
    c.augment = "flip_lr|normalize(0.5, 0.5)"
    c.model = dict(name="resnet", variant="8", width=0.5)
    c.task = dict(name="experiments.own_parts.segmentation:make_segmentation")
    c.optimizer = dict(name="adamw", learning_rate=3e-3, weight_decay=1e-4, schedule="cosine", warmup="5 percent")
    c.train = dict(total="300 steps", log_every="10 percent")
    c.evals = dict(val=dict(name="experiments.own_parts.segmentation:make_mean_iou", split="validation"))
    return c
