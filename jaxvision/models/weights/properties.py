"""Properties of a network that no array of its file shows, such as an epsilon or the form of a GELU.

Two networks whose arrays have the same names and shapes may compute different things. `computed` returns the properties
of our model, `stated` those with which a library's weights were trained, from its tables, and `differences` compares.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn

from jaxvision import calls, models, own_modules
from jaxvision.errors import UserError
from jaxvision.models import two_towers
from jaxvision.models.bit import GROUPS
from jaxvision.models.clip_resnet import ClipResNet
from jaxvision.models.convnext import ConvNeXt
from jaxvision.models.darknet import DarkNet
from jaxvision.models.densenet import DenseNet
from jaxvision.models.gmlp import GMLP
from jaxvision.models.heads import Projected
from jaxvision.models.inception_blocks import InceptionNet
from jaxvision.models.inverted_residual import MobileNet
from jaxvision.models.layers import BATCH_NORM_EPSILON
from jaxvision.models.lenet import LeNet
from jaxvision.models.mixer import Mixer
from jaxvision.models.mlperf_tiny import BATCH_NORM_EPSILON as KERAS_EPSILON
from jaxvision.models.mlperf_tiny import MlperfResNet8
from jaxvision.models.mvit_v2 import MViTV2
from jaxvision.models.nasnet import EPSILON as NASNET_EPSILON
from jaxvision.models.nasnet import NASNet
from jaxvision.models.resmlp import ResMLP
from jaxvision.models.resnet import ResNet
from jaxvision.models.resnet_v2 import GROUP_NORM_EPSILON, ResNetV2
from jaxvision.models.senet import SENet
from jaxvision.models.shufflenet import ShuffleNet
from jaxvision.models.swin import Swin
from jaxvision.models.swin_v2 import SwinV2
from jaxvision.models.text import TextTransformer
from jaxvision.models.transformer import NORM_EPSILON
from jaxvision.models.vgg import VGG
from jaxvision.models.vit import ViT
from jaxvision.models.weights.preprocessing import read_neighbour
from jaxvision.models.weights.table import Stated
from jaxvision.models.weights.tables import tables_of

SHAPES = "shapes in the file"
# Properties that the size of a variant sets, if no other source states them.
OF_THE_VARIANT = ("num_heads", "head_width")
# Properties of a kind of layer: a model without such layers cannot differ.
OF_LAYERS = ("gelu", "norm_epsilon", "num_heads", "head_width", "stride_in", "end_token")


class Difference(NamedTuple):
    """A property in which a model differs from the network whose weights it gets.

    Attributes:
      name: Name of the property, dotted in a tower, as in "image.gelu".
      ours: Value in our model; None if our model has no such property.
      theirs: Value with which the weights were trained, and its source; None if no source states it.
    """

    name: str
    ours: Any
    theirs: Stated | None


def computed(module: nn.Module) -> dict[str, Any]:
    """Returns the properties of a model that its arrays do not show.

    Args:
      module: Model from `models.build` or `models.build_text`.

    Returns:
      Values by name. A property that is an option of the model has the option's name. Names of a tower's properties
      begin with "image." or "text.".

    >>> computed(models.build("vit", None, variant="Ti/16"))["norm_epsilon"]
    1e-06
    """
    if isinstance(module, two_towers.TwoTowers):
        towers = {"image": module.image_tower.backbone, "text": module.text_tower.backbone}
        return {f"{tower}.{name}": x for tower, trunk in towers.items() for name, x in computed(trunk).items()}
    return next((function(module) for kind, function in COMPUTED.items() if isinstance(module, kind)), {})


def _vit(m: ViT) -> dict[str, Any]:
    o = m.block
    heads = {"num_heads": o.num_heads, "head_width": m.width // o.num_heads}
    return {"norm_epsilon": o.norm_epsilon, "gelu": o.gelu, "posemb": m.posemb, **heads}


def _text(m: TextTransformer) -> dict[str, Any]:
    o = m.block
    heads = {"num_heads": o.num_heads, "head_width": m.width // o.num_heads}
    attention = {"causal": o.causal, "pool": m.pool, "end_token": m.end_token}
    return {"norm_epsilon": o.norm_epsilon, "gelu": o.gelu, **attention, **heads}


def _resnet(m: ResNet) -> dict[str, Any]:
    strides = {"stride_in": m.stride_in} if m.bottleneck else {}
    return {"norm_epsilon": BATCH_NORM_EPSILON, "shortcut": m.shortcut, **strides, **CONVOLUTIONS}


def _resnet_v2(m: ResNetV2) -> dict[str, Any]:
    groups = GROUPS if m.group_size == 1 else f"of at least {m.group_size} channels"
    group = {"norm_epsilon": GROUP_NORM_EPSILON, "groups": groups}
    norm = group if m.norm == "group" else {"norm_epsilon": BATCH_NORM_EPSILON}
    strides = {"stride_in": m.stride_in} if m.bottleneck else {}
    standardize = {"standardize_epsilon": m.standardize_epsilon} if m.standardize else {}
    pool = {"pool_padding": "zeros" if m.pool_padding == 0 else "ignored"} if m.stem == "imagenet" else {}
    return {**norm, **strides, **standardize, **pool, **CONVOLUTIONS}


def _mobile(m: MobileNet) -> dict[str, Any]:
    style = m.style
    return {
        "activation": m.activation,
        "norm_epsilon": style.norm_epsilon,
        **CONVOLUTIONS,
        "padding": style.padding,
    }


def _nasnet(m: NASNet) -> dict[str, Any]:
    return {"norm_epsilon": NASNET_EPSILON, "counts_padding": m.counts_padding, "skip": m.skip}


def _swin(m: Swin) -> dict[str, Any]:
    pretrained = {"pretrained_windows": m.pretrained_window} if isinstance(m, SwinV2) else {}
    return {"norm_epsilon": m.norm_epsilon, "gelu": m.gelu, "window": m.window, **pretrained}


# Strided convolutions and pooling windows have equal padding on both sides, and no blur before them.
CONVOLUTIONS = {"padding": "both sides", "antialias": "none"}
COMPUTED: dict[type, Callable[[Any], dict[str, Any]]] = {
    Projected: lambda m: computed(m.backbone),
    ViT: _vit,
    TextTransformer: _text,
    Mixer: lambda m: {"norm_epsilon": NORM_EPSILON, "gelu": m.gelu},
    GMLP: lambda m: {"norm_epsilon": NORM_EPSILON, "gelu": m.gelu},
    ResMLP: lambda m: {"gelu": m.gelu},
    Swin: _swin,
    MViTV2: lambda m: {"norm_epsilon": m.norm_epsilon, "gelu": m.gelu, "key_stride": m.key_stride},
    ConvNeXt: lambda m: {"norm_epsilon": m.norm_epsilon, "gelu": m.gelu},
    ResNet: _resnet,
    ResNetV2: _resnet_v2,
    ClipResNet: lambda m: {"norm_epsilon": BATCH_NORM_EPSILON, "antialias": "average", "head_width": 64},
    MlperfResNet8: lambda m: {"norm_epsilon": KERAS_EPSILON, "padding": "SAME"},
    LeNet: lambda m: {"activation": "relu", "pool": "max"},
    VGG: lambda m: {"norm_epsilon": BATCH_NORM_EPSILON} if m.norm else {},
    InceptionNet: lambda m: {} if m.epsilon is None else {"norm_epsilon": m.epsilon},
    MobileNet: _mobile,
    ShuffleNet: lambda m: {"norm_epsilon": BATCH_NORM_EPSILON, **CONVOLUTIONS},
    DenseNet: lambda m: {"norm_epsilon": BATCH_NORM_EPSILON},
    SENet: lambda m: {"norm_epsilon": BATCH_NORM_EPSILON, "pool_padding": m.pool_padding},
    NASNet: _nasnet,
    DarkNet: lambda m: {"norm_epsilon": BATCH_NORM_EPSILON, "slope": m.slope},
}


def stated(names: Iterable[str], source: str, model: str, architecture: str | None = None) -> dict[str, Stated]:
    """Returns the properties with which weights were trained: options of our model, and further ones.

    Args:
      names: Names of the arrays in the file. A mapping from names to arrays also allows conclusions from shapes.
      source: Library that wrote the file, one of `weights.sources()` except "jaxvision".
      model: Name of our model.
      architecture: Library's own name for the network, or None if that is unknown.

    Returns:
      Values, each with its source, by the names of `computed`.

    >>> stated(["cls_token", "norm_pre.weight"], "timm", "vit", "vit_base_patch32_clip_quickgelu_224")["gelu"]
    Stated(value='quick', by='architecture vit_base_patch32_clip_quickgelu_224')
    """
    arrays = dict(names) if isinstance(names, Mapping) else None
    names = list(names)
    tables = tables_of(source, model)
    table = tables[0]
    # Later statements replace earlier ones: every network, then names and shapes in the file, then the architecture.
    properties = {name: Stated(value, f"every {model} of {source}") for name, value in table.computes.items()}
    for pattern, values in (row for each in tables for row in each.options):
        everywhere = pattern == "."
        if not everywhere and not any(re.search(pattern, name) for name in names):
            continue
        by = f"every {model} of {source}" if everywhere else "names in the file"
        if callable(values):
            values, by = {} if arrays is None else values(arrays), SHAPES
        properties |= {name: Stated(value, by) for name, value in flat(values).items()}
    for name in table.assumed:
        if name in properties and properties[name].by != SHAPES:
            why = f"{architecture} is not listed otherwise" if architecture else "the file cannot tell"
            properties[name] = Stated(properties[name].value, f"assumed: usual of {source}, and {why}")
    for pattern, values in table.architectures:
        if architecture and re.search(pattern, architecture):
            properties |= {name: Stated(value, f"architecture {architecture}") for name, value in flat(values).items()}
    return properties


def stated_of_file(
    path: str | Path, names: Iterable[str], source: str, model: str, architecture: str | None = None
) -> dict[str, Stated]:
    """Does the same as `stated`, and adds the statements of a config next to the weights (`read_neighbour`).

    Args:
      path: Path of the weights.
      names: Names of the arrays in the file, or a mapping from names to arrays.
      source: Library that wrote the file.
      model: Name of our model.
      architecture: Library's own name for the network; None for the one in the config, if there is one.
    """
    neighbour = read_neighbour(path, source, model)
    properties = stated(names, source, model, architecture or neighbour.architecture)
    return properties | {name: Stated(value, neighbour.file) for name, value in neighbour.options.items()}


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turns sections into dotted names.

    Args:
      options: Options by name; the value of a section is a mapping.
      prefix: Prefix of the names in the result.

    >>> flat({"bias": None, "image": {"gelu": "quick"}})
    {'bias': None, 'image.gelu': 'quick'}
    """
    dotted: dict[str, Any] = {}
    for name, value in options.items():
        dotted |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return dotted


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Turns dotted names into sections, the inverse of `flat`.

    Args:
      options: Options by dotted names.

    >>> nested({"bias": None, "image.gelu": "quick"})
    {'bias': None, 'image': {'gelu': 'quick'}}
    """
    tree: dict[str, Any] = {}
    for name, value in options.items():
        *sections, last = name.split(".")
        inside = tree
        for section in sections:
            inside = inside.setdefault(section, {})
        inside[last] = value
    return tree


def options(model: Mapping[str, Any], properties: Mapping[str, Stated]) -> dict[str, Any]:
    """Returns the properties that are options of our model, as its section needs them.

    Args:
      model: Section of the model as the user has it, with its name; a section of two towers names theirs or a variant.
      properties: Properties of the weights, from `stated`.
    """
    takes = takers(model)
    return nested({name: x.value for name, x in properties.items() if takes(name)})


def takers(model: Mapping[str, Any]) -> Callable[[str], bool]:
    """Makes a function that returns True if a property of that name is an option of our model.

    Args:
      model: Section of the model, as in `options`.

    >>> takers({"name": "resnet"})("shortcut"), takers({"name": "resnet"})("norm_epsilon")
    (True, False)
    """
    taken = {"": _parameters(model["name"])}
    if models.is_pair(model["name"]):
        sections = two_towers.towers(**{key: model.get(key) for key in ("variant", "image", "text")})
        taken |= {name.removesuffix("_tower") + ".": _parameters(s["name"]) for name, s in sections.items()}
    return lambda name: _last(name) in taken.get("".join(name.rpartition(".")[:2]), ())


def _parameters(name: str) -> list[str]:
    every = models.NAMES, models.TEXT_NAMES, models.PAIR_NAMES
    exists = own_modules.is_own(name) or any(name in names for names in every)
    return list(calls.parameters(every[0].resolve(name, *every[1:]))) if exists else []


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Stated], taken: Iterable[str] = ()) -> list[Difference]:
    """Compares a model with the network whose weights it gets.

    Args:
      ours: Properties of our model, from `computed`.
      theirs: Properties of the weights, from `stated`.
      taken: Names in `theirs` that the model takes as options.

    Returns:
      Properties with different values; those of ours that no source states for the weights; and those that are stated
      for their architecture and that our model does not have.
    """
    shared = [
        Difference(name, x, theirs.get(name)) for name, x in ours.items() if name in theirs or _must_be_stated(name)
    ]
    unequal = [d for d in shared if d.theirs is None or d.theirs.value != d.ours]
    definite = lambda name: not theirs[name].by.startswith(("every", "assumed", "names", SHAPES))
    alone = lambda name: name not in ours and name not in taken and definite(name) and _last(name) not in OF_LAYERS
    return unequal + [Difference(name, None, theirs[name]) for name in theirs if alone(name)]


def _must_be_stated(name: str) -> bool:
    return _last(name) not in OF_THE_VARIANT


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def format_table(ours: Mapping[str, Any], by: Mapping[str, str]) -> list[str]:
    """Formats properties as lines "name  value  source", for people.

    Args:
      ours: Properties of a model by name.
      by: Sources of their values, in words, by name.

    >>> format_table({"gelu": "quick"}, {"gelu": "--option"})
    ['gelu  quick  --option']
    """
    rows = [(name, str(value), by.get(name, "")) for name, value in ours.items()]
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)] if rows else []
    return [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows]


def refuse_or_note(
    differing: Iterable[Difference],
    chosen: Iterable[str],
    model: Mapping[str, Any],
    weights: str,
    how: Callable[[str, Any], str],
) -> list[str]:
    """Returns notes on the differences that the user chose, and raises for the others.

    Args:
      differing: Differences, from `differences`.
      chosen: Names of the options that the user set.
      model: Section of the model, as in `options`.
      weights: Words for the weights, for a message.
      how: Function of an option's name and value (None for any value) that returns how to set it, for a message.

    Raises:
      UserError: A difference that the user did not choose; the message has the property, both values and their source.
    """
    options_set, takes, notes, problems = set(chosen), takers(model), [], []
    for name, ours, theirs in differing:
        option = name.replace("head_width", "num_heads")  # the width of heads is set by their number
        if option in options_set and (theirs is None or ours is not None):
            if theirs is not None:
                notes.append(
                    f"NOTE: {name}={ours!r} as you set it, but {weights} computes {theirs.value!r} ({theirs.by})"
                )
        elif theirs is None:
            setting = f"{how(option, None)}{_choices(name)}"
            problems.append(f"{name}: neither the file nor its layout shows it. Set it: {setting}")
        else:
            line = f"{name}: {weights} computes {theirs.value!r} ({theirs.by}), "
            value = theirs.value if option == name else None
            remedy = f"Set it: {how(option, value)}" if takes(option) else "Our model has no option for it."
            problems.append(line + ("which our model lacks" if ours is None else f"the model here {ours!r}. {remedy}"))
    if problems:
        raise UserError("these weights fit, but the model would compute something else:\n  " + "\n  ".join(problems))
    return notes


CHOICES = {"shortcut": "'A' (zero channels last) or 'zeros_centred' (half of them first, half last)"}


def _choices(name: str) -> str:
    choices = CHOICES.get(_last(name))
    return f", {choices}" if choices else ""
