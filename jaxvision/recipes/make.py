"""Makes a config from a set of images: looks at it, chooses, and says what was found and chosen."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import logs, models
from jaxvision.errors import UserError
from jaxvision.optim.bit_hyperrule import HyperRule, hyperrule
from jaxvision.recipes import choices, words
from jaxvision.recipes.layouts import find_layout
from jaxvision.recipes.model_names import find_model
from jaxvision.recipes.python_file import docstring, python_file
from jaxvision.recipes.roles import Layout
from jaxvision.recipes.starts import Start, read_start
from jaxvision.recipes.survey import Survey, find_bad, has_size, open_part, refuse_bad, survey


class Wishes(NamedTuple):
    """What a user asks for; None leaves it to the rules of `choices`.

    Attributes:
      model: Short name of a model, see `model_names.find_model`.
      size: Side of the images that the model sees, in pixels.
      epochs: Number of epochs.
      batch: Number of images in a step.
      weights: Folder of weights to start from.
    """

    model: str | None = None
    size: int | None = None
    epochs: int | None = None
    batch: int | None = None
    weights: str | None = None


class Recipe(NamedTuple):
    """A config that was made.

    Attributes:
      config: Config.
      reasons: Reasons for values, by dotted key.
      lines: Lines that say what was found and chosen.
      title: First line of the docstring of its file.
      facts: Facts about the images, for the lines of a changed config.
    """

    config: ConfigDict
    reasons: dict[str, str]
    lines: tuple[str, ...]
    title: str
    facts: words.Facts

    def changed(self, config: ConfigDict) -> "Recipe":
        """Returns the recipe with another config; its lines are of that config, without reasons that hold no more.

        If the set of the training images differs, or the part that is held out, the evaluation on that part follows.

        Args:
          config: Config after the changes of the user.

        Raises:
          UserError: The data as changed cannot be read.
        """
        changes = _differing(config, self.config)
        if not changes:
            return self
        if self.facts.share is not None and not words.touched(changes, "evals.val.subset", "evals.val.split"):
            config = _with_held_out(config)
            changes = _differing(config, self.config)
        kept = {key: why for key, why in self.reasons.items() if words.holds(key, changes)}
        return self._replace(
            config=config, reasons=kept, lines=words.lines(self.facts, config, changes), title=words.title(config)
        )

    def file(self, path: str) -> str:
        """Returns the text of the Python file of the config.

        Args:
          path: Path of the file.
        """
        source = "made from the images by `jaxvision train --data`; docs/your_images.md explains each line"
        return python_file(self.config, docstring(self.title, path, source), self.reasons)


def _differing(one: ConfigDict, other: ConfigDict) -> set[str]:
    new, old = configs.flatten(one), configs.flatten(other)
    return {key for key in (*new, *old) if key not in new or key not in old or new[key] != old[key]}


def _with_held_out(config: ConfigDict) -> ConfigDict:
    """Returns a config whose evaluation `val` is of the part that its training images leave out."""
    plain = config.to_dict()
    subset, val = plain["data"].get("subset") or {}, (plain.get("evals") or {}).get("val")
    if val and subset.get("hold_out") is not None and subset.get("part", "rest") == "rest":
        val |= {"split": plain["data"].get("split"), "subset": {**subset, "part": "held_out"}}
    return configs.normalised(ConfigDict(plain))


def make(data: str, wishes: Wishes, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Makes the config of a classifier for a set of images.

    The same images and wishes give the same config.

    Args:
      data: Folder, table or name of a set, see `layouts.find_layout`.
      wishes: Wishes of the user.
      changes: New values by dotted key, of which those of `data.options` decide how the images are read.

    Raises:
      UserError: The images cannot be read as a set with classes, or a wish does not fit.
    """
    start = None if wishes.weights is None else read_start(wishes.weights)
    model = _model(wishes, start)
    with logs.errors_only("jaxvision.data"):  # it also tries splits that the run does not read
        layout = find_layout(data)
    section: dict[str, Any] = dict(name=layout.name, data_dir=layout.data_dir, split=layout.splits["train"])
    section |= {"options": layout.options} if layout.options else {}
    section = _with_options(section, changes or {})
    source = open_part(section)
    seen = survey(source)
    share = None if "validation" in layout.splits else choices.HOLD_OUT.of(seen.examples)
    if share is not None and seen.counts and seen.counts[-1] < 2:
        share = None  # no class has two images
    if share is not None:
        section["subset"] = dict(hold_out=share, seed=0)
    examples = len(open_part(section))
    return _chosen(layout, section, seen, examples, share, model, start, wishes)


def _with_options(section: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a section `data` with the options among the changes, unless these name another kind of source."""
    options = {key: value for key, value in changes.items() if words.touched([key], "data.options")}
    if not options or "data.name" in changes:
        return section
    return configs.override(ConfigDict({"data": section}), options).data.to_dict()


def check_images(config: ConfigDict) -> list[str]:
    """Decodes the images of every split that a config names, by the rules of a run.

    Args:
      config: Config from `make`, which may have been changed.

    Returns:
      Lines about what was checked, and about images that cannot be read.

    Raises:
      UserError: More images of a split cannot be read than `data.max_bad_fraction` allows.
    """
    data = config.data.to_dict()
    sections = [data]
    for entry in config.get("evals", ConfigDict()).to_dict().values():
        own = {key: entry.get(key) or data.get(key) for key in ("data_dir", "options")}
        sections.append(
            {"name": entry.get("data") or data["name"], **own, **{k: entry.get(k) for k in ("split", "subset")}}
        )
    lines, checked, all_images = [], 0, 0
    for section in sections:
        source = open_part(section)
        bad, tried = find_bad(source)
        checked, all_images = checked + tried, all_images + len(source)
        lines += refuse_bad(source, bad, data.get("max_bad_fraction", 0.001))
    of = f"{checked:,} of " if checked < all_images else ""
    return [f"checked: {of}{all_images:,} images, {'all can be read' if not lines else 'some cannot be read'}", *lines]


def _model(wishes: Wishes, start: Start | None) -> dict[str, Any]:
    """Returns the section `model`: that of the weights if there are any."""
    if wishes.model is None:
        if start is None:
            raise UserError("--model is missing: add --model=resnet18, or resnet50, vit-s16, convnext-t, ...")
        return start.model
    model = find_model(wishes.model)
    if start is None:
        return model
    theirs = {key: str(start.model.get(key, "")) for key in model}
    if theirs != {key: str(value) for key, value in model.items()}:
        raise UserError(
            f"--from={wishes.weights} holds weights of {words.full_name(start.model)}, and --model={wishes.model} "
            f"means {words.full_name(model)}: leave --model out"
        )
    return start.model


def _chosen(
    layout: Layout,
    section: dict[str, Any],
    seen: Survey,
    examples: int,
    share: float | None,
    model: dict[str, Any],
    start: Start | None,
    wishes: Wishes,
) -> Recipe:
    name, from_weights = model["name"], start is not None
    batch = wishes.batch or choices.batch_size(examples)
    if batch > examples:
        raise UserError(
            f"--batch={batch} is more than the {examples:,} training images: give --batch={examples} at most"
        )
    model, size, why_size, why_model = _fitted(model, seen, start, wishes)
    direct = seen.uniform == (size, size) and size <= choices.SMALL
    others = [split for role, split in layout.splits.items() if role != "train"] if direct else []
    direct = direct and all(has_size(open_part({**section, "split": s, "subset": None}), (size, size)) for s in others)
    rule = (
        hyperrule(examples, seen.uniform or (seen.side, seen.side), batch) if from_weights and name == "bit" else None
    )
    epochs = wishes.epochs or int((choices.EPOCHS_FROM_WEIGHTS if from_weights else choices.EPOCHS).of(examples))
    mixes = not seen.multi_label
    chain = choices.augmentation(name, examples, batch, size, direct=direct, mixes=mixes, from_weights=from_weights)
    if rule is not None and rule.mixup and mixes:
        chain.append(f"mixup({rule.mixup})")
    normalize = start.normalize if start is not None else "normalize_imagenet"
    host, why_host = _host(seen, size, examples, direct, from_weights, rule, wishes)

    c = ConfigDict()
    c.seed = 0
    c.data = section | dict(host=host, batch_size=batch)
    c.augment = "|".join(op for op in (*chain, normalize) if op != "none") or "none"
    c.model = model
    if start is not None:
        same = bool(seen.names) and tuple(seen.names) == start.classes
        c.init = dict(weights=start.weights, head="keep" if same else "new")
    c.task = dict(name="supervised") | (dict(loss="sigmoid_cross_entropy") if seen.multi_label else {})
    c.optimizer = choices.optimizer(name, batch, from_weights=from_weights)
    total = f"{epochs} epoch{'s' * (epochs > 1)}"
    every = max(round(epochs / choices.EVALUATIONS), 1)
    if rule is not None:
        c.optimizer = dict(name="sgd", learning_rate=rule.learning_rate, momentum=0.9, schedule=rule.schedule)
        c.optimizer.warmup = f"{rule.warmup} steps"
        total = total if wishes.epochs else f"{rule.steps} steps"
    c.train = dict(total=total, precision="float32", log_every="1 percent", checkpoint_every="10 percent", keep=2)
    c.evals = _evals(layout, section, seen, share, f"{every} epoch{'s' * (every > 1)}" if rule is None else "5 percent")
    reasons = {
        "data.host": why_host,
        "data.batch_size": f"for {examples:,} images" if not wishes.batch else "--batch",
        "optimizer.learning_rate": f"for batches of {batch}",
        "train.total": "--epochs" if wishes.epochs else f"for {examples:,} images",
        "train.precision": '"bfloat16" is faster on a GPU or TPU, and slower on a CPU',
        "train.keep": "the latest checkpoints stay, older ones are deleted",
    }
    if "flip_lr" in chain:
        reasons["augment"] = "without flip_lr for text, digits, and all that a mirror changes"
    if share is not None:
        reasons["data.subset"] = f"{share:.0%} of each class is held out for the evaluation val"
    if why_model:
        reasons["model"] = why_model
    config = configs.normalised(c)
    images = f"{size}x{size} pixels ({why_size}); {why_host}"
    facts = words.Facts(layout, seen, share, seen.examples - examples, images, why_model)
    return Recipe(config, reasons, words.lines(facts, config), words.title(config), facts)


def _fitted(
    model: dict[str, Any], seen: Survey, start: Start | None, wishes: Wishes
) -> tuple[dict[str, Any], int, str, str]:
    """Returns the model, the side of its images, and the reasons for both."""
    fixed = None if model["name"] not in models.NAMES else models.NAMES.more(models.NAMES[model["name"]], "image_size")
    if wishes.size is not None:
        size, why = wishes.size, "--size"
    elif fixed is not None:
        size, why = int(fixed), f"the size of {model['name']}"
    elif start is not None and start.size is not None:
        size, why = start.size, "as the weights were trained"
    else:
        size = choices.image_size(seen.side, seen.uniform)
        why = "as they are" if seen.uniform == (size, size) else f"their shorter sides have a median of {seen.side}"
    why_model = ""
    if start is None:
        model, why_model = choices.for_small_images(model, size)
    fitting = choices.fitting_size(model, size)
    if fitting != size:
        why = f"the size next to {size} that {words.full_name(model)} takes"
    if fitting != size and wishes.size is not None:
        raise UserError(f"--size={size} does not fit {words.full_name(model)}: give --size={fitting}")
    return model, fitting, why, why_model


def _host(
    seen: Survey, size: int, examples: int, direct: bool, from_weights: bool, rule: HyperRule | None, wishes: Wishes
) -> tuple[str, str]:
    """Returns the host operations, and their reason."""
    if direct:
        return "decode", "all are alike and small, so the set is held in memory"
    decode = "decode(fast=True)" if seen.pixels >= choices.MEGAPIXELS else "decode"
    crop = choices.crop(size, examples, from_weights=from_weights)
    if rule is not None and wishes.size is None:
        return rule.host.replace("decode", decode, 1), "BiT-HyperRule"
    alike = "photographs of many sizes" if seen.uniform is None else f"images of {seen.uniform[0]}x{seen.uniform[1]}"
    return f"{decode}|{crop}", f"a random crop of each is resized, since these are {alike}"


def _evals(layout: Layout, section: dict[str, Any], seen: Survey, share: float | None, every: str) -> dict[str, Any]:
    name = "multilabel" if seen.multi_label else "classify"
    evals: dict[str, Any] = {}
    if "validation" in layout.splits:
        evals["val"] = dict(name=name, split=layout.splits["validation"], every=every)
    elif share is not None:
        subset = dict(hold_out=share, part="held_out", seed=0)
        evals["val"] = dict(name=name, split=section["split"], subset=subset, every=every)
    if "test" in layout.splits:
        evals["test"] = dict(name=name, split=layout.splits["test"])
    return evals
