"""`jaxvision convert`: weights of other libraries into a folder of ours, and ours into a file named as theirs."""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import models, storage, transfer
from jaxvision import workdir as workdirs
from jaxvision.errors import UserError, unknown
from jaxvision.models import weights
from jaxvision.models.weights import folder, mapping, preprocessing
from jaxvision.progress import waiting
from jaxvision.train.progress import console


def run(
    path: str | Path,
    out: str | Path,
    *,
    source: str = "jaxvision",
    model: str | None = None,
    options: Sequence[str] = (),
    head: str = "keep",
    ignore: tuple[str, ...] = (),
    prefix: str | None = None,
    classes: str | Path | None = None,
    target: str = "jaxvision",
    **images: Any,
) -> dict[str, Any]:
    """Converts weights.

    Args:
      path: a file of `source`, or, where that is "jaxvision", a converted folder or the workdir of a run.
      out: a new folder, or, where `target` is another library, a new safetensors file.
      source: who wrote the weights, of `weights.sources()`.
      model: "NAME" or "NAME:VARIANT" of our model; our own weights know theirs.
      options: further options of the model, "pool=token"; the others follow from the source and the file.
      head: "keep" or "drop" the classifier.
      ignore: regular expressions over names in the file that are not used.
      prefix: what stands before the names that are used, "teacher." or "backbone.", where the file leaves a choice.
      classes: text file with the name of a class a line.
      target: whose names to write.
      **images: attributes of `Preprocessing` other than those of the source's preset, or of a timm
        `config.json` that stands beside the file.

    Returns:
      What is in meta.json, which is also printed.

    Raises:
      UserError: anything that does not fit; nothing is written then.
    """
    out = storage.path(out, "OUT")
    path = storage.path(path, "IN") if source == "jaxvision" else storage.local(path, "IN")
    if out.exists():
        raise UserError(f"{out} exists already")
    if target not in weights.sources():
        raise unknown("target of --to", target, weights.sources())
    if source == "jaxvision":
        if model or options or images or ignore or classes or prefix is not None or head != "keep":
            raise UserError("our own weights know their model and preprocessing: only --to is for them, or name --from")
        arrays, meta = transfer.open_own(path)
        if target != "jaxvision":
            arrays, beside = transfer.of_model(arrays)
            meta["notes"] = [*meta.get("notes", ()), *transfer.left_out(beside)]
        variables = flax.traverse_util.unflatten_dict(arrays, sep="/")
    else:
        if not model:
            names = ", ".join(models.NAMES | models.PAIR_NAMES)
            raise UserError(f"--model=NAME:VARIANT is needed, as in vit:B/16. Models: {names}")
        variables, meta = _import(path, source, model, options, head, ignore, prefix, images)
        meta["classes"] = _class_names(classes, meta["num_classes"])
    name = meta["model"]["name"]
    exported = weights.export_weights(variables, target, name)
    if target == "jaxvision":
        folder.save(out, exported, meta | {"versions": workdirs.versions()})
    else:
        weights.write(out, exported)
    _report(out, exported, meta)
    return meta


def _import(
    path: Path,
    source: str,
    model: str,
    options: Sequence[str],
    head: str,
    ignore: tuple[str, ...],
    prefix: str | None,
    images: Mapping[str, Any],
) -> tuple[dict, dict[str, Any]]:
    """The variables of our model from a file of another library, and what is known of them."""
    if head not in ("keep", "drop"):
        raise unknown("value of --head", head, ("keep", "drop"))
    name, _, variant = model.partition(":")
    if name not in models.NAMES | models.PAIR_NAMES:
        raise unknown("model", name, models.NAMES | models.PAIR_NAMES)
    whole = waiting(f"reading {path.name}", weights.read, path)
    arrays, _ = mapping.select(whole, source, name, prefix, ignore)
    built = mapping.options(arrays, source, name) | ({"variant": variant} if variant else {})
    for key, value in _parse(options).items():
        sections = isinstance(value, dict) and isinstance(built.get(key), dict)  # of a tower: single options change
        built[key] = {**built[key], **value} if sections else value
    bias = mapping.find(arrays, source, name, "params/head/bias") if head == "keep" else None
    num_classes = None if bias is None else bias.size
    module = models.build(name, num_classes, **built)
    beside = path.with_name("config.json")
    stated = preprocessing.read_timm_config(beside) if source == "timm" and beside.is_file() else {}
    pair = name in models.PAIR_NAMES
    trunk = module.image_tower.backbone if pair else module
    positions = mapping.find(arrays, source, name, f"params/{'image_tower/' if pair else ''}pos_embedding")
    if positions is not None and hasattr(trunk, "patch"):
        stated["size"] = mapping.grid(positions.shape[-2])[1] * trunk.patch
    pictures = preprocessing.make(source, name, stated | images)
    shape = (1, pictures.size, pictures.size, len(pictures.mean))
    tokens = [jnp.zeros((1, module.text_tower.backbone.length), jnp.int32)] if pair else []
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(shape), *tokens)
    imported = weights.import_weights(whole, source, name, variables, head=head, ignore=ignore, prefix=prefix)
    meta = {
        "model": {"name": name, **built},
        "num_classes": num_classes,
        "preprocessing": {"host": pictures.host, "augment": pictures.augment, **pictures._asdict()},
        "source": source,
        "input": {"file": path.name, "sha256": folder.sha256(path)},
        "notes": list(imported.notes),
    }
    return imported.variables, meta


def _parse(options: Sequence[str]) -> dict[str, Any]:
    """`["pool=token", "depth=2"]` as a dict; values are Python literals, else words."""
    parsed = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UserError(f"--option wants KEY=VALUE, not {option!r}")
        try:
            parsed[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parsed[key] = value
    return parsed


def _class_names(path: str | Path | None, num_classes: int | None) -> list[str]:
    if path is None:
        return []
    if not Path(path).is_file():
        raise UserError(f"no file of class names {str(path)!r}")
    names = Path(path).read_text().splitlines()
    if len(names) != num_classes:
        raise UserError(f"{path} names {len(names)} classes, the head has {num_classes}")
    return names


def _report(out: str | Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    say = console().print
    say(f"{out}: {len(arrays)} arrays, {sum(x.size for x in arrays.values()):,} numbers", markup=False)
    say("model " + ", ".join(f"{key}={value}" for key, value in meta["model"].items()), markup=False)
    say(f"images {meta['preprocessing']['host']} | {meta['preprocessing']['augment']}", markup=False)
    for note in meta.get("notes", ()):
        say(note, markup=False)
