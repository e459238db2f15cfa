"""DINOv2 with a ViT-L/16 on ImageNet-2012, the short recipe of the authors: masked patches and KoLeo beside DINO.

Run:       jaxvision train --config=configs/self_supervised/dinov2_vit_l16_imagenet2012.py --workdir=...
Source:    Oquab et al. 2023, arXiv 2304.07193, sec. 4; the authors' ssl_default_config.yaml and vitl16_short.yaml
Expected:  published in their README, of the teacher on `validation` (not run here): 82.9 % linear, 81.6 % k-NN
Cost:      a day on 32 A100 of 80 GB in their README

Their stochastic depth is 0.3 in every block, and KoLeo is computed on each GPU; here stochastic depth grows from 0 to
0.3 in the last block, and KoLeo sees the whole batch. They limit the gradients of backbone and heads separately, decay
tokens and positions as well, and let Adam's moments of the last layer run while its rate is 0.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown
from jaxvision.optim.scaling import sqrt_scaling

EPOCH = 1250  # steps that the authors call an epoch
ARGS = ("centre", "sinkhorn")
COLOURS = "flip_lr|color_jitter(0.4, 0.4, 0.2, 0.1, p=0.8)|grayscale(0.2)"


def get_config(arg: str = "centre") -> ConfigDict:
    """Returns the config.

    Args:
      arg: How the targets are centred, "centre" as in the short recipe, or "sinkhorn" as in the paper's large runs.
    """
    if arg not in ARGS:
        raise unknown("argument of dinov2_vit_l16_imagenet2012.py", arg, ARGS)
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="imagenet2012",
        data_dir=placeholder(str),
        split="train",
        host="decode|resize_short(256)|random_crop(256)",
        batch_size=2048,
        classes=1000,
        examples=1_281_167,
    )
    large = f'random_resized_crop(224, (0.32, 1.0), method="cubic")|{COLOURS}'
    small = f'random_resized_crop(96, (0.05, 0.32), method="cubic")|{COLOURS}|gaussian_blur(p=0.5)|normalize_imagenet'
    c.augment = (
        f"multi_crop(('{large}|gaussian_blur|normalize_imagenet', "
        f"'{large}|gaussian_blur(p=0.1)|solarize(p=0.2)|normalize_imagenet'), '{small}', 2, 8)"
    )
    c.model = dict(
        name="vit",
        variant="L/16",
        pool="token",
        posemb="learned",
        base_grid=14,
        gelu="exact",
        init="normal",
        layer_scale=1e-5,
        drop_path=0.3,
        remat="dots",
    )
    c.task = dict(
        name="dino",
        patches=1.0,
        koleo=0.1,
        centering=arg,
        momentum=0.992,
        teacher_temperature=0.07,
        temperature_warmup=f"{30 * EPOCH} steps",
        network="teacher",
    )
    peak = sqrt_scaling(4e-3 / 1024**0.5, c.data.batch_size)
    c.optimizer = dict(
        name="adamw",
        learning_rate=peak,
        schedule=f"cosine(final={1e-6 / peak})",  # 1e-6 at the end
        warmup=f"{10 * EPOCH} steps",
        weight_decay=0.04,
        weight_decay_schedule="cosine(final=10.0)",
        layer_decay=0.9,
        lr_rules=(("^embedding/", 0.2), (".*", 1.0)),
        clip_norm=3.0,
        freeze=(("last_layer", f"{EPOCH} steps"), (".*", False)),
    )
    c.train = dict(total=f"{100 * EPOCH} steps", precision="bfloat16")
    c.mesh = dict(data=1, fsdp=-1, tensor=1, rules="fsdp")
    c.evals = dict(
        knn=dict(
            name="knn",
            split="validation",
            train_split="train",
            train_subset=dict(examples=128_000, seed=0),
            host="decode|resize_short(256)|central_crop(224)",
            augment="normalize_imagenet",
            every=f"{10 * EPOCH} steps",
        )
    )
    return c
