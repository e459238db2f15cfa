"""Flags of the commands that apply a model to image files."""

import sys

from absl import flags

from jaxvision.cli.shared import Command, need, start, step_flag, table_flags, value_of, workdir_flag
from jaxvision.exits import EXIT_INCOMPLETE


def _model_flags(values: flags.FlagValues) -> None:
    workdir_flag(values, "folder of the run, or of converted weights")
    step_flag(values)
    flags.DEFINE_multi_string(
        "images", None, "folder, file or pattern in quotes ('photos/**/*.jpg'); repeatable", flag_values=values
    )


def _words_flags(values: flags.FlagValues) -> None:
    labels = "classes in words, 'a red circle,a dog', for a model of image and text"
    flags.DEFINE_string("labels", None, labels, flag_values=values)
    flags.DEFINE_string(
        "prompts", None, "texts to put the labels into: a named set, a file, or 'a photo of a {}.'", flag_values=values
    )
    _tokenizer_flag(values)


def _tokenizer_flag(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "tokenizer",
        None,
        "host spec of the tokenizer, \"tokenize('clip', path='...')\", for weights that do not name theirs",
        flag_values=values,
    )


def _define_predict(values: flags.FlagValues, words: list[str]) -> None:
    _model_flags(values)
    flags.DEFINE_integer("top", 5, "number of classes to print", lower_bound=1, flag_values=values)
    _words_flags(values)
    table_flags(values, "the classes")


def _predict(values: flags.FlagValues, rest: list[str]) -> None:
    need(values, "workdir", "images")
    start(rest)
    from jaxvision.commands import predict

    predictions = predict.run_predict(
        values.workdir,
        values.images,
        values.step,
        values.top,
        labels=values.labels,
        prompts=values.prompts,
        tokenizer=values.tokenizer,
        form=value_of(values, "format"),
        out=values.out,
    )
    if predictions.left_out:
        sys.exit(EXIT_INCOMPLETE)


def _define_explain(values: flags.FlagValues, words: list[str]) -> None:
    _model_flags(values)
    text = "instruments with options, \"gradcam(layer='stages/1'),occlusion\" (default: all that the model allows)"
    flags.DEFINE_string("what", None, text, flag_values=values)
    text = "images of this split of the run's own data, 'test[:8]', in place of --images"
    flags.DEFINE_string("split", None, text, flag_values=values)
    text = "name or number of the class to explain (default: the answer of the model for each image)"
    flags.DEFINE_string("target", None, text, flag_values=values)
    _words_flags(values)
    flags.DEFINE_integer("most", 8, "most images; further files are left out", lower_bound=1, flag_values=values)
    text = "folder of masks for dissect: PNGs of concept numbers, named as the images; names in concepts.txt"
    flags.DEFINE_string("masks", None, text, flag_values=values)
    flags.DEFINE_integer("batch", 16, "number of images in a pass, for the memory", lower_bound=1, flag_values=values)
    flags.DEFINE_string("out", None, "folder for the pictures and index.html", flag_values=values)


def _explain(values: flags.FlagValues, rest: list[str]) -> None:
    need(values, "workdir", "out", *(() if values.split else ("images",)))
    start(rest)
    from jaxvision.commands import explain

    options = ("split", "what", "step", "target", "labels", "prompts", "tokenizer", "most", "batch", "masks")
    explain.run_explain(values.workdir, values.images, values.out, **{name: value_of(values, name) for name in options})


def _define_search(values: flags.FlagValues, words: list[str]) -> None:
    values.set_gnu_getopt()  # flags may follow the words to search for
    flags.DEFINE_string("index", None, "folder of the index", flag_values=values)
    flags.DEFINE_multi_string(
        "images", None, "images to index: folder, file or pattern in quotes; repeatable", flag_values=values
    )
    workdir_flag(values, "folder of the run, or of converted weights, whose model makes the index")
    step_flag(values)
    flags.DEFINE_string("image", None, "image file to search by", flag_values=values)
    flags.DEFINE_integer("top", 16, "number of images to find", lower_bound=1, flag_values=values)
    flags.DEFINE_string("sheet", None, "PNG file of the contact sheet (default: INDEX/search.png)", flag_values=values)
    _tokenizer_flag(values)
    table_flags(values, "the results")


def _search(values: flags.FlagValues, rest: list[str]) -> None:
    need(values, "index")
    start([])
    from jaxvision.commands import search

    results = search.run_search(
        values.index,
        rest,
        image=values.image,
        images=values.images,
        workdir=values.workdir,
        step=values.step,
        tokenizer=values.tokenizer,
        top=values.top,
        page=values.sheet,
        form=value_of(values, "format"),
        out=values.out,
    )
    if results.left_out:
        sys.exit(EXIT_INCOMPLETE)


COMMANDS = {
    "predict": Command(
        "print the five most probable classes of image files; with an image-text model, of your own words",
        "jaxvision predict --workdir=runs/quickstart --images=photos",
        _define_predict,
        _predict,
        examples=(
            "jaxvision predict --workdir=runs/quickstart --images='photos/*.jpg' --top=3 --format=csv",
            "jaxvision predict --workdir=runs/clip --images=photos --labels='a red circle,a dog'",
        ),
        groups={
            "Model and images": "workdir step images top",
            "Your own words, for a model of image and text": "labels prompts tokenizer",
            "Output": "format out",
        },
    ),
    "explain": Command(
        "show what a network sees in images: saliency, occlusion, Grad-CAM, attention, units, adversarial examples",
        "jaxvision explain --workdir=runs/quickstart --images=photos --out=runs/quickstart/seen",
        _define_explain,
        _explain,
        examples=(
            "jaxvision explain --workdir=runs/quickstart --images=photos --out=seen --what='gradcam,occlusion(size=8)'",
            "jaxvision explain --workdir=runs/quickstart --split='test[:8]' --out=seen",
            "jaxvision explain --workdir=runs/clip --images=photos --out=seen --labels='a red circle,a dog'",
            "jaxvision list explanations",
        ),
        groups={
            "Model and images": "workdir step images split masks most batch",
            "What to explain": "what target",
            "Your own words, for a model of image and text": "labels prompts tokenizer",
            "Output": "out",
        },
    ),
    "search": Command(
        "find images of a folder by words or by an image, with a model of image and text",
        "jaxvision search --index=runs/photos --workdir=runs/clip --images='photos/**/*.jpg' 'a red circle'",
        _define_search,
        _search,
        examples=(
            "jaxvision search --index=runs/photos 'a red circle' 'a dog on a beach'",
            "jaxvision search --index=runs/photos --image=one.jpg --top=5 --format=csv",
        ),
        groups={
            "Making the index, once": "index images workdir step tokenizer",
            "Searching": "image top",
            "Output": "sheet format out",
        },
    ),
}
