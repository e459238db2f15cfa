"""Options of the optimizer for ResNet-20 on CIFAR-10, by TPE; successive halving ends bad trials early.

Run:       jaxvision sweep --sweep=configs/sweeps/resnet_cifar10.py --out=... --launcher="slurm(gpus=1)"
           From a folder tree: --sweep=configs/sweeps/resnet_cifar10.py:DIR, see configs/supervised/resnet_cifar10.py
Source:    Bergstra et al. 2011 (TPE); Li et al. 2020, arXiv 1810.05934 (ASHA)
Cost:      at most 64 times that of the config; two thirds of the trials end after a tenth of their steps
"""

from jaxvision.sweep import Sweep, choice, log_uniform, uniform, when


def get_sweep(arg=None):
    space = {
        "optimizer.learning_rate": log_uniform(1e-3, 1.0),
        "optimizer.weight_decay": log_uniform(1e-5, 1e-2),
        "optimizer.schedule": choice("cosine", "step('32_000 steps', '48_000 steps')"),
        "optimizer.momentum": when("optimizer.schedule", "cosine", uniform(0.5, 0.99)),
    }
    folder = {"data.data_dir": arg} if arg else {}
    return Sweep(
        config=f"configs/supervised/resnet_cifar10.py:20{',folder' if arg else ''}",
        space=space | folder,
        search="tpe(seed=0)",
        trials=64,
        pruning="asha(start=0.1, factor=3)",
    )
