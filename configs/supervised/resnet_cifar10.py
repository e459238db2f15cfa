"""ResNet-20 to ResNet-110 on CIFAR-10.

Run:       jaxvision train --config=configs/supervised/resnet_cifar10.py:20 --workdir=...
           From a folder tree train/CLASS/*.png, validation/CLASS/*.png (see
           experiments/data_scaling/make_cifar10_folder.py), without TFDS:
           --config=configs/supervised/resnet_cifar10.py:20,folder --config.data.data_dir=DIR
Source:    He et al. 2016, arXiv 1512.03385, sec. 4.2, table 6
Expected:  test error 8.75 % (20 layers), 7.51 % (32), 7.17 % (44), 6.97 % (56), 6.43 % (110; mean of five
           6.61 %). The paper chose its schedule on this split of 45,000 and 5,000 images and does not say
           whether the reported runs used all 50,000. Measured here: docs/reproducing.md
Cost:      182 epochs; 20 layers: 2.0e15 FLOPs
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown

LAYERS = ("20", "32", "44", "56", "110")
ARGS = LAYERS + tuple(f"{layers},folder" for layers in LAYERS)


def get_config(arg="20"):
    if arg not in ARGS:
        raise unknown("argument of resnet_cifar10.py", arg, ARGS)
    layers, _, folder = arg.partition(",")
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="folder" if folder else "cifar10",
        data_dir=placeholder(str),
        split="train" if folder else "train[:45000]",
        batch_size=128,
        classes=10,
        examples=45_000,
        image_size=32,
    )
    # Normalised first, so the border that random_crop adds has the mean colour, as in the paper.
    c.augment = "normalize((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))|random_crop(32, 4)|flip_lr"
    c.model = dict(name="resnet", variant=layers, zero_init_residual=False)
    c.task = dict(name="supervised")
    c.optimizer = dict(
        name="sgd",
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="step('32_000 steps', '48_000 steps')",
        warmup="400 steps" if layers == "110" else "0 steps",  # the paper: 0.01 for about 400 steps
    )
    c.train = dict(total="64_000 steps", precision="float32")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(val=dict(name="classify", split="validation" if folder else "train[45000:]", every="5 epochs"))
    if not folder:
        c.evals.test = dict(name="classify", split="test")
    return c
