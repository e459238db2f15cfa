"""All evaluations of a representation, for a finished run or for converted weights.

Run:       jaxvision evaluate --workdir=runs/simclr --config=configs/evaluation/representation.py:cifar10
           For images in folders train/CLASS/* and validation/CLASS/*: ...representation.py:folder. A run knows its
           data set; for converted weights add --config.data.data_dir=DIR
Source:    Chen et al. 2020, arXiv 2002.05709, app. B.6 and B.8 (probes); Wu et al. 2018, arXiv 1805.01978, sec. 3.4
           (k-NN); Dosovitskiy et al. 2021, arXiv 2010.11929, sec. 4.1 (few-shot); Mensink et al. 2013 (class means)
Expected:  see the header of the config that trained the network
Cost:      images pass through the network once, and 90 times more for `sgd`: 5e15 FLOPs with a ResNet-18 on CIFAR-10,
           9.5e17 with a ResNet-50 on ImageNet
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown

SPLITS = {"cifar10": ("train", "test"), "imagenet2012": ("train", "validation"), "folder": ("train", "validation")}
AUGMENTED = {  # images of the probe by SGD
    "cifar10": dict(train_augment="random_resized_crop(32)|flip_lr"),
    "imagenet2012": dict(train_host="decode|random_resized_crop(224)", train_augment="flip_lr"),
    "folder": dict(train_augment="flip_lr"),
}
LAYERS = ("stages/*", "features")
ARGS = tuple(SPLITS)


def get_config(arg="cifar10"):
    if arg not in SPLITS:
        raise unknown("argument of representation.py", arg, ARGS)
    train, judged = SPLITS[arg]
    imagenet = arg == "imagenet2012"
    splits = dict(split=judged, train_split=train)
    c = ConfigDict()
    c.data = dict(name=arg, data_dir=placeholder(str), split=train)  # for converted weights, which name no data set
    c.evals = dict(
        knn=dict(name="knn", k=(20, 200), **splits),
        means=dict(name="class_mean", **splits),
        few=dict(name="fewshot", shots=(1, 5, 10, 25), **splits),
        lbfgs=dict(name="linear_probe", layers=LAYERS, **splits),
        sgd=dict(
            name="sgd_probe", layers=LAYERS, train_batch_size=4096 if imagenet else 256, **AUGMENTED[arg], **splits
        ),
    )
    if imagenet:  # a fit takes minutes there: powers of ten instead of 45 values
        c.evals.lbfgs.l2 = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
    return c
