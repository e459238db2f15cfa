"""Jigsaw puzzles of nine tiles on ImageNet-2012 with ResNet-50: which of 100 permutations?

Run:       jaxvision train --config=configs/self_supervised/jigsaw_resnet50_imagenet2012.py --workdir=...
Source:    Noroozi, Favaro 2016, arXiv 1603.09246, with the geometry, the grey images, the layers and the schedule of
           Kolesnikov, Zhai, Beyer 2019, arXiv 1901.09005, (google/revisiting-self-supervised). They use
           8 permutations per image, the same for the whole batch; here each image has its own
Expected:  not run here. A linear classifier on the best layer of ResNet-50: 45.7 % top-1 on `validation`, with the
           recipe of Goyal et al. 2019 (Misra, van der Maaten 2020, arXiv 1912.01991, table 2)
Cost:      35 epochs of nine 64x64 tiles per image, 9e17 FLOPs: a third of 90 supervised epochs at 224 pixels
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config():
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="imagenet2012",
        data_dir=placeholder(str),
        split="train",
        host="decode|resize(292)|random_crop(255)",
        batch_size=256,
        classes=1000,
        examples=1_281_167,
    )
    c.augment = "grayscale(0.66)"  # the task normalises each tile separately
    c.model = dict(name="resnet", variant="50")
    c.task = dict(name="jigsaw", permutations=100, questions=8, tile=64 / 85, part_dim=1000, hidden=4096)
    c.optimizer = dict(
        name="sgd",
        learning_rate=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,
        schedule="step('15 epochs', '25 epochs')",
        warmup="5 epochs",
    )
    c.train = dict(total="35 epochs", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    fewshot = dict(name="fewshot", split="validation", train_split="train", shots=(5,), every="5 epochs")
    c.evals = dict(fewshot=dict(fewshot, layer="stages/2"))
    return c
