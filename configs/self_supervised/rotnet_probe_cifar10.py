"""A classifier on one block of a frozen RotNet, trained with the labels of CIFAR-10.

Run:       jaxvision train --config=configs/self_supervised/rotnet_probe_cifar10.py:conv --workdir=... \\
               --config.init.weights=WORKDIR_OF_ROTNET_CIFAR10
           Another block: --config.task.layer=stages/2; other depths: --config.model.blocks=5;
           few labels, as in the semi-supervised curve: --config.data.subset.examples=1000
Source:    Gidaris, Singh, Komodakis 2018, arXiv 1803.07728, sec. 3.1; schedules as in the authors' code,
           CIFAR10_{ConvClassifier,MultLayerClassifier}_on_RotNet_NIN4blocks_Conv2_feats.py
Expected:  test top-1 on block 2 of 4 (table 3): 89.06 % (mlp), 91.16 % (conv); the same network trained with all labels
           92.80 %, a random one with the convolutional classifier 72.50 %. Other blocks: see rotnet_cifar10.py
Cost:      100 epochs on 50,000 images; 6.7e15 FLOPs, a ninth of the pretraining
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown

SCHEDULES = {
    "conv": "step('35 epochs', '70 epochs', '85 epochs', factor=0.2)",
    "mlp": "step('20 epochs', '40 epochs', '45 epochs', factor=0.2)",
}
ARGS = tuple(SCHEDULES)


def get_config(arg="conv"):
    if arg not in SCHEDULES:
        raise unknown("argument of rotnet_probe_cifar10.py", arg, ARGS)
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="cifar10",
        data_dir=placeholder(str),
        split="train",
        subset=dict(examples=50_000, seed=0),
        batch_size=128,
        classes=10,
        examples=50_000,
        image_size=32,
    )
    c.augment = "random_crop(32, 4)|flip_lr|normalize((0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616))"
    c.model = dict(name="nin", blocks=4)
    c.init = dict(weights="runs/rotnet_cifar10", head="new", freeze="backbone")
    c.task = dict(name="probe", layer="stages/1", classifier=arg)
    c.optimizer = dict(
        name="sgd",
        learning_rate=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        decay_rules=((".*", 1.0),),  # torch's SGD decays every parameter
        schedule=SCHEDULES[arg],
    )
    c.train = dict(total="100 epochs", precision="float32")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(test=dict(name="classify", split="test"))
    return c
