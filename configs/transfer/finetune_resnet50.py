"""A pretrained ResNet-50 with all its parameters fine-tuned to another data set.

Run:       jaxvision train --config=configs/transfer/finetune_resnet50.py:cifar10 --workdir=... \\
               --config.init.weights=WORKDIR_OR_CONVERTED_WEIGHTS
           For few labels: --config.data.subset.examples=250 gives 25 of each of 10 classes. For weights other than
           SimCLR's, add the normalisation of their meta.json at the end of config.augment
Source:    Chen et al. 2020, arXiv 2002.05709, app. B.8. The paper chooses learning rate (1e-4 to 0.1) and weight decay
           (none, or 1e-6 to 1e-3 divided by the rate) for each set, on validation images, from 7 values each, equally
           spaced in the logarithm; here both are from the middle. The paper then trains on the validation images too.
           Departures: the momentum of BatchNorm is 0.9 for every set, and the schedule is a cosine; the paper states
           none
Expected:  test top-1 from SimCLR's ResNet-50 of 1,000 epochs: 97.7 % on CIFAR-10, 85.9 % on CIFAR-100 (app. B.8.2);
           on Flowers 97.0 % as a mean over classes, which `classify` does not report
Cost:      20,000 steps of 256 images of 224 pixels: 1.3e17 FLOPs
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown

SETS = {  # name: (training split, its examples, validation split, classes)
    "cifar10": ("train[:45000]", 45_000, "train[45000:]", 10),
    "cifar100": ("train[:45000]", 45_000, "train[45000:]", 100),
    "oxford_flowers102": ("train", 1_020, "validation", 102),
}
ARGS = tuple(SETS)


def get_config(arg="cifar10"):
    if arg not in SETS:
        raise unknown("argument of finetune_resnet50.py", arg, ARGS)
    train, examples, validation, classes = SETS[arg]
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name=arg,
        data_dir=placeholder(str),
        split=train,
        subset=dict(examples=examples, seed=0),
        host="decode|random_resized_crop(224)",
        batch_size=256,
        classes=classes,
        examples=examples,
    )
    c.augment = "flip_lr"
    c.model = dict(name="resnet", variant="50")
    c.init = dict(weights="runs/simclr", head="new")
    c.task = dict(name="supervised")
    c.optimizer = dict(
        name="sgd", learning_rate=3e-3, momentum=0.9, nesterov=True, weight_decay=1e-2, schedule="cosine"
    )
    c.train = dict(total="20_000 steps", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        val=dict(name="classify", split=validation, every="10 percent"),
        test=dict(name="classify", split="test"),
    )
    return c
