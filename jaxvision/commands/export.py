"""`jaxvision export`: a trained model as one file that runs without jaxvision, with its preprocessing inside.

    OUT/model.stablehlo   or model.onnx: uint8 images [b, h, w, 3] in, a dict of outputs out
    OUT/model.json        classes, image size, preparation of images, outputs, versions, digests
    OUT/example.npz       prepared images and their outputs, to check a program that reads the file

Decoding and resizing happen before the file, see `prepare` in model.json; the normalisation of pixels, and averages
over views, are inside. docs/export.md has programs that read the files.
"""

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.cbook
import numpy as np

from jaxvision import paths, storage
from jaxvision import workdir as workdirs
from jaxvision.commands import export_onnx, photos
from jaxvision.data import host_ops
from jaxvision.errors import UserError, unknown
from jaxvision.evals import views
from jaxvision.models.weights import folder
from jaxvision.progress import waiting
from jaxvision.train.progress import console

FORMATS = ("stablehlo", "onnx")
PLATFORMS = ("cpu", "cuda", "tpu")
OUTPUTS = ("logits", "features", "image_embedding")
MODEL, META, EXAMPLE = "model", "model.json", "example.npz"
PHOTO = "grace_hopper.jpg"  # comes with matplotlib
# Largest difference over the largest value of an output. In bfloat16 a number has three digits.
TOLERANCES = {"stablehlo": 1e-4, "onnx": 1e-3}
TOLERANCE_BFLOAT16 = 5e-2
_PHOTOS = 4  # number of photos in the comparison if the user names none
_MOST = 32  # largest number of images that are compared


class Difference(NamedTuple):
    """The difference between the outputs of an exported model and those of the model.

    Attributes:
      largest: Largest absolute difference.
      scale: Largest absolute value of the output of the model.
    """

    largest: float
    scale: float

    @property
    def share(self) -> float:
        """Difference as a share of the scale."""
        return self.largest / self.scale if self.scale else self.largest


def run_export(
    workdir: str | Path,
    out: str | Path,
    *,
    form: str = "stablehlo",
    step: int | str | None = None,
    outputs: Sequence[str] = (),
    images: str | Sequence[str] | None = None,
    tolerance: float | None = None,
) -> dict[str, Any]:
    """Writes a trained model for use without jaxvision, and compares its outputs with those of the model on photos.

    Args:
      workdir: Folder of a run, or of converted weights.
      out: New folder.
      form: Format, "stablehlo" (of `jax.export`, for CPU, CUDA and TPU) or "onnx".
      step: Step of the checkpoint, or "best", see `train.best.step_of`; None for the latest.
      outputs: Names of outputs of the model; by default those of `OUTPUTS` that it has.
      images: Photos for the comparison: folder, file or pattern, or several; None for one that matplotlib brings.
      tolerance: Largest difference, as a share of the largest value of an output; None for that of the format.

    Returns:
      The content of model.json, whose numbers are also printed.

    Raises:
      UserError: There is no model in the folder, it has no such output, it cannot be converted, or the file computes
        something else than the model. Nothing is written then.
    """
    if form not in FORMATS:
        raise unknown("value of --format", form, FORMATS)
    target = Path(storage.local(out, "--out"))
    if target.exists():
        raise UserError(f"{target} exists already: give another --out")
    if form == "onnx":
        export_onnx.check_installed()
    elif importlib.util.find_spec("flatbuffers") is None:  # jax.export serialises with it
        raise UserError("--format=stablehlo needs flatbuffers: pip install 'jaxvision[export]'")
    model = photos.open_model(workdir, step)
    function, shapes = _function(model, outputs)
    pictures, named = _photos(model, images)
    convert = _stablehlo if form == "stablehlo" else export_onnx.convert
    content, call = waiting(f"exporting to {form}", convert, function, model.shape)
    expected = {name: np.asarray(x) for name, x in jax.jit(function)(pictures).items()}
    found = call(pictures)
    alone = call(pictures[:1])  # another size of the batch
    differences = {name: _difference(found[name], alone[name], expected[name]) for name in expected}
    bfloat16 = _computes_in_bfloat16(model)
    allowed = tolerance if tolerance is not None else TOLERANCE_BFLOAT16 if bfloat16 else TOLERANCES[form]
    _check(differences, allowed, form)
    file = f"{MODEL}.{form}"
    meta = {
        "file": file,
        "format": form,
        "input": {"shape": ["b", *model.shape, 3], "dtype": "uint8", "range": [0, 255]},
        "outputs": {name: {"shape": ["b", *x.shape[1:]], "dtype": str(x.dtype)} for name, x in shapes.items()},
        "classes": list(model.classes),
        "image_size": list(model.shape),
        "prepare": model.host,
        "inside": model.augment,
        "model": dict(model.section),
        "of": {"path": model.name, "step": model.step},
        "platforms": list(PLATFORMS) if form == "stablehlo" else ["onnxruntime"],
        "compared": {
            "images": named,
            "platform": jax.default_backend() if form == "stablehlo" else "onnxruntime on cpu",  # the only one
            "largest_difference": {name: one.largest for name, one in differences.items()},
            "largest_value": {name: one.scale for name, one in differences.items()},
            "tolerance": allowed,
        },
        "versions": workdirs.versions() | (export_onnx.versions() if form == "onnx" else {}),
    }
    with _new_folder(target) as place:
        (place / file).write_bytes(content)
        np.savez(place / EXAMPLE, images=pictures, **expected)  # type: ignore[arg-type]
        meta["sha256"] = {name: folder.sha256(place / name) for name in (file, EXAMPLE)}
        (place / META).write_text(json.dumps(meta, indent=2) + "\n")
    _report(target, meta, differences, len(content))
    return meta


def _function(model: photos.Model, names: Sequence[str]) -> tuple[Callable, dict[str, jax.ShapeDtypeStruct]]:
    """The function of uint8 images [b, h, w, 3] with the variables inside, and the shapes of its outputs."""
    variables = jax.device_get(model.variables)

    def whole(images: jax.Array) -> dict[str, jax.Array]:
        batch = model.transform(jax.random.key(0), {model.image: images})
        return paths.flatten(views.averaged_outputs(model.task, variables, batch, model.transform.fields))

    there = jax.eval_shape(whole, jax.ShapeDtypeStruct((1, *model.shape, 3), jnp.uint8))
    arrays = [name for name, x in there.items() if getattr(x, "shape", ())[:1] == (1,)]
    if wrong := [name for name in names if name not in arrays]:
        raise unknown("output of --outputs", wrong[0], arrays)
    chosen = list(names) or [name for name in OUTPUTS if name in arrays] or arrays

    def function(images: jax.Array) -> dict[str, jax.Array]:
        out = whole(images)
        return {name: out[name].astype(jnp.float32) for name in chosen}

    return function, jax.eval_shape(function, jax.ShapeDtypeStruct((1, *model.shape, 3), jnp.uint8))


def _stablehlo(function: Callable, shape: tuple[int, int]) -> tuple[bytes, Callable]:
    """The serialised program for any batch size, and a function that calls what was read back from it."""
    (batch,) = jax.export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *shape, 3), jnp.uint8)
    content = bytes(jax.export.export(jax.jit(function), platforms=PLATFORMS)(images).serialize())
    exported = jax.export.deserialize(bytearray(content))
    return content, lambda pictures: {name: np.asarray(x) for name, x in exported.call(pictures).items()}


def _photos(model: photos.Model, images: str | Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    """Prepared photos uint8 [n, h, w, 3], and their names."""
    prepare = photos.make_preparation(model)
    if images is not None:
        files = photos.matching_files(images)[:_MOST]
        try:
            return np.stack([prepare(Path(file).read_bytes()) for file in files]), files
        except (host_ops.BadImage, OSError) as error:
            raise UserError(f"--images={images}: a photo cannot be read: {error}") from error
    whole = prepare(Path(str(matplotlib.cbook.get_sample_data(PHOTO, asfileobj=False))).read_bytes())
    turned = [
        np.rot90(whole, k) if whole.shape[0] == whole.shape[1] else whole[:: 1 - 2 * (k % 2)] for k in range(_PHOTOS)
    ]
    return np.stack(turned), [f"{PHOTO} of matplotlib, turned four ways"]


def _difference(found: np.ndarray, alone: np.ndarray, expected: np.ndarray) -> Difference:
    both = max(np.abs(found - expected).max(), np.abs(alone - expected[:1]).max())
    return Difference(float(both), float(np.abs(expected).max()))


def _check(differences: Mapping[str, Difference], allowed: float, form: str) -> None:
    for name, one in differences.items():
        if not one.share <= allowed:  # also if it is NaN
            raise UserError(
                f"the {form} file would differ from the model: {name} by {one.largest:.3g}, {one.share:.2g} of its "
                f"largest value {one.scale:.3g}, and {allowed:.2g} is allowed. Nothing was written. Give "
                "--tolerance if that is acceptable"
            )


def _computes_in_bfloat16(model: photos.Model) -> bool:
    """Whether the model computes in bfloat16."""
    images = jax.ShapeDtypeStruct((1, *model.shape, 3), jnp.uint8)
    run = lambda images: model.task.outputs(model.variables, model.transform(jax.random.key(0), {model.image: images}))
    return "bf16" in str(jax.make_jaxpr(run)(images))


class _new_folder:
    """A folder that gets its name when the block ends without an error."""

    def __init__(self, target: Path):
        self._target = target

    def __enter__(self) -> Path:
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._place = Path(tempfile.mkdtemp(prefix=f".{self._target.name}-", dir=self._target.parent))
        except OSError as error:
            raise UserError(f"cannot write to {self._target.parent}: {error.strerror}") from None
        return self._place

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self._place.chmod(0o755)  # mkdtemp makes it private
            self._place.rename(self._target)
        else:
            shutil.rmtree(self._place, ignore_errors=True)


def _report(out: Path, meta: Mapping[str, Any], differences: Mapping[str, Difference], size: int) -> None:
    say = console().print
    shape = ", ".join(map(str, meta["input"]["shape"]))
    say(f"{out}/{meta['file']}: {size / 1e6:.1f} MB; uint8 [{shape}] in", markup=False)
    for name, one in meta["outputs"].items():
        difference = differences[name]
        say(
            f"  {name} [{', '.join(map(str, one['shape']))}]: differs from the model by "
            f"at most {difference.largest:.2g} ({difference.share:.1g} of the largest value)",
            markup=False,
        )
    compared = meta["compared"]
    say(f"compared on {compared['platform']}, with {', '.join(compared['images'][:3])}", markup=False)
    say(
        f"images are prepared by {meta['prepare']}, and then inside the file by {meta['inside'] or 'nothing'}",
        markup=False,
    )
