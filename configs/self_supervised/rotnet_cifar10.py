"""RotNet on CIFAR-10: a Network in Network of 3, 4 or 5 blocks predicts by which right angle an image was rotated.

Run:       jaxvision train --config=configs/self_supervised/rotnet_cifar10.py:4 --workdir=...
           Other angles (table 2): --config.task.angles='(0, 180)', (90, 270), or the eight multiples of 45
           For the probes: configs/self_supervised/rotnet_probe_cifar10.py
Source:    Gidaris, Singh, Komodakis 2018, arXiv 1803.07728, sec. 3.1; schedule and normalisation as in the authors'
           code, github.com/gidariss/FeatureLearningRotNet, config/CIFAR10_RotNet_NIN4blocks.py (the paper has half
           as many epochs, in the same ratios)
Expected:  test top-1 of a non-linear classifier on each block (table 1): 3 blocks 85.45, 88.26, 62.09 %; 4 blocks
           85.07, 89.06, 86.21, 61.73 %; 5 blocks 85.04, 89.76, 86.82, 74.50, 50.37 %. By angles, on block 2 of 4
           (table 2): eight 88.51 %, four 89.06 %, (0, 180) 87.46 %, (90, 270) 85.52 %
Cost:      6.0e16 FLOPs with 4 blocks (a batch of 128 is 512 rotated images)
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown

ARGS = ("4", "3", "5")


def get_config(arg="4"):
    if arg not in ARGS:
        raise unknown("argument of rotnet_cifar10.py", arg, ARGS)
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="cifar10",
        data_dir=placeholder(str),
        split="train",
        batch_size=128,
        classes=10,
        examples=50_000,
        image_size=32,
    )
    # Applied before the task rotates the images. The border that random_crop adds is black, as in the authors' code.
    c.augment = "random_crop(32, 4)|flip_lr|normalize((0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616))"
    c.model = dict(name="nin", blocks=int(arg))
    c.task = dict(name="rotation", angles=(0, 90, 180, 270), each="all")
    c.optimizer = dict(
        name="sgd",
        learning_rate=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        decay_rules=((".*", 1.0),),  # torch's SGD decays every parameter
        schedule="step('60 epochs', '120 epochs', '160 epochs', factor=0.2)",
    )
    c.train = dict(total="200 epochs", precision="float32")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    blocks = tuple(f"stages/{i}" for i in range(int(arg)))
    c.evals = dict(
        knn=dict(name="knn", layer="stages/1", split="train[45000:]", train_split="train[:45000]", every="10 epochs"),
        test=dict(name="linear_probe", layers=blocks, split="test", train_split="train"),
    )
    return c
