"""The pointing game: how often the strongest place of a map lies in the object, whose mask is known."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import jax
import numpy as np

from jaxvision.arguments import Range
from jaxvision.errors import UserError
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.views import outputs_with_key
from jaxvision.explain.base import Subject
from jaxvision.explain.maps import make_maps, read_map_maker, why_no_maps
from jaxvision.parallel.distributed import gather
from jaxvision.registry import part

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables

MASK = "instance_mask"


def _metrics(options: Mapping[str, Any], classes: int | None = None) -> tuple[str, ...]:
    name = "_".join(re.findall(r"\w+", f"pointing_{options.get('of', 'gradient')}"))
    return (*(f"{name}/{metric}" for metric in ("hits", "hits_low", "hits_high", "chance")), "examples")


def points_at(maps: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Tells for each image whether the largest value of its map lies in the object.

    Source: Zhang et al. 2018, arXiv 1608.00507, sec. 4.2. There a hit may be 15 pixels beside the object; here it
    may not, because small images would leave no place for a miss.

    Args:
      maps: Maps, float [n, rows, columns]. A map that is smaller than the image points at the middle of its
        strongest place.
      inside: Pixels of the object, bool [n, h, w].

    Returns:
      bool [n]. A map that is the same everywhere points at nothing: False.

    >>> points_at(np.eye(4).reshape(1, 4, 4)[:, ::-1], np.eye(4, dtype=bool)[None]).tolist()
    [False]
    """
    n, h, w = inside.shape
    rows, columns = np.unravel_index(maps.reshape(n, -1).argmax(axis=1), maps.shape[1:])
    # The middle of a place of 4 pixels is 1.5, between two of them; the first is taken, since strided convolutions
    # with a padding on both sides look around the first pixel of a place.
    y = ((rows + 0.5) * h / maps.shape[1] - 0.5).astype(int)
    x = ((columns + 0.5) * w / maps.shape[2] - 0.5).astype(int)
    return inside[np.arange(n), y, x] & (np.ptp(maps.reshape(n, -1), axis=1) > 0)


@part(
    "evaluator",
    "pointing",
    fields=lambda options: ("image", "label", options.get("field", MASK)),
    metrics=_metrics,
)
def make_pointing(
    *,
    task: "Task",
    data: EvalSet,
    of: str = "gradient",
    field: str = MASK,
    value: Annotated[int, Range(0)] = 1,
) -> "Callable[[Variables], dict[str, float]]":
    """Makes the evaluator of the pointing game of an instrument of `jaxvision explain` (Zhang et al. 2018, sec. 4.2).

    The map is that of the label, right or wrong answers alike.

    Args:
      task: Task whose `outputs` have "logits" [b, k].
      data: Split to evaluate, with one class for each image and a mask of it.
      of: Instrument with its options: "gradient", "gradcam(layer='stages/1')".
      field: Name of the field with the mask, int [h, w] or [h, w, 1].
      value: Value of the pixels of the object that the label names. In `shapes`, 1 is the main object.

    Returns:
      `run(variables) -> {"pointing_gradient/hits": ..., ".../hits_low": ..., ".../hits_high": ..., ".../chance": ...,
      "examples": n}`: the share of images whose map is strongest in the object, its 95 % interval (Wilson), and the
      mean share of the image that the object covers, which a random place hits. Images whose mask shows no object do
      not count.

    Raises:
      UserError: If the set has no classes, several labels or several views for an image, the field is no mask, or the
        instrument is unknown or makes no maps; at the first run, if the model does not allow the instrument.
    """
    read_map_maker(of)
    if not data.info.num_classes or data.info.multi_label:
        raise UserError(
            f"the evaluator 'pointing' needs one class for each image, and {data.info.name!r} does not have it: take a "
            "set with classes and masks"
        )
    if data.fields["image"].views:
        raise UserError(
            f"the evaluator 'pointing' takes one view of an image, and augment={data.augment!r} makes several: leave "
            "that operation out"
        )
    shape, size = data.batch[field].shape[1:], data.batch["image"].shape[1:3]
    if shape not in (size, (*size, 1)):
        raise UserError(
            f"the evaluator 'pointing' needs a mask of the size of the images, {size[0]}x{size[1]}, and {field!r} has "
            f"the shape {shape}: name the field of the masks with field="
        )
    keyed = outputs_with_key(task)

    def outputs(variables: Any, images: jax.Array) -> Any:
        return keyed(variables, data.preprocess({"image": images}), None)

    def run(variables: "Variables") -> dict[str, float]:
        maps, hits, shares = None, [], []
        for batch in data.batches():
            rows = gather({name: batch[name] for name in ("image", "label", "mask", field)})
            images, size = rows["image"].astype(np.float32) / 255, len(rows["image"])
            subject = Subject(outputs, variables, images, rows["label"].astype(np.int32), batch=size)
            if maps is None:
                if reason := why_no_maps(subject, of):
                    raise UserError(f"the evaluator 'pointing' cannot apply {of} to this model, {reason}")
                maps = make_maps(subject, of)
            inside = rows[field].reshape(images.shape[:3]) == value
            counts = rows["mask"].astype(bool) & inside.any(axis=(1, 2))
            hits.append(points_at(maps(subject), inside)[counts])
            shares.append(inside.mean(axis=(1, 2))[counts])
        hit, share = np.concatenate(hits), np.concatenate(shares)
        if not len(hit):
            raise UserError(f"the evaluator 'pointing': no {field!r} has a pixel of the value {value}: set value=")
        from scipy import stats  # takes half a second to import

        interval = stats.binomtest(int(hit.sum()), len(hit)).proportion_ci(0.95, method="wilson")
        values = (hit.mean(), interval.low, interval.high, share.mean(), len(hit))
        return dict(zip(_metrics({"of": of}), map(float, values)))

    return run
