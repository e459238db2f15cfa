"""Two small towers on CIFAR-10, with captions made from the class names.

Run:       jaxvision train --config=configs/image_text/cifar10_class_names.py --workdir=... \\
               --config.data.data_dir=cifar-10-batches-bin
Source:    Radford et al. 2021, arXiv 2103.00020, on captions made from labels; sized for a CPU
Expected:  the number in experiments/image_text/README.md for `softmax` of the preset `cifar10`, which is this run with
           another order of the images
Cost:      6e12 FLOPs
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config():
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="cifar",
        data_dir=placeholder(str),
        split="train[:45000]",
        host="decode|resize(16)|class_captions(('photo', 'clip7'))|tokenize('bytes', 44, caption='all', captions=8)",
        fields=("image", "tokens", "tokens_mask"),
        batch_size=256,
        classes=10,
        examples=45_000,
        image_size=32,
    )
    c.augment = "pick_caption|random_crop(16, 2)|flip_lr|normalize(0.5, 0.5)"
    c.model = dict(
        name="two_towers",
        image=dict(name="resnet", variant="8", zero_init_residual=False),
        text=dict(name="text_transformer", width=32, depth=1, num_heads=2, vocab_size=259, length=44, end_token=2),
        embedding=64,
    )
    c.task = dict(name="image_text", loss="softmax")
    c.optimizer = dict(
        name="adamw", learning_rate=3e-3, weight_decay=0.1, b2=0.98, schedule="cosine", warmup="10 percent"
    )
    c.train = dict(total="1_200 steps")
    c.evals = dict(
        val=dict(
            name="zeroshot",
            split="train[45000:]",
            prompts=("photo", "class_name", "clip7", "clip80"),
            batch_size=500,
            every="25 percent",
        )
    )
    return c
