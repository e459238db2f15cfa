"""The sizes of the study: data, towers, budgets, and which arms are run."""

from typing import Any, NamedTuple

from jaxvision.data.text import prompts

LOSSES = ("softmax", "sigmoid")
TOWERS = ("scratch", "locked", "tuned")


class Arm(NamedTuple):
    """The settings of a run, without its seed.

    Attributes:
      loss: Loss, "softmax" or "sigmoid".
      batch_size: Number of pairs.
      temperature: Fixed temperature; None to learn it, starting at 0.07.
      shuffled: True to give each image the caption of another.
      tower: Start of an image tower without a projection: "scratch", or "locked" or "tuned" after training with
        labels. None for a tower with a projection.
    """

    loss: str
    batch_size: int
    temperature: float | None = None
    shuffled: bool = False
    tower: str | None = None


class Preset(NamedTuple):
    """One size of the study.

    Attributes:
      title: Name of the data, for captions of figures.
      data: Section `data` of the configs, without `batch_size`; its host operations make the tokens.
      caption: Augmentation that picks one of several captions; empty if there is only one.
      augment: Augmentation of images.
      image, text: Sections of the towers.
      embedding: Width of the embeddings that are compared.
      features: Width of the features of the image tower, which are compared if it has no projection.
      full: Arm from which all others differ.
      images: Number of images that a run sees, with repetitions.
      rate: Peak learning rate at the batch size of `full`; for others it scales with the square root of the size.
      validation: Split for evaluations.
      evals: Section `evals`.
      measure: Result that curves show, and its name.
      chance: Chance level of `measure`, if known.
      criteria: Criteria of study.py, each with the results that it uses.
      reported: Further results of the arms, with their names.
      seeds: Seeds of the arms of the criteria; `further_seeds` are those of the others.
      batch_sizes, temperatures: Values besides those of `full`.
      towers: True to run the arms of `tower`, which need labels.
      needs_dir: Data that --data_dir must name; empty if there is a default.
    """

    title: str
    data: dict[str, Any]
    caption: str
    augment: str
    image: dict[str, Any]
    text: dict[str, Any]
    embedding: int
    features: int
    full: Arm
    images: int
    rate: float
    validation: str
    evals: dict[str, Any]
    measure: tuple[str, str]
    chance: float | None
    criteria: dict[str, tuple[str, ...]]
    reported: dict[str, str]
    seeds: tuple[int, ...]
    further_seeds: tuple[int, ...]
    batch_sizes: tuple[int, ...] = ()
    temperatures: tuple[float, ...] = ()
    towers: bool = False
    needs_dir: str = ""

    @property
    def gated(self) -> dict[str, Arm]:
        """The arms of the criteria."""
        return {"softmax": self.full, "shuffled": self.full._replace(shuffled=True)}

    @property
    def further(self) -> dict[str, Arm]:
        """The other arms. An arm with the loss and batch size of `full` is already in `gated`."""
        full = self.full
        arms = {
            f"batch/{loss}/{size}": full._replace(loss=loss, batch_size=size)
            for loss in LOSSES
            for size in sorted({full.batch_size, *self.batch_sizes})
        }
        arms |= {f"temperature/{value:g}": full._replace(temperature=value) for value in self.temperatures}
        arms |= {f"tower/{tower}": full._replace(tower=tower) for tower in TOWERS if self.towers}
        return {name: arm for name, arm in arms.items() if arm != full}

    def augmentation(self, arm: Arm) -> str:
        """The spec of an arm.

        Args:
          arm: Arm of the study.
        """
        parts = (self.caption, "shuffle_captions" if arm.shuffled else "", self.augment)
        return "|".join(part for part in parts if part)


def _bytes(length: int, width: int) -> dict[str, Any]:
    sizes = dict(width=width, depth=1, num_heads=2, vocab_size=259, length=length, end_token=2)
    return dict(name="text_transformer", **sizes)


def _zeroshot(name: str, *measures: str) -> tuple[str, ...]:
    """Keys of the results of a set of prompts."""
    return tuple(f"val/zeroshot_{prompts.get_prompts(name).name}/{measure}" for measure in measures)


_RESNET = dict(name="resnet", variant="8", zero_init_residual=False)
_FIELDS = ("image", "tokens", "tokens_mask")
_EVERY = "20 percent"

# shapes: the sentence begins with the main object, "a big striped red circle in the middle ...". 48 tokens of bytes
# leave room for little else.
_SCENES = dict(image_size=32, train=8_000, validation=2_000, test=1_000, text="caption")
_SCENE_PROMPT = "a big {} in the middle of a plain background"
_SCENE = dict(name="zeroshot", split="validation", prompts=(_SCENE_PROMPT, "class_name"), batch_size=500)
_PAIR = f"zeroshot_{prompts.get_prompts(_SCENE_PROMPT).name}/top1"

PRESETS = {
    "laptop": Preset(
        title="shapes at 16 pixels",
        data=dict(
            name="shapes",
            options=_SCENES | dict(scenes="seen"),
            split="train",
            host="decode|resize(16)|tokenize('bytes', 48, caption='first')",
            fields=_FIELDS,
            classes=10,
            examples=5_276,
        ),
        caption="",
        augment="normalize(0.5, 0.5)",  # no flips: captions may distinguish left and right
        image=_RESNET,
        text=_bytes(48, 48),
        embedding=64,
        features=64,
        full=Arm("softmax", 64),
        images=1_000 * 64,
        rate=3e-3,
        validation="validation",
        evals=dict(
            seen=_SCENE | dict(options=_SCENES | dict(scenes="seen", label="pair"), every=_EVERY),
            held_out=_SCENE | dict(options=_SCENES | dict(scenes="held_out", label="pair")),
        ),
        measure=(f"seen/{_PAIR}", "zero-shot top-1 of 100 pairs of colour and kind"),
        chance=0.01,
        criteria={
            "learns": (f"seen/{_PAIR}",),
            "pairs": (f"seen/{_PAIR}",),
            "composes": (f"held_out/{_PAIR}",),
        },
        reported={
            f"seen/{_PAIR}": "pairs that were seen",
            f"held_out/{_PAIR}": "pairs held out",
        },
        seeds=(0, 1, 2),
        further_seeds=(0,),
        batch_sizes=(16, 256),
        temperatures=(0.02, 0.2),
    ),
    "cifar10": Preset(
        title="CIFAR-10 at 16 pixels, captions of class names",
        data=dict(
            name="folder",
            split="train",
            host="decode|resize(16)|class_captions(('photo', 'clip7'))"
            "|tokenize('bytes', 44, caption='all', captions=8)",
            fields=_FIELDS,
            classes=10,
            examples=45_000,
        ),
        caption="pick_caption",
        augment="random_crop(16, 2)|flip_lr|normalize(0.5, 0.5)",
        image=_RESNET,
        text=_bytes(44, 32),
        embedding=64,
        features=64,
        full=Arm("softmax", 256),
        images=1_200 * 256,
        rate=3e-3,
        validation="validation",
        evals=dict(
            val=dict(
                name="zeroshot",
                split="validation",
                prompts=("photo", "class_name", "clip7", "clip80"),
                batch_size=500,
                every=_EVERY,
            )
        ),
        measure=(*_zeroshot("clip80", "top1"), "zero-shot top-1, ensemble of CLIP's 80 prompts"),
        chance=0.1,
        criteria={
            "learns": _zeroshot("clip80", "top1"),
            "pairs": _zeroshot("clip80", "top1"),
            "ensemble": _zeroshot("clip80", "top1", "prompt_mean"),
        },
        reported={
            key: label
            for name, measure, label in (
                ("class_name", "top1", "class name"),
                ("photo", "top1", "one prompt"),
                ("clip7", "top1", "7 prompts"),
                ("clip7", "prompt_mean", "mean of the 7 alone"),
                ("clip80", "top1", "80 prompts"),
                ("clip80", "prompt_mean", "mean of the 80 alone"),
                ("clip80", "prompt_std", "deviation of the 80 alone"),
            )
            for key in _zeroshot(name, measure)
        },
        seeds=(0, 1, 2, 3, 4),
        further_seeds=(0,),
        batch_sizes=(64, 1024),
        temperatures=(0.02, 0.2),
        towers=True,
        needs_dir="a folder tree train/CLASS/*.png, validation/CLASS/*.png "
        "(experiments/data_scaling/make_cifar10_folder.py makes one)",
    ),
    "ucm": Preset(
        title="UCM captions at 24 pixels",
        data=dict(
            name="webdataset",
            options=dict(text="captions", label="class"),
            split="train",
            host="decode|resize(24)|tokenize('bytes', 64, caption='all', captions=5)",
            fields=_FIELDS,
            classes=21,
            examples=1_680,
        ),
        caption="pick_caption",
        augment="random_crop(24, 3)|flip_lr|flip_ud|normalize(0.5, 0.5)",
        image=_RESNET,
        text=_bytes(64, 48),
        embedding=64,
        features=64,
        full=Arm("softmax", 128),
        images=800 * 128,
        rate=3e-3,
        validation="val",
        evals=dict(val=dict(name="retrieval", split="val", by=("text", "class"), batch_size=210, every=_EVERY)),
        measure=("val/image_to_text_class/recall1", "recall@1 by class, image to text"),
        chance=None,
        criteria={
            "pairs": ("val/image_to_text_class/recall1",),
            "far": (
                "val/image_to_text_class/recall1",
                "val/text_to_image_class/recall1",
                "val/image_to_text/recall10",
                "val/text_to_image/recall10",
            ),
        },
        reported={
            f"val/{way}{by}/recall{k}": f"{way.replace('_', ' ')}, {'by class' if by else 'by text'}, recall@{k}"
            for way in ("image_to_text", "text_to_image")
            for by in ("", "_class")
            for k in (1, 5, 10)
        },
        seeds=(0, 1, 2, 3, 4),
        further_seeds=(0,),
        batch_sizes=(32,),
        needs_dir="the tars train-0000*.tar and val-00000.tar with captions and classes",
    ),
}

# All 80 prompts of the evaluation occur in training; else as `cifar10`.
PRESETS["cifar10_prompts"] = PRESETS["cifar10"]._replace(
    title="CIFAR-10 at 16 pixels, captions of class names in all 80 prompts",
    data=PRESETS["cifar10"].data
    | dict(host="decode|resize(16)|class_captions('clip80')|tokenize('bytes', 44, caption='all', captions=80)"),
    criteria={
        "learns": _zeroshot("clip80", "top1"),
        "ensemble": _zeroshot("clip80", "top1", "prompt_mean"),
        "one_prompt": (*_zeroshot("clip80", "top1"), *_zeroshot("photo", "top1")),
    },
    batch_sizes=(),
    temperatures=(),
    towers=False,
)
