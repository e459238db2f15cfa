"""Clips [t, h, w, 3]: in which direction does a square move? Source and task are in experiments/own_parts/clips.py.

Run:       jaxvision train --config=configs/own_parts/clips.py --workdir=runs/clips
Source:    a 2D network applied to each frame, with late fusion of the features: Karpathy et al. 2014, CVPR, sec. 3.1
Expected:  100 % of 2,000 validation clips (seed 0); guessing gives 25 %
Cost:      less than a minute on two CPU cores
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config. `arg` is not used."""
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="experiments.own_parts.clips:MovingSquares",
        split="train",
        host="decode",
        batch_size=32,
        classes=4,
        examples=2_000,
        image_size=32,
    )
    c.augment = "normalize(0.5, 0.5)"
    c.model = dict(name="lenet")  # its features keep the position in the frame
    c.task = dict(name="experiments.own_parts.clips:make_clips")
    c.optimizer = dict(name="adamw", learning_rate=2e-3, weight_decay=1e-4, schedule="cosine", warmup="5 percent")
    c.train = dict(total="500 steps", log_every="10 percent")
    c.evals = dict(val=dict(name="classify", split="validation", topk=(1,)))
    return c
