"""The weights that a made config starts from: their model, the preprocessing of their images, their classes."""

from typing import Any, NamedTuple

from jaxvision import specs, storage
from jaxvision import workdir as workdirs
from jaxvision.errors import UserError
from jaxvision.models.weights import folder
from jaxvision.train.checkpoint import Saved

_CROPS = ("central_crop", "corner_crop", "resize", "random_crop")


class Start(NamedTuple):
    """Weights to start from.

    Attributes:
      weights: Path of the folder, absolute.
      model: Section `model` that computes what the weights were trained with.
      classes: Names of their classes; empty if they have none.
      normalize: Operation that normalises their images, as a spec.
      size: Side of their images in pixels; None if it is not known.
    """

    weights: str
    model: dict[str, Any]
    classes: tuple[str, ...]
    normalize: str
    size: int | None


def read_start(weights: str) -> Start:
    """Reads what is known of weights, without the arrays.

    Args:
      weights: Folder that `jaxvision convert` wrote, or workdir of a run.

    Raises:
      UserError: It is neither; the message says how to convert a file, or weights of the Hugging Face Hub.
    """
    if weights.startswith("hf:"):
        raise UserError(
            f"--from={weights} names weights of the Hugging Face Hub: convert them first, jaxvision convert "
            f"--from={weights} OUT, and give --from=OUT"
        )
    path = storage.path(weights, "--from")
    if folder.is_folder(path):
        meta = folder.read_meta(path)
        model = dict(meta["model"])
    elif path.is_dir() and workdirs.is_run(path):
        meta = Saved(path).meta()
        model = workdirs.config_of(meta, path).model.to_dict()
    elif path.is_file():
        raise UserError(
            f"--from={weights} is a file: convert it first, jaxvision convert --from=timm --model=vit:S/16 {weights} "
            "OUT, and give --from=OUT"
        )
    else:
        raise UserError(
            f"--from={weights} is neither a folder of converted weights nor the workdir of a run: give a folder from "
            "`jaxvision convert`, or the --workdir of a run"
        )
    preprocessing = meta.get("preprocessing") or {"host": "decode", "augment": "normalize_imagenet"}
    own = [call for call in specs.parse(preprocessing["augment"]) if call.name.startswith("normalize")]
    crops = [call for call in specs.parse(preprocessing["host"]) if call.name in _CROPS and call.args]
    size = crops[-1].args[0] if crops else None
    return Start(
        str(storage.absolute(path)),
        {key: value for key, value in model.items() if key != "dtype"},
        tuple(meta.get("classes") or ()),
        "|".join(map(str, own)) or "none",
        size if isinstance(size, int) else None,
    )
