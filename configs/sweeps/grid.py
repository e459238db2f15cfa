"""A grid over learning rate and momentum of configs/quickstart.py.

Run:       jaxvision sweep --sweep=configs/sweeps/grid.py --out=runs/sweep_grid
Cost:      9 runs of 1 epoch; jaxvision sweep --sweep=configs/sweeps/grid.py --dry_run prints the time
"""

from jaxvision.sweep import Sweep, grid


def get_sweep():
    return Sweep(
        config="configs/quickstart.py",
        space={
            "optimizer.learning_rate": grid(0.01, 0.1, 1.0),
            "optimizer.momentum": grid(0.0, 0.9, 0.99),
            "train.total": "1 epoch",
        },
        search="grid",
    )
