"""What do pairs of image and text teach, and what does that depend on?

After Radford et al. 2021 (CLIP), arXiv 2103.00020, and Zhai et al. 2023 (SigLIP), arXiv 2303.15343: two small towers
learn to match images with their captions, and are evaluated on tasks that they were not trained for.

    gated        the softmax loss, with true captions and with shuffled ones. Shuffled, each image has the caption of
                 another image, drawn again in each step, so that nothing can be learned about pairs
    batch        several batch sizes for the softmax and the sigmoid loss; all see the same number of images
    temperature  a fixed temperature instead of a learned one
    tower        an image tower without a projection, to whose features texts are projected. It is trained with labels
                 first and then kept fixed (`locked`, Zhai et al. 2022, arXiv 2111.07991) or trained further
                 (`tuned`), or it starts from random weights (`scratch`)

A seed determines initialisation, order, views and the choice among captions; differences are paired by seed. All arms
are evaluated at the last step on the validation split; evaluations during training give accuracy against steps. The
sizes of the study are in presets.py, the report in analysis.py.

The criteria were fixed before the first run of a reported seed, except the bar of `composes`: it was the accuracy on
shuffled captions, and was raised after that run. A criterion is met if the 95 % t-interval of a difference is above
zero:
    learns     the measure minus chance (if chance is known)
    pairs      softmax minus shuffled
    ensemble   the accuracy of the ensemble of prompts minus the mean accuracy of its single prompts
    one_prompt the accuracy of the ensemble minus that of the single prompt "a photo of a {}."
    composes   the accuracy on pairs of colour and kind that no training caption or image had, minus the 10 % of a
               model that names every colour and guesses the kind
    far        softmax minus shuffled, recall@1 by class and recall@10 by text: the lower end is above 20 points
Each preset names the criteria that it has the data for. In the preset `cifar10_prompts` all prompts of the ensemble
occur in training, in `cifar10` only 8 of 80. Its criteria, of which `one_prompt` is new, were fixed before its first
run. Everything else is reported, but is not a criterion.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.analysis.criteria import Verdict
from jaxvision.commands.study import Row, Run, check_dir, config_of, sibling, workdir
from jaxvision.data.text import images_only
from jaxvision.optim.scaling import sqrt_scaling

presets = sibling(__file__, "presets")
PRESETS = tuple(presets.PRESETS)


def runs(preset: str, data_dir: str | None) -> list[Run]:
    """Lists all runs: the arms of the criteria seed by seed, then the others.

    Args:
      preset: Name of the preset.
      data_dir: Folder of the data, from --data_dir; None if it is not given.
    """
    check_dir(preset, presets.PRESETS[preset].needs_dir, data_dir)
    return _plan(preset, data_dir)


def get_config(arg: str = f"{PRESETS[0]}/softmax/seed0") -> ConfigDict:
    """Returns the config of one run, PRESET/RUN. Presets that need --data_dir need --config.data.data_dir=DIR here.

    Args:
      arg: Name of the run, "PRESET/RUN".
    """
    return config_of(arg, PRESETS, _plan)


def criteria(rows: list[Row], preset: str) -> dict[str, Verdict]:
    """Judges the criteria that the preset names.

    Args:
      rows: Results of all runs, one row per run.
      preset: Name of the preset.
    """
    return sibling(__file__, "analysis").criteria(rows, presets.PRESETS[preset])


def analyse(rows: list[Row], out: Path, preset: str) -> str:
    """Writes report.md, report.html, figures and summary.json. Returns the report.

    Args:
      rows: Results of all runs, one row per run.
      out: Folder of the study.
      preset: Name of the preset.
    """
    return sibling(__file__, "analysis").write(rows, out, presets.PRESETS[preset])


def _plan(preset: str, data_dir: str | None) -> list[Run]:
    p, planned = presets.PRESETS[preset], {}
    for name, arm, seed in _arms(p):
        pretrained = arm.tower in ("locked", "tuned")
        if pretrained:
            start = f"tower/labels/seed{seed}"
            tags = dict(arm="labels", seed=seed)
            planned.setdefault(start, Run(start, _labelled(p, seed, data_dir), tags))
        fill = _starts_from(start) if pretrained else None
        tags = dict(arm=name, seed=seed, **arm._asdict())
        run = f"{name}/seed{seed}"
        planned.setdefault(run, Run(run, _config(p, arm, seed, data_dir), tags, fill))
    return list(planned.values())


def _arms(p: presets.Preset) -> Iterator[tuple[str, presets.Arm, int]]:
    """(name, arm, seed) of every run."""
    yield from ((name, arm, seed) for seed in p.seeds for name, arm in p.gated.items())
    yield from ((name, arm, seed) for seed in p.further_seeds for name, arm in p.further.items())


def _config(p: presets.Preset, arm: presets.Arm, seed: int, data_dir: str | None) -> ConfigDict:
    c = _shared(p, seed, data_dir, arm.batch_size)
    c.augment = p.augmentation(arm)
    sigmoid = arm.loss == "sigmoid"
    c.model = dict(
        name="two_towers",
        image=p.image,
        text=p.text,
        embedding=p.features if arm.tower else p.embedding,
        image_projection="none" if arm.tower else "linear",
        scale=10.0 if sigmoid else 1 / (arm.temperature or 0.07),
        bias="batch" if sigmoid else None,
    )
    c.task = dict(name="image_text", loss=arm.loss)
    if arm.tower == "locked":
        c.task.locked = ("image_tower",)
    if arm.tower in ("locked", "tuned"):
        c.init = dict(weights="WORKDIR", part="image_tower", head="drop")
    if arm.temperature is not None:
        c.optimizer.freeze = ((r"^logit_scale$", True), (r".*", False))
    c.evals = p.evals
    return c


def _labelled(p: presets.Preset, seed: int, data_dir: str | None) -> ConfigDict:
    """The image tower as a classifier, trained on the same number of images."""
    c = _shared(p, seed, data_dir, p.full.batch_size)
    c.data.update(host=images_only(c.data.host), fields=("image", "label"))
    c.augment = p.augment
    c.model = p.image
    c.task = dict(name="supervised")
    c.evals = dict(val=dict(name="classify", split=p.validation, batch_size=500))
    return c


def _shared(p: presets.Preset, seed: int, data_dir: str | None, batch_size: int) -> ConfigDict:
    c = ConfigDict()
    c.seed = seed
    c.data = p.data | dict(batch_size=batch_size, data_dir=data_dir or placeholder(str))
    rate = sqrt_scaling(p.rate / p.full.batch_size**0.5, batch_size)
    c.optimizer = dict(
        name="adamw", learning_rate=rate, weight_decay=0.1, b2=0.98, schedule="cosine", warmup="10 percent"
    )
    c.train = dict(total=f"{round(p.images / batch_size)} steps", log_every="5 percent", checkpoint_every="0 steps")
    return c


def _starts_from(name: str) -> Callable[[list[Row], Path], dict[str, Any]]:
    return lambda rows, out: {"init.weights": str(workdir(out, name))}
