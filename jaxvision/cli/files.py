"""Flags of the commands that make files: weights and data sets."""

from absl import flags

from jaxvision.cli.shared import Command, need, offer, start, step_flag, value_of, workdir_flag
from jaxvision.errors import UserError


def _numbers(values: flags.FlagValues, name: str) -> tuple[float, ...] | None:
    words = value_of(values, name)
    try:
        return None if words is None else tuple(map(float, words))
    except ValueError:
        raise UserError(f"--{name} must be numbers separated by commas, not {words}") from None


def _define_convert(values: flags.FlagValues, words: list[str]) -> None:
    text, pixels, ratio = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float
    text(
        "from",
        "jaxvision",
        "library that wrote the weights: timm, torchvision, big_vision, ...; or hf:OWNER/NAME in place of IN",
        flag_values=values,
    )
    text(
        "to",
        "jaxvision",
        "library whose names to write, then OUT is a safetensors file; or hub-folder, a folder that timm opens",
        flag_values=values,
    )
    text("model", None, "NAME:VARIANT of our model, as in vit:B/16", flag_values=values)
    flags.DEFINE_multi_string("option", [], "option of the model, as in pool=token; repeatable", flag_values=values)
    text("head", "keep", "keep the classifier, or drop it", flag_values=values)
    offer(values, "head", "keep", "drop")
    flags.DEFINE_multi_string("ignore", [], "regular expression of names to ignore; repeatable", flag_values=values)
    text("prefix", None, "prefix of the names to use, as in teacher. or backbone.", flag_values=values)
    text("architecture", None, "the library's name of the network, if its files do not say it", flag_values=values)
    text("classes", None, "text file of class names, one a line", flag_values=values)
    pixels("size", None, "side of the images in pixels; position embeddings are resized to it", flag_values=values)
    ratio("crop", None, "size divided by the shorter side before the central crop", flag_values=values)
    text("interpolation", None, "bilinear or bicubic", flag_values=values)
    text("normalize", None, "mean and std of imagenet, inception, clip or bytes", flag_values=values)
    offer(values, "interpolation", "bilinear", "bicubic")
    offer(values, "normalize", "imagenet", "inception", "clip", "bytes")
    flags.DEFINE_list("mean", None, "mean of each channel, for images in [0, 1]", flag_values=values)
    flags.DEFINE_list("std", None, "standard deviation of each channel", flag_values=values)


def _convert(values: flags.FlagValues, rest: list[str]) -> None:
    source = value_of(values, "from")
    if source.startswith("hf:"):  # the name of weights on the hub stands in place of IN
        source, rest = "jaxvision", [source, *rest]
    if len(rest) < 2:
        raise UserError("IN and OUT are missing: jaxvision convert --from=timm --model=vit:B/16 IN OUT")
    start(rest[2:])
    from jaxvision.commands import convert

    images = {name: value_of(values, name) for name in ("size", "crop", "interpolation", "normalize")}
    images |= {name: _numbers(values, name) for name in ("mean", "std")}
    convert.run_convert(
        *rest[:2],
        source=source,
        target=values.to,
        model=values.model,
        options=values.option,
        head=values.head,
        ignore=tuple(values.ignore),
        prefix=values.prefix,
        classes=values.classes,
        architecture=values.architecture,
        **{name: value for name, value in images.items() if value is not None},
    )


def _define_export(values: flags.FlagValues, words: list[str]) -> None:
    workdir_flag(values, "folder of the run, or of converted weights")
    step_flag(values)
    flags.DEFINE_string("out", None, "new folder", flag_values=values)
    flags.DEFINE_string("format", "stablehlo", "stablehlo, for jax.export; or onnx", flag_values=values)
    offer(values, "format", "stablehlo", "onnx")
    flags.DEFINE_list("outputs", [], "outputs of the model (default: logits, features)", flag_values=values)
    flags.DEFINE_multi_string("images", None, "photos to compare on: folder, file or pattern", flag_values=values)
    flags.DEFINE_float(
        "tolerance", None, "largest difference from the model, as a share of its largest output", flag_values=values
    )


def _export(values: flags.FlagValues, rest: list[str]) -> None:
    need(values, "workdir", "out")
    start(rest)
    from jaxvision.commands import export

    export.run_export(
        values.workdir,
        values.out,
        form=value_of(values, "format"),
        step=values.step,
        outputs=values.outputs,
        images=values.images,
        tolerance=values.tolerance,
    )


def _define_data(values: flags.FlagValues, words: list[str]) -> None:
    flags.DEFINE_string("data_dir", None, "folder of the data set, or the one to prepare it in", flag_values=values)
    flags.DEFINE_string("name", None, "cache: name of the data set, as in a config", flag_values=values)
    flags.DEFINE_string("split", None, "cache: whole splits, as in train,validation", flag_values=values)
    flags.DEFINE_string("options", None, "cache: options of the set, as in {'image_size': 64}", flag_values=values)
    flags.DEFINE_string("host", None, "cache: host spec, as in decode|resize_short(256)", flag_values=values)
    flags.DEFINE_string("out", None, "cache: data_dir of the copy", flag_values=values)
    flags.DEFINE_string("format", None, "cache: jpeg, or png, which loses nothing (default: jpeg)", flag_values=values)
    offer(values, "format", "jpeg", "png")
    flags.DEFINE_integer("quality", None, "cache: quality of jpeg, 1 to 100 (default: 95)", flag_values=values)
    flags.DEFINE_float(
        "max_bad_fraction",
        None,
        "cache: largest share of images that cannot be read (default: 0.001)",
        flag_values=values,
    )


def _data(values: flags.FlagValues, rest: list[str]) -> None:
    from jaxvision.commands import data

    options = {name: values[name].value for name in values if values[name].present}
    data.run_data(rest, options)


COMMANDS = {
    "export": Command(
        "write a trained model with its preprocessing as a file for jax.export (StableHLO) or ONNX",
        "jaxvision export --workdir=runs/quickstart --out=exported",
        _define_export,
        _export,
        examples=(
            "jaxvision export --workdir=runs/quickstart --out=exported --images=photos",
            "jaxvision export --workdir=runs/quickstart --out=exported --format=onnx --outputs=logits",
        ),
        groups={"Model": "workdir step", "File": "out format outputs", "Comparison with the model": "images tolerance"},
    ),
    "convert": Command(
        "convert weights of timm, torchvision, CLIP, big_vision, BiT, Keras to ours, or ours to theirs",
        "jaxvision convert --from=timm --model=vit:B/16 model.safetensors weights/vit_b16",
        _define_convert,
        _convert,
        examples=(
            "jaxvision convert --from=torchvision --model=resnet:50 --head=drop resnet50.pth weights/resnet50",
            "jaxvision convert --to=timm weights/vit_b16 vit_b16.safetensors",
        ),
        groups={
            "From what to what": "from to model option architecture",
            "What to convert": "head prefix ignore classes",
            "Images that the model expects, if its files do not say it": "size crop interpolation normalize mean std",
        },
    ),
    "data": Command(
        "prepare a data set, convert it from TFRecord, or cache it resized: data prepare | convert | cache",
        "jaxvision data convert ~/tensorflow_datasets/imagenet2012/5.1.0 /data/array_record",
        _define_data,
        _data,
        examples=(
            "jaxvision data prepare oxford_flowers102 --data_dir=/data",
            "jaxvision data cache --name=imagenet2012 --split=train --host='decode|resize_short(256)' --out=small",
        ),
    ),
}
