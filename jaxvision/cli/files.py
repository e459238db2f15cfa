"""Flags of the commands that make files: weights and data sets."""

from absl import flags

from jaxvision.cli.shared import Command, log_warnings, start
from jaxvision.errors import UserError


def _numbers(values: flags.FlagValues, name: str) -> tuple[float, ...] | None:
    try:
        return None if values[name].value is None else tuple(map(float, values[name].value))
    except ValueError:
        raise UserError(f"--{name} wants numbers with commas between, not {values[name].value}") from None


def _define_convert(values: flags.FlagValues, words: list[str]) -> None:
    text, pixels, ratio = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float
    text("from", "jaxvision", "who wrote the weights: timm, torchvision, big_vision, bit, ...", flag_values=values)
    text("to", "jaxvision", "whose names to write; other than ours, OUT is a safetensors file", flag_values=values)
    text("model", None, "NAME:VARIANT of our model, as in vit:B/16", flag_values=values)
    flags.DEFINE_multi_string("option", [], "option of the model, as in pool=token; repeatable", flag_values=values)
    text("head", "keep", "keep, or drop the classifier", flag_values=values)
    flags.DEFINE_multi_string("ignore", [], "regular expression of names not to use; repeatable", flag_values=values)
    text("prefix", None, "what stands before the names to use, as in teacher. or backbone.", flag_values=values)
    text("architecture", None, "what the library calls the network, where its files do not tell", flag_values=values)
    text("classes", None, "text file of class names, one a line", flag_values=values)
    pixels("size", None, "side of the images; positions are resized to it", flag_values=values)
    ratio("crop", None, "size divided by the shorter side before the central crop", flag_values=values)
    text("interpolation", None, "bilinear or bicubic", flag_values=values)
    text("normalize", None, "imagenet, inception, clip or bytes: mean and std", flag_values=values)
    flags.DEFINE_list("mean", None, "of each channel, for images in [0, 1]", flag_values=values)
    flags.DEFINE_list("std", None, "of each channel", flag_values=values)


def _convert(values: flags.FlagValues, rest: list[str]) -> None:
    if len(rest) < 2:
        raise UserError("convert what, and where to? jaxvision convert --from=timm --model=vit:B/16 IN OUT")
    start(rest[2:])
    from jaxvision.commands import convert

    images = {name: values[name].value for name in ("size", "crop", "interpolation", "normalize")}
    images |= {name: _numbers(values, name) for name in ("mean", "std")}
    convert.run_convert(
        *rest[:2],
        source=values["from"].value,
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


def _define_data(values: flags.FlagValues, words: list[str]) -> None:
    flags.DEFINE_string("data_dir", None, "where the set lies, or is prepared", flag_values=values)
    flags.DEFINE_string("name", None, "cache: the set, as in a config", flag_values=values)
    flags.DEFINE_string("split", None, "cache: whole splits, as in train,validation", flag_values=values)
    flags.DEFINE_string("options", None, "cache: options of the set, as in {'image_size': 64}", flag_values=values)
    flags.DEFINE_string("host", None, "cache: host spec, as in decode|resize_short(256)", flag_values=values)
    flags.DEFINE_string("out", None, "cache: data_dir of the copy", flag_values=values)
    flags.DEFINE_string("format", None, "cache: jpeg, or png to lose nothing (default: jpeg)", flag_values=values)
    flags.DEFINE_integer("quality", None, "cache: of jpeg, 1 to 100 (default: 95)", flag_values=values)
    flags.DEFINE_float(
        "max_bad_fraction", None, "cache: unreadable images that are tolerated (default: 0.001)", flag_values=values
    )


def _data(values: flags.FlagValues, rest: list[str]) -> None:
    log_warnings()
    from jaxvision.commands import data

    given = {name: values[name].value for name in values if values[name].present}
    data.run_data(rest, given)


COMMANDS = {
    "convert": Command(
        "convert weights of timm, torchvision, CLIP, big_vision, BiT, Keras to ours, or ours to theirs",
        "jaxvision convert --from=timm --model=vit:B/16 model.safetensors weights/vit_b16",
        _define_convert,
        _convert,
    ),
    "data": Command(
        "prepare a data set, convert it from TFRecord, or cache it resized: data prepare | convert | cache",
        "jaxvision data convert ~/tensorflow_datasets/imagenet2012/5.1.0 /data/array_record",
        _define_data,
        _data,
    ),
}
