"""Context prediction on ImageNet-2012 with ResNet-50: in which of eight directions is one patch from another?

Run:       jaxvision train --config=configs/self_supervised/context_resnet50_imagenet2012.py --workdir=...
           With the paper's colours instead of grey images: --config.augment=none --config.task.colors=drop
Source:    Doersch, Gupta, Efros 2015, arXiv 1505.05192, with the patch size, the grey images, the layers and the
           schedule of Kolesnikov, Zhai, Beyer 2019, arXiv 1901.09005 (google/revisiting-self-supervised). There each
           patch is inside a cell of a fixed grid of 85 pixels; here the position of the grid is random
Expected:  not run here. A linear classifier on ResNet-50: 40.4 % top-1 on `validation` after 70 epochs with MMSelfSup's
           recipe (its model zoo, "Relative-Loc")
Cost:      35 epochs of nine 64x64 patches per image, 9e17 FLOPs: a third of 90 supervised epochs at 224 pixels
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
    c.augment = "grayscale(0.66)"  # the task normalises each patch separately
    c.model = dict(name="resnet", variant="50")
    # 64 pixels, 21 between them, shifted by up to 10
    c.task = dict(
        name="context", patch=64 / 255, gap=21 / 64, jitter=10 / 64, colors="keep", part_dim=1000, hidden=4096
    )
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
