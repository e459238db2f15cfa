"""Two small towers on the captions of the embedded set `shapes`, with some pairs of colour and kind held out.

Run:       jaxvision train --config=configs/image_text/shapes.py --workdir=runs/shapes_clip
Source:    the losses of Radford et al. 2021, arXiv 2103.00020 (softmax), and, as shapes.py:sigmoid, Zhai et al. 2023,
           arXiv 2303.15343; sized for a short run on a CPU
Expected:  the numbers in experiments/image_text/README.md: this run is `softmax` of the preset `laptop`, and
           :sigmoid is `batch/sigmoid/64`
Cost:      1.6e12 FLOPs, and once about 20 s to render the set
"""

from ml_collections import ConfigDict

from jaxvision.errors import unknown

ARGS = ("softmax", "sigmoid")


def get_config(arg="softmax"):
    if arg not in ARGS:
        raise unknown("argument of shapes.py", arg, ARGS)
    scenes = dict(image_size=32, train=8_000, validation=2_000, test=1_000, text="caption")
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="shapes",
        options=scenes | dict(scenes="seen"),
        split="train",
        host="decode|resize(16)|tokenize('bytes', 48, caption='first')",  # captions begin with the main object
        fields=("image", "tokens", "tokens_mask"),
        batch_size=64,
        classes=10,
        examples=5_276,
        image_size=32,
    )
    c.augment = "normalize(0.5, 0.5)"  # no flips: captions distinguish left and right
    c.model = dict(
        name="two_towers",
        image=dict(name="resnet", variant="8", zero_init_residual=False),
        text=dict(name="text_transformer", width=48, depth=1, num_heads=2, vocab_size=259, length=48, end_token=2),
        embedding=64,
        scale=10.0 if arg == "sigmoid" else 1 / 0.07,
        bias="batch" if arg == "sigmoid" else None,
    )
    c.task = dict(name="image_text", loss=arg)
    c.optimizer = dict(
        name="adamw", learning_rate=3e-3, weight_decay=0.1, b2=0.98, schedule="cosine", warmup="10 percent"
    )
    c.train = dict(total="1_000 steps")
    prompts = ("a big {} in the middle of a plain background", "class_name")
    judged = dict(name="zeroshot", split="validation", prompts=prompts, batch_size=500)
    c.evals = dict(
        seen=judged | dict(options=scenes | dict(scenes="seen", label="pair"), every="20 percent"),
        held_out=judged | dict(options=scenes | dict(scenes="held_out", label="pair")),
        captions=dict(name="retrieval", split="validation[:500]", batch_size=500),
    )
    return c
