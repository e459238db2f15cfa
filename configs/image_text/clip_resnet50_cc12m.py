"""CLIP with a ResNet-50 on Conceptual Captions, 12 or 3 million pairs.

Run:       jaxvision train --config=configs/image_text/clip_resnet50_cc12m.py:cc12m --workdir=... \\
               --config.data.data_dir=DIR
           where DIR contains the tars of pixparse/cc12m-wds (or cc3m-wds, for :cc3m) of the Hugging Face Hub
Source:    Radford et al. 2021, arXiv 2103.00020, sec. 2.5, with the settings of open_clip's README ("Sample running
           code") on 8 GPUs, which issue 448 of mlfoundations/open_clip confirms for cc3m. open_clip does not say how it
           trained on cc12m; 32 epochs are its default
Expected:  zero-shot top-1 on ImageNet, 80 prompts: cc12m 36.45 % (open_clip, docs/PRETRAINED.md), cc3m about 19 %
           (issue 448), near 20 % on these tars (issue 930). If you download the links again, fewer pairs
           are left and the accuracy is lower
Cost:      1.8e19 FLOPs (cc12m), 4.5e18 (cc3m)
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.errors import unknown

VOCABULARY = "~/clip/bpe_simple_vocab_16e6.txt.gz"  # from openai/CLIP
SETS = {  # pairs, tars, epochs
    "cc12m": (10_968_539, "cc12m-train-{0000..2175}.tar", 32),
    "cc3m": (2_905_954, "cc3m-train-{0000..0575}.tar", 30),
}
ARGS = tuple(SETS)


def get_config(arg="cc12m"):
    if arg not in SETS:
        raise unknown("argument of clip_resnet50_cc12m.py", arg, ARGS)
    examples, shards, epochs = SETS[arg]
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="webdataset",
        data_dir=placeholder(str),
        options=dict(shards=dict(train=shards)),
        split="train",
        host=f"decode|random_resized_crop(224, (0.9, 1.0), method='bicubic')|tokenize('clip', 77, path='{VOCABULARY}')",
        fields=("image", "tokens", "tokens_mask"),
        batch_size=1024,
        examples=examples,
        max_bad_fraction=0.01,
    )
    c.augment = "normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))"
    c.model = dict(name="two_towers", variant="clip_rn50")
    c.task = dict(name="image_text", loss="softmax")
    c.optimizer = dict(
        name="adamw",
        learning_rate=1e-3,
        weight_decay=0.1,
        decay_rules=((r"(kernel|embedding)$", 1.0), (r".*", 0.0)),  # all but gains and biases
        schedule="cosine",
        warmup="10_000 steps",
    )
    c.train = dict(total=f"{epochs} epochs", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        imagenet=dict(
            name="zeroshot",
            data="imagenet2012",
            split="validation",
            host="decode|resize_short(224, method='bicubic')|central_crop(224)",
            prompts=("class_name", "photo", "clip80"),
            every="2 epochs",
        )
    )
    return c
