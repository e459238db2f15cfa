"""`jaxvision explain`: a page of what a trained network sees in images."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import explain, outputs, specs, storage
from jaxvision.analysis import documents
from jaxvision.analysis.words import plain
from jaxvision.commands import classifying, explain_pictures, image_files, mask_files, photos
from jaxvision.data import host_ops, sources
from jaxvision.errors import UserError, unknown
from jaxvision.evals import views
from jaxvision.explain.base import BATCH, Explanation, Outputs, Subject
from jaxvision.explain.maps import check_call
from jaxvision.parallel.distributed import is_main
from jaxvision.progress import duration, waiting
from jaxvision.train.progress import console
from jaxvision.trained import make_outputs

COMPILED = 4  # an instrument compiles a program that takes about so many times as long as the forward pass


class Wanted(NamedTuple):
    """An instrument that is to be applied.

    Attributes:
      call: Name and options as they were written.
      make: Function of the instrument.
      refused: Why it cannot be applied, as the end of a sentence; None if it can.
    """

    call: specs.Call
    make: Callable[..., Explanation]
    refused: str | None


def run_explain(
    workdir: str | Path,
    images: str | Sequence[str] | None,
    out: str | Path,
    *,
    split: str | None = None,
    what: str | None = None,
    step: int | str | None = None,
    target: str | int | None = None,
    labels: str | None = None,
    prompts: str | None = None,
    tokenizer: str | None = None,
    most: int = 8,
    batch: int = BATCH,
    masks: str | Path | None = None,
) -> Path:
    """Applies instruments to a trained model and images, and writes the page that shows the results.

    First it says how long it will take, from the time of a forward pass of the first batch.

    Args:
      workdir: Folder of a run, or of converted weights.
      images: Folder, file or pattern of image files, or several of these, see `image_files.find`; None with
        `split`.
      out: Folder of the pictures and the page; created if absent.
      split: Split of the data set that the run was trained on, "test[:8]", in place of `images`.
      what: Instruments with their options, joined by "|" or by commas: "gradient, gradcam(layer='stages/1')". None for
        all that can be applied.
      step: Step of the checkpoint, or "best", see `train.best.step_of`; None for the latest.
      target: Name or number of the class to explain; None for the answer of the model, image by image.
      labels: Classes in words, separated by commas, for a model of image and text.
      prompts: Texts to put `labels` into, see `data.text.prompts.get_prompts`.
      tokenizer: Host spec such as "tokenize('clip', path='...')", for weights that do not name their tokenizer.
      most: Most images; further files are left out.
      batch: Number of images in a pass, which bounds the memory.
      masks: Folder of segmentation masks, see `mask_files`, for `dissect`; None for none.

    Returns:
      The path of index.html.

    Raises:
      UserError: An instrument, an option, the model or the images are wrong. It is raised before anything is written.
    """
    out = storage.path(out, "--out")
    chosen = None if what is None else read_instruments(what)
    if labels is None and (prompts or tokenizer):
        raise UserError("--prompts and --tokenizer need --labels, which is missing: add --labels='a cat,a dog'")
    if (images is None) == (split is None):
        what = "--images and --split are both given" if images else "--images or --split is missing"
        raise UserError(f"{what}: give one of them")
    if split is not None and masks is not None:
        raise UserError("--masks are of files: give --images in place of --split")
    files = [] if images is None else photos.matching_files(images)
    model = photos.open_model(workdir, step)
    source = None if split is None else _open_split(model, split)
    words = None if labels is None else photos.split_words(labels)
    function, classes = make_subject_outputs(model, words, prompts, tokenizer)
    folder = None if masks is None else storage.local(masks, "--masks")
    if source is None:
        read, of_pixels, left_out = _read(model, files, most, folder)
    else:
        read, of_pixels, left_out = _read_split(model, source, most)
    subject = _subject(function, model, classes, read, target, batch)
    if folder is not None:
        concepts = mask_files.read_names(folder, list(of_pixels.values()))
        subject = subject._replace(masks=np.stack(list(of_pixels.values())), concepts=concepts)
    every = [specs.Call(name) for name in explain.EXPLANATIONS] if chosen is None else chosen
    wanted = [_prepared(subject, model, call, chosen is not None) for call in every]
    names = _file_names(wanted)
    written = (*(f"{name}.png" for name in names if name), "all.png", "index.html", "index.md")
    outputs.check(out, written, "--out")
    _say_time(subject, wanted)
    done = [one.refused or waiting(str(one.call), one.make, subject, **one.call.kwargs) for one in wanted]
    if not is_main():
        return out / "index.html"
    own = [f"{name}{again}.png" for name in explain.EXPLANATIONS for again in ("", *(f"_{i}" for i in range(2, 100)))]
    with outputs.filling(out, written, "--out", own) as here:
        parts = [*_heading(model, subject, len(files) if source is None else len(source), left_out, target)]
        parts += explain_pictures.overview(subject, [x for x in done if isinstance(x, Explanation)], here / "all.png")
        for one, name, result in zip(wanted, names, done):
            if isinstance(result, str):
                parts += [f"## {one.call.name}", f"Left out for this model: {result}."]
            else:
                parts += explain_pictures.section(result, here / f"{name}.png")
        documents.write("\n\n".join(parts) + "\n", here / "index.md", f"what {workdir} sees")
    console().print(f"written to {out}/index.html", markup=False)
    return out / "index.html"


def read_instruments(what: str) -> list[specs.Call]:
    """Reads instruments with their options, joined by "|" or by commas, and checks their names and options.

    Args:
      what: Text such as "gradient, gradcam(layer='stages/1')".

    Raises:
      UserError: An instrument or an option is unknown or has a wrong value.

    >>> [str(call) for call in read_instruments("gradient,occlusion(size=4, stride=2)|cam")]
    ['gradient', 'occlusion(size=4, stride=2)', 'cam']
    """
    found = specs.parse(re.sub(r",(?![^(]*\))", "|", what))
    if not found:
        raise UserError(f"--what={what!r} names no instrument. Instruments: {', '.join(explain.EXPLANATIONS)}")
    for call in found:
        check_call(call, "--what")
    return found


def make_subject_outputs(
    model: photos.Model,
    words: Sequence[str] | None = None,
    prompts: str | None = None,
    tokenizer: str | None = None,
) -> tuple[Outputs, tuple[str, ...]]:
    """Makes the function that instruments explain: images in [0, 1] to the outputs of a model, with logits.

    Args:
      model: Model, from `photos.open_model`.
      words: Classes in words, for a model of image and text; None for the classes that it was trained on.
      prompts: Texts to put the words into; None uses the words alone.
      tokenizer: Host spec of the tokenizer, for weights that do not name theirs.

    Returns:
      Pure function `(variables, images float [b, h, w, 3]) -> outputs`, and the names of the classes.

    Raises:
      UserError: The augmentation makes several views of an image, or the model reads no words.
    """
    if model.transform.fields[model.image].views:
        raise UserError(
            f"the preprocessing {model.augment!r} of {model.name} makes several views of an image, and one is "
            "explained: give the --workdir of a run without them"
        )
    keyed = views.outputs_with_key(model.task)
    bare = make_outputs(lambda variables, batch: keyed(variables, batch, None), model.transform, model.image)
    if words is None:
        return bare, model.classes
    classes, logits = classifying.make_classifier(model, words, prompts, tokenizer)

    def with_words(variables: Any, images: jax.Array) -> Mapping[str, Any]:
        out = bare(variables, images)
        return {**out, "logits": logits(out)}

    return with_words, classes


def _read(
    model: photos.Model, files: Sequence[str], most: int, masks: Path | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, str]]:
    """The first images that can be read, uint8 [h, w, 3] by file, their masks int [h, w], and why others cannot."""
    read, of_pixels, left_out = dict[str, np.ndarray](), dict[str, np.ndarray](), dict[str, str]()
    prepare = photos.make_preparation(model)
    prepare_both = None if masks is None else photos.make_mask_preparation(model)
    for file in files:
        if len(read) == most:
            break
        try:
            if masks is None or prepare_both is None:
                read[file] = prepare(Path(file).read_bytes())
                continue
            mask = mask_files.mask_of(masks, file)
            read[file], of_pixels[file] = prepare_both(Path(file).read_bytes(), mask_files.read_mask(mask))
        except sources.BadExample as error:
            raise UserError(f"--masks: {image_files.printable(str(mask))} does not fit its image: {error}") from None
        except (host_ops.BadImage, OSError) as error:
            left_out[file] = getattr(error, "strerror", None) or str(error)
            photos.print_note(f"left out {image_files.printable(file)}: {left_out[file]}")
    if not read:
        raise UserError(f"none of the {len(files):,} files is an image that can be read: check --images")
    return read, of_pixels, left_out


def _open_split(model: photos.Model, split: str) -> sources.Source:
    """A split of the data set of a run."""
    if model.data is None:
        raise UserError(f"{model.name} holds converted weights, which name no data set: give --images, not --split")
    opened = partial(
        sources.open_source, model.data.name, split, data_dir=model.data.data_dir, options=model.data.options
    )
    return opened(fields=[name for name in (model.image, "label") if name in opened().fields])


def _read_split(
    model: photos.Model, source: sources.Source, most: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, str]]:
    """The first images of a split that can be read, uint8 [h, w, 3] by number and class, no masks, and failures."""
    prepare, read, left_out = photos.make_preparation(model), dict[str, np.ndarray](), dict[str, str]()
    for i in range(len(source)):
        if len(read) == most:
            break
        try:
            example = source[i]
            label, names = example.get("label", -1), source.info.classes
            known = isinstance(label, (int, np.integer)) and 0 <= label < len(names)
            read[f"{i}: {names[label]}" if known else str(i)] = prepare(example[model.image])
        except (host_ops.BadImage, sources.BadExample, OSError) as error:
            left_out[str(i)] = str(error)
            photos.print_note(f"left out {source.info.split} {i}: {error}")
    if not read:
        raise UserError(f"none of the {len(source):,} images of {source.info.split} can be read: check --split")
    return read, {}, left_out


def _subject(
    function: Outputs,
    model: photos.Model,
    classes: tuple[str, ...],
    read: Mapping[str, np.ndarray],
    target: str | int | None,
    batch: int,
) -> Subject:
    pixels = np.stack(list(read.values())).astype(np.float32) / 255
    names = tuple(Path(image_files.printable(file)).name for file in read)
    subject = Subject(function, model.variables, pixels, np.zeros(len(pixels), np.int32), classes, names, batch)
    if not subject.has_classes():
        if target is not None:
            raise UserError(
                f"--target={target} names a class, and {model.name} has none: leave it out, or add --labels"
            )
        return subject._replace(targets=np.full(len(pixels), -1, np.int32))
    count = subject.shapes()["logits"].shape[-1]
    if subject.shapes()["logits"].ndim != 2:
        raise UserError(
            f"{model.name} has logits of each place, not of each image: one class of an image is explained: give the "
            "--workdir of a classifier"
        )
    if target is not None:
        number = classes.index(str(target)) if str(target) in classes else int(target) if str(target).isdigit() else -1
        if not 0 <= number < count:
            raise unknown("class of --target", target, classes or range(count))
        return subject._replace(targets=np.full(len(pixels), number, np.int32))
    answers = explain.base.in_batches(subject, jax.jit(lambda x, _: function(model.variables, x)["logits"].argmax(-1)))
    return subject._replace(targets=answers.astype(np.int32))


def _prepared(subject: Subject, model: photos.Model, call: specs.Call, asked: bool) -> Wanted:
    make = explain.get_explanation(call.name)
    refuses = explain.EXPLANATIONS.more(make, "refuses")
    refused = None if refuses is None else refuses(subject, **call.kwargs)
    if refused and asked:
        raise UserError(f"--what={call}: it cannot be applied to {model.name}, {refused}")
    return Wanted(call, make, refused)


def _file_names(wanted: Sequence[Wanted]) -> list[str]:
    """A name for the picture of each instrument; empty for one that is left out."""
    names: list[str] = []
    for one in wanted:
        name = re.sub(r"\W", "_", one.call.name.rpartition(":")[2])
        again = sum(other == name or other.startswith(f"{name}_") for other in names)
        names.append("" if one.refused else f"{name}_{again + 1}" if again else name)
    return names


def _say_time(subject: Subject, wanted: Sequence[Wanted]) -> None:
    """Measures a forward pass, and prints how long the instruments will take."""
    images = subject.images[: subject.batch]
    forward = jax.jit(subject.outputs)
    began = time.perf_counter()
    jax.block_until_ready(forward(subject.variables, images))
    compiled = time.perf_counter()
    jax.block_until_ready(forward(subject.variables, images))
    once, compiling = time.perf_counter() - compiled, compiled - began
    batches = -(-len(subject.images) // subject.batch)
    each = {}
    for one in wanted:
        if one.refused is None:
            passes = explain.EXPLANATIONS.more(one.make, "passes", 3)
            count = passes(subject, **one.call.kwargs) if callable(passes) else passes
            each[str(one.call)] = count * once * batches + (COMPILED * compiling if count else 0)
    longest = sorted(each, key=lambda name: -each[name])[:3]
    some = ", ".join(f"{name} {duration(each[name])}" for name in longest)
    console().print(
        f"{len(subject.images)} images, {len(each)} instruments: about {duration(sum(each.values()))} ({some})",
        markup=False,
    )


def _heading(
    model: photos.Model, subject: Subject, files: int, left_out: Mapping[str, str], target: str | int | None
) -> list[str]:
    at = "converted weights" if model.step is None else f"step {model.step:,}"
    which = f"the class {target}" if target is not None else "the class that the network itself answers"
    explained = f" Explained is {which}, whose name is at the left." if subject.targets.min() >= 0 else ""
    count = len(subject.images)
    images = f"the first {count} of {files:,} images" if files > count else f"{count} images"
    unread = f" {len(left_out)} could not be read." if left_out else ""
    return [
        f"# What {plain(model.name)} sees",
        f"`{model.section['name']}`, {at}; {images}, {model.shape[0]}x{model.shape[1]} pixels, as the network gets "
        f"them.{unread}{explained} In each map the strongest colour is the 99th percentile "
        "of its absolute values. A map without values below 0 goes from dark to yellow; else red is above 0 "
        "and blue below.",
    ]
