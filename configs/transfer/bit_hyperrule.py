"""BiT fine-tuned by BiT-HyperRule, which sets length, resolution and mixup from the data set only.

Run:       jaxvision convert --from=bit --model=bit:R50x1 BiT-M-R50x1.npz weights/bit_m_r50x1
           jaxvision train --config=configs/transfer/bit_hyperrule.py:cifar10 --workdir=... \\
               --config.init.weights=weights/bit_m_r50x1 --config.data.data_dir=...
Source:    Kolesnikov et al. 2020, arXiv 1912.11370, sec. 3.3
Expected:  BiT-M R152x4: 98.91 % top-1 on CIFAR-10, 92.17 % on CIFAR-100, 99.30 % on Flowers (table 2); less for
           smaller models. Here the last 5,000 training images of CIFAR are kept for validation.
Cost:      R50x1 on CIFAR-10: 10,000 steps of 512 images of 128 pixels, under an hour on 8 A100
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown
from jaxvision.optim.bit_hyperrule import hyperrule

SETS = {  # name: (training split, its examples, the test split, classes, size of the images)
    "cifar10": ("train[:45000]", 45_000, "train[45000:]", "test", 10, (32, 32)),
    "cifar100": ("train[:45000]", 45_000, "train[45000:]", "test", 100, (32, 32)),
    "oxford_flowers102": ("train", 1_020, "validation", "test", 102, (500, 667)),
}
ARGS = tuple(SETS)


def get_config(arg="cifar10"):
    if arg not in SETS:
        raise unknown("argument of bit_hyperrule.py", arg, ARGS)
    train, examples, validation, test, classes, size = SETS[arg]
    rule = hyperrule(examples, size)
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name=arg,
        data_dir=placeholder(str),
        split=train,
        host=rule.host,
        batch_size=512,
        classes=classes,
        examples=examples,
    )
    c.augment = rule.augment
    c.model = dict(name="bit", variant="R50x1")
    c.init = dict(weights="weights/bit_m_r50x1", head="new")
    c.task = dict(name="supervised")
    c.optimizer = dict(
        name="sgd",
        learning_rate=rule.learning_rate,
        momentum=0.9,
        schedule=rule.schedule,
        warmup=f"{rule.warmup} steps",
    )
    c.train = dict(total=f"{rule.steps} steps", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        val=dict(name="classify", split=validation, every="10 percent"),
        test=dict(name="classify", split=test),
    )
    return c
