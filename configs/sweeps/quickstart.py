"""Learning rate and weight decay of configs/quickstart.py by random search, each point with two seeds.

Run:       jaxvision sweep --sweep=configs/sweeps/quickstart.py --out=runs/sweep_quickstart
Source:    Bergstra and Bengio 2012, JMLR 13, 281-305
Cost:      16 runs of 1 epoch; jaxvision sweep --sweep=configs/sweeps/quickstart.py --dry_run prints the time
"""

from jaxvision.sweep import Sweep, log_uniform


def get_sweep():
    return Sweep(
        config="configs/quickstart.py",
        space={
            "optimizer.learning_rate": log_uniform(1e-3, 1.0),
            "optimizer.weight_decay": log_uniform(1e-5, 1e-2),
            "train.total": "1 epoch",
        },
        objective="val/top1",
        search="random(seed=0)",
        trials=8,
        seeds=(0, 1),
    )
