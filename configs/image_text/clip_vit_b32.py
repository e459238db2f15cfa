"""CLIP ViT-B/32 on 400 million pairs from the web.

Run:       jaxvision train --config=configs/image_text/clip_vit_b32.py --workdir=... --config.data.data_dir=DIR
           where DIR contains the tars of LAION-400M as img2dataset writes them
Source:    Radford et al. 2021, arXiv 2103.00020, sec. 2.4 and 2.5, tables 18 and 20. Departure: crops are those of
           open_clip (90 to 100 % of the area); the paper takes a square crop of the resized image
Expected:  zero-shot top-1 on ImageNet, 80 prompts: 63.3 % (OpenAI's weights, trained on pairs that are not public),
           62.9 % (open_clip's on LAION-400M), both as open_clip evaluates them, docs/openclip_results.csv
Cost:      5.8e20 FLOPs; 36 hours on 128 A100 (open_clip, docs/PRETRAINED.md)
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

VOCABULARY = "~/clip/bpe_simple_vocab_16e6.txt.gz"  # from openai/CLIP


def get_config():
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="webdataset",
        data_dir=placeholder(str),
        options=dict(shards=dict(train="*.tar")),
        split="train",
        host=f"decode|random_resized_crop(224, (0.9, 1.0), method='bicubic')|tokenize('clip', 77, path='{VOCABULARY}')",
        fields=("image", "tokens", "tokens_mask"),
        batch_size=32_768,
        examples=407_332_084,  # as many as open_clip could download
        max_bad_fraction=0.01,
    )
    c.augment = "normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))"
    c.model = dict(name="two_towers", variant="clip_vit_b32")
    c.task = dict(name="image_text", loss="softmax")
    c.optimizer = dict(
        name="adamw",
        learning_rate=5e-4,
        weight_decay=0.2,
        decay_rules=((r"(kernel|embedding)$", 1.0), (r".*", 0.0)),  # all but gains, biases and the class token
        b2=0.98,
        eps=1e-6,
        schedule="cosine",
        warmup="2_000 steps",
    )
    c.train = dict(total="32 epochs", precision="bfloat16")
    c.mesh = dict(data=-1, fsdp=1, tensor=1, rules="replicated")
    c.evals = dict(
        imagenet=dict(
            name="zeroshot",
            data="imagenet2012",
            split="validation",
            host="decode|resize_short(224, method='bicubic')|central_crop(224)",
            prompts=("class_name", "photo", "clip80"),
            batch_size=1024,
            every="1 epoch",
        )
    )
    return c
