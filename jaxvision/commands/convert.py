"""`jaxvision convert`: converts weights of other libraries to a folder of ours, and ours to a file for them."""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import layout, models, storage, transfer
from jaxvision import workdir as workdirs
from jaxvision.commands import hub_folder
from jaxvision.errors import UserError, unknown
from jaxvision.models import weights
from jaxvision.models.clip_resnet import REDUCTION, ClipResNet
from jaxvision.models.weights import folder, hub, mapping, preprocessing, properties, timm_folder
from jaxvision.models.weights.table import Stated
from jaxvision.progress import waiting
from jaxvision.reading import read_text
from jaxvision.train.progress import console


def run_convert(
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
    architecture: str | None = None,
    **images: Any,
) -> dict[str, Any]:
    """Converts weights.

    Args:
      path: File of the library `source`; for "jaxvision", a folder of converted weights or the workdir of a run. Also
        "hf:OWNER/NAME", weights of the Hugging Face Hub, which say their library; see `weights.hub`.
      out: New folder; for another `target`, a new safetensors file.
      source: Library that wrote the weights, of `weights.sources()`.
      model: "NAME" or "NAME:VARIANT" of our model; None for our own weights, which say it.
      options: Further options of the model, such as "pool=token"; the others follow from the source and the file.
      head: "keep" or "drop" the classifier.
      ignore: Regular expressions of names in the file that are not used.
      prefix: Prefix of the names that are used, such as "teacher." or "backbone.", if the file holds several networks.
      classes: Text file with the names of the classes, one per line.
      target: Library whose names to write, or "hub-folder" for a folder that timm opens.
      architecture: The library's name of the network, such as timm's "vit_base_patch32_clip_quickgelu_224.openai" or
        open_clip's "ViT-B-32/laion2b_e16". It gives properties that the arrays do not show. A timm `config.json` next
        to the file gives it, too. For another `target`, it is the name in that library.
      **images: Attributes of `Preprocessing`, in place of those of the source's preset and of a timm `config.json` next
        to the file.

    Returns:
      The content of meta.json, which is also printed.

    Raises:
      UserError: Something does not fit; nothing is written then.
    """
    out = storage.path(out, "OUT")
    hosted = hub.fetch(str(path), None if source == "jaxvision" else source) if hub.is_hosted(str(path)) else None
    if hosted is not None:
        path, source = hosted.path, hosted.source
        model = model or (hosted.architecture and timm_folder.our_model(hosted.architecture))
    path = storage.path(path, "IN") if source == "jaxvision" else storage.local(path, "IN")
    if out.exists():
        raise UserError(f"{out} exists already: give another OUT")
    if target not in (targets := (*weights.sources(), hub_folder.NAME)):
        raise unknown("target of --to", target, targets)
    as_folder, target = target == hub_folder.NAME, "timm" if target == hub_folder.NAME else target
    if source == "jaxvision":
        extra = model or options or images or ignore or classes or prefix is not None or head != "keep"
        if extra or (architecture and target == source):
            raise UserError(
                "these flags describe weights of another library, but --from is jaxvision, whose weights describe "
                "themselves: give --from=LIBRARY, or only --to"
            )
        arrays, meta = transfer.open_own(path)
        if target != "jaxvision":
            arrays, beside = transfer.of_model(arrays, layout.from_json(meta.get("parts")))
            meta["notes"] = [*meta.get("notes", ()), *transfer.left_out(beside)]
        variables = flax.traverse_util.unflatten_dict(arrays, sep="/")
    else:
        if not model:
            names = ", ".join(models.NAMES | models.PAIR_NAMES)
            raise UserError(f"--model is missing: add --model=NAME:VARIANT, as in vit:B/16. Models: {names}")
        variables, meta = _import(path, source, model, options, head, ignore, prefix, images, architecture)
        meta["classes"] = _class_names(classes, meta["num_classes"])
        if hosted is not None:
            meta["input"]["hub"] = {"name": hosted.name, "revision": hosted.revision}
            meta["notes"] = [hosted.note, *meta["notes"]]
    name = meta["model"]["name"]
    exported = weights.export_weights(variables, target, name)
    if target != "jaxvision":
        meta = meta | {"notes": [*meta.get("notes", ()), *_export_notes(exported, meta, target, architecture)]}
    if as_folder:
        meta["notes"] = [*meta["notes"], *hub_folder.write(out, exported, meta, architecture)]
    elif target == "jaxvision":
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
    architecture: str | None,
) -> tuple[dict, dict[str, Any]]:
    """The variables of our model from a file of another library, and their metadata."""
    if head not in ("keep", "drop"):
        raise unknown("value of --head", head, ("keep", "drop"))
    name, _, variant = model.partition(":")
    models.NAMES.resolve(name, models.PAIR_NAMES)
    whole = waiting(f"reading {path.name}", weights.read, path)
    arrays, _ = mapping.select(whole, source, name, prefix, ignore)
    neighbour = preprocessing.read_neighbour(path, source, name)
    architecture = architecture or neighbour.architecture
    stated = properties.stated_of_file(path, arrays, source, name, architecture)
    command_options = _parse(options) | ({"variant": variant} if variant else {})
    all_options = properties.options({"name": name, **command_options}, stated)
    built = properties.nested(properties.flat(all_options) | properties.flat(command_options))
    bias = mapping.find_array(arrays, source, name, "params/head/bias") if head == "keep" else None
    num_classes = None if bias is None else bias.size
    module = models.build(name, num_classes, **built)
    ours, from_command = properties.computed(module), properties.flat(command_options)
    by = {
        key: "--option" if key in from_command else stated[key].by if key in stated else "size of the variant"
        for key in ours
    }

    pair = models.is_pair(name)
    trunk = module.image_tower.backbone if pair else module
    looks = preprocessing.stated(arrays, source, name, architecture) | _of_cifar(trunk, source)
    looks |= {key: Stated(value, neighbour.file) for key, value in neighbour.images.items()}
    looks |= _native_size(arrays, source, name, module, looks.get("size"))
    looks |= {key: Stated(value, f"--{key}") for key, value in preprocessing.expand(images).items()}
    wanted = {key: x.value for key, x in looks.items()}
    # Missing preprocessing is an error only below, after the names were compared: a wrong file lacks it, too.
    provisional = preprocessing.make_preprocessing(
        source, name, {key: value for key, value in wanted.items() if value is not None}
    )
    whole_patches, seen = _whole_patches(provisional.size, trunk)
    side = whole_patches or provisional.size
    shape = (1, side, side, len(provisional.mean))
    tokens = [jnp.zeros((1, module.text_tower.backbone.length), jnp.int32)] if pair else []
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(shape), *tokens)
    imported = weights.import_weights(whole, source, name, variables, head=head, ignore=ignore, prefix=prefix)
    weights_of = f"{source}'s {architecture or name}"
    unlike = properties.differences(ours, stated, properties.flat(all_options))
    notes = properties.refuse_or_note(unlike, from_command, {"name": name, **command_options}, weights_of, _flag)
    pictures = preprocessing.make_preprocessing(source, name, wanted)
    host = pictures.host + (f"|corner_crop({whole_patches})" if whole_patches else "")
    meta = {
        "model": {"name": name, **built},
        "num_classes": num_classes,
        "properties": ours,
        "preprocessing": {"host": host, "augment": pictures.augment, **pictures._asdict()},
        "told_by": by | {f"images.{key}": looks[key].by for key in pictures._fields},
        "source": source,
        "architecture": architecture,
        "input": {"file": path.name, "sha256": folder.sha256(path)},
        "notes": [*notes, *seen, *imported.notes],
    }
    return imported.variables, meta


def _flag(name: str, value: Any) -> str:
    """How to give an option of the model on the command line; an option of a tower goes into its section."""
    section, _, option = name.rpartition(".")
    text = "..." if value is None else repr(value) if section else value
    return f'--option="{section}={{{option!r}: {text}}}"' if section else f"--option={option}={text}"


def _native_size(
    arrays: Mapping[str, np.ndarray], source: str, name: str, module: Any, stated_size: Stated | None
) -> dict[str, Stated]:
    """The side of the images for which the position embeddings in the file were trained; empty if there are none.

    The size `stated_size` is kept if it gives the same number of patches: 384 and 378 pixels both give 27 patches of
    14.
    """
    pair = models.is_pair(name)
    trunk = module.image_tower.backbone if pair else module
    pooled = isinstance(trunk, ClipResNet)
    tower = "image_tower/" if pair else ""
    positions = mapping.find_array(arrays, source, name, f"params/{tower}{'pool/' if pooled else ''}pos_embedding")
    pixels = REDUCTION if pooled else getattr(trunk, "patch", None)
    if positions is None or pixels is None:
        return {}
    side = mapping.grid(positions.shape[-2])[1]
    if stated_size is not None and not stated_size.by.startswith("usual") and stated_size.value // pixels == side:
        return {"size": stated_size}
    words = module.text_tower.backbone.vocab_size if pair else None
    if (positions.shape[-1], pixels, side, words) == SIGLIP_384:
        return {"size": Stated(384, "SigLIP's ViT So400m/14 of 27x27 patches")}
    return {"size": Stated(side * pixels, "positions in the file")}


# Width, patch, patches per side and vocabulary of SigLIP's network for 384 pixels, not a multiple of 14. The same
# network of SigLIP 2, with another vocabulary, was trained at 378.
SIGLIP_384 = (1152, 14, 27, 32_000)


def _whole_patches(size: int, trunk: Any) -> tuple[int, list[str]]:
    """The part of an image's side that whole patches cover, and a note; 0 and no note if they cover all of it.

    Other libraries cut patches by a convolution without padding, which leaves out the last rows and columns.
    """
    patch = getattr(trunk, "patch", None)
    if patch is None or size % patch == 0 or size < patch:
        return 0, []
    seen = size - size % patch
    return seen, [
        f"patches of {patch} pixels cover the first {seen} of {size} pixels of each side: corner_crop keeps these"
    ]


def _of_cifar(trunk: Any, source: str) -> dict[str, Stated]:
    """Preprocessing of a network for CIFAR, with a stem that does not stride, in a library for ImageNet."""
    if getattr(trunk, "stem", None) != "cifar" or source not in ("timm", "torchvision"):
        return {}
    stem = "the network is one for images of CIFAR"
    return {"size": Stated(32, stem), "crop": Stated(1.0, stem)} | dict.fromkeys(("mean", "std"), Stated(None, stem))


def _export_notes(
    exported: Mapping[str, np.ndarray], meta: Mapping[str, Any], target: str, architecture: str | None
) -> list[str]:
    """Notes on options of another library's network, with which it computes the same from these weights.

    Raises:
      UserError: The named architecture, or every network of the library, computes something else.
    """
    section = dict(meta["model"])
    name = section.pop("name")
    ours = properties.computed(models.build(name, num_classes=None, **section))
    unlike = properties.differences(ours, properties.stated(exported, target, name, architecture))
    assumed = [d for d in unlike if not architecture and d.theirs and d.theirs.by.startswith("assumed")]
    unlike = [d for d in unlike if d not in assumed]
    if unlike:
        there = lambda d: repr(d.theirs.value) if d.theirs else "no such thing"
        lines = "".join(f"\n  {d.name}: {d.ours!r} here, {there(d)} there" for d in unlike)
        raise UserError(
            f"{architecture or target} would compute something else with these weights, so they cannot be converted. "
            f"The differences:{lines}"
        )
    return [
        f"NOTE: build the network of {target} with {d.name}={d.ours!r}; its default is {d.theirs.value!r}. To check a "
        "network of another name, give --architecture=NAME"
        for d in assumed
        if d.theirs
    ]


def _parse(options: Sequence[str]) -> dict[str, Any]:
    """`["pool=token", "depth=2"]` as a dict; values are Python literals, else words."""
    parsed = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UserError(f"--option must be KEY=VALUE, not {option!r}")
        try:
            parsed[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parsed[key] = value
    return parsed


def _class_names(path: str | Path | None, num_classes: int | None) -> list[str]:
    if path is None:
        return []
    if not Path(path).is_file():
        raise UserError(f"no file {str(path)!r} of class names: check --classes")
    names = read_text(path).splitlines()
    if len(names) != num_classes:
        raise UserError(f"{path} names {len(names)} classes, but the head has {num_classes}: give one name per class")
    return names


def _report(out: str | Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    say = console().print
    say(f"{out}: {len(arrays)} arrays, {sum(x.size for x in arrays.values()):,} numbers", markup=False)
    say("model " + ", ".join(f"{key}={value}" for key, value in meta["model"].items()), markup=False)
    say(f"images {meta['preprocessing']['host']} | {meta['preprocessing']['augment']}", markup=False)
    if "told_by" in meta:
        images = {f"images.{name}": meta["preprocessing"][name] for name in preprocessing.Preprocessing._fields}
        say("properties that the arrays do not show, and their sources:", markup=False)
        for line in properties.format_table({**meta["properties"], **images}, meta["told_by"]):
            say(f"  {line}", markup=False, soft_wrap=True)
    for note in meta.get("notes", ()):
        say(note, markup=False)
