"""What a network computes that no array of its file tells, such as an epsilon or the form of a GELU, and who says so.

Two networks whose arrays have the same names and shapes may compute different things. `computed` says it of a model of
ours, `stated` says what a library's weights were trained with, as its tables have it, and `differences` compares.
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
from jaxvision.models.heads import Projected
from jaxvision.models.layers import BATCH_NORM_EPSILON
from jaxvision.models.lenet import LeNet
from jaxvision.models.mixer import Mixer
from jaxvision.models.mlperf_tiny import BATCH_NORM_EPSILON as KERAS_EPSILON
from jaxvision.models.mlperf_tiny import MlperfResNet8
from jaxvision.models.resnet import ResNet
from jaxvision.models.resnet_v2 import GROUP_NORM_EPSILON, ResNetV2
from jaxvision.models.text import TextTransformer
from jaxvision.models.transformer import NORM_EPSILON
from jaxvision.models.vit import ViT
from jaxvision.models.weights.preprocessing import beside
from jaxvision.models.weights.table import Stated
from jaxvision.models.weights.tables import tables_of

SHAPES = "shapes in the file"
# What the size of a variant says, where nobody else does.
OF_THE_VARIANT = ("num_heads", "head_width")
# Properties of a kind of layer: a model that has none of the kind cannot differ.
OF_LAYERS = ("gelu", "norm_epsilon", "num_heads", "head_width", "stride_in", "end_token")


class Difference(NamedTuple):
    """A property that a model computes otherwise than its weights were trained.

    Attributes:
      name: of the property, dotted in a tower, "image.gelu".
      ours: what the model computes.
      theirs: what the weights were trained with, and who says so; None where nobody does.
    """

    name: str
    ours: Any
    theirs: Stated | None


def computed(module: nn.Module) -> dict[str, Any]:
    """What a model computes that its arrays do not tell.

    Names are those of the model's options where it has one; of two towers they begin with "image." or "text.".

    >>> computed(models.build("vit", None, variant="Ti/16"))["norm_epsilon"]
    1e-06
    """
    if isinstance(module, two_towers.TwoTowers):
        towers = {"image": module.image_tower.backbone, "text": module.text_tower.backbone}
        return {f"{tower}.{name}": x for tower, trunk in towers.items() for name, x in computed(trunk).items()}
    return next((of(module) for kind, of in COMPUTED.items() if isinstance(module, kind)), {})


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
    group = {"norm_epsilon": GROUP_NORM_EPSILON, "groups": GROUPS}
    norm = group if m.norm == "group" else {"norm_epsilon": BATCH_NORM_EPSILON}
    strides = {"stride_in": m.stride_in} if m.bottleneck else {}
    standardize = {"standardize_epsilon": m.standardize_epsilon} if m.standardize else {}
    pool = {"pool_padding": "zeros" if m.pool_padding == 0 else "ignored"} if m.stem == "imagenet" else {}
    return {**norm, **strides, **standardize, **pool, **CONVOLUTIONS}


# Strided convolutions and pooling windows are padded alike on both sides; where they stride, nothing is blurred first.
CONVOLUTIONS = {"padding": "both sides", "antialias": "none"}
COMPUTED: dict[type, Callable[[Any], dict[str, Any]]] = {
    Projected: lambda m: computed(m.backbone),
    ViT: _vit,
    TextTransformer: _text,
    Mixer: lambda m: {"norm_epsilon": NORM_EPSILON, "gelu": m.gelu},
    ConvNeXt: lambda m: {"norm_epsilon": m.norm_epsilon, "gelu": m.gelu},
    ResNet: _resnet,
    ResNetV2: _resnet_v2,
    ClipResNet: lambda m: {"norm_epsilon": BATCH_NORM_EPSILON, "antialias": "average", "head_width": 64},
    MlperfResNet8: lambda m: {"norm_epsilon": KERAS_EPSILON, "padding": "SAME"},
    LeNet: lambda m: {"activation": "relu", "pool": "max"},
}


def stated(names: Iterable[str], source: str, model: str, architecture: str | None = None) -> dict[str, Stated]:
    """What weights were trained with: options of our model, and what else it must compute, by name.

    Args:
      names: of the arrays in the file; with the arrays themselves, what their shapes tell counts, too.
      source: who wrote it, one of `weights.sources()` but "jaxvision".
      model: name of our model.
      architecture: the library's own name for the network, where it is known.

    >>> stated(["cls_token", "norm_pre.weight"], "timm", "vit", "vit_base_patch32_clip_quickgelu_224")["gelu"]
    Stated(value='quick', by='architecture vit_base_patch32_clip_quickgelu_224')
    """
    arrays = dict(names) if isinstance(names, Mapping) else None
    names = list(names)
    tables = tables_of(source, model)
    table = tables[0]
    found = {name: Stated(value, f"every {model} of {source}") for name, value in table.computes.items()}
    for pattern, values in (row for each in tables for row in each.options):
        everywhere = pattern == "."
        if not everywhere and not any(re.search(pattern, name) for name in names):
            continue
        by = f"every {model} of {source}" if everywhere else "names in the file"
        if callable(values):
            values, by = {} if arrays is None else values(arrays), SHAPES
        found |= {name: Stated(value, by) for name, value in flat(values).items()}
    for name in table.assumed:
        if name in found and found[name].by != SHAPES:
            why = f"{architecture} is not listed otherwise" if architecture else "the file cannot tell"
            found[name] = Stated(found[name].value, f"assumed: usual of {source}, and {why}")
    for pattern, values in table.architectures:
        if architecture and re.search(pattern, architecture):
            found |= {name: Stated(value, f"architecture {architecture}") for name, value in flat(values).items()}
    return found


def of_file(
    path: str | Path, names: Iterable[str], source: str, model: str, architecture: str | None = None
) -> dict[str, Stated]:
    """The same, with what a file beside the weights `path` says of their network (`preprocessing.beside`)."""
    found = beside(path, source, model)
    said = stated(names, source, model, architecture or found.architecture)
    return said | {name: Stated(value, found.file) for name, value in found.options.items()}


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Options with those of a tower's section by dotted names.

    >>> flat({"bias": None, "image": {"gelu": "quick"}})
    {'bias': None, 'image.gelu': 'quick'}
    """
    found = {}
    for name, value in options.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flat`.

    >>> nested({"bias": None, "image.gelu": "quick"})
    {'bias': None, 'image': {'gelu': 'quick'}}
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        *sections, last = name.split(".")
        inside = found
        for section in sections:
            inside = inside.setdefault(section, {})
        inside[last] = value
    return found


def options(model: Mapping[str, Any], said: Mapping[str, Stated]) -> dict[str, Any]:
    """Of what is stated, that which our model takes as options, as its section wants them.

    Args:
      model: section of the model, with its name, as the user has it; of two towers it names theirs or a variant.
      said: from `stated`.
    """
    takes = takers(model)
    return nested({name: x.value for name, x in said.items() if takes(name)})


def takers(model: Mapping[str, Any]) -> Callable[[str], bool]:
    """Whether a property is an option of our model, as a function of its name; the section `model` is as in `options`.

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
    known = own_modules.is_own(name) or any(name in names for names in every)
    return list(calls.parameters(every[0].resolve(name, *every[1:]))) if known else []


def differences(ours: Mapping[str, Any], said: Mapping[str, Stated], taken: Iterable[str] = ()) -> list[Difference]:
    """Where a model computes something else than its weights were trained with, or nobody says what that was.

    Args:
      ours: from `computed`.
      said: from `stated`.
      taken: names in `said` that the model takes as options. What else an architecture is said to compute, and
        `ours` does not know, is a difference.
    """
    found = [Difference(name, x, said.get(name)) for name, x in ours.items() if name in said or _must_be_said(name)]
    found = [d for d in found if d.theirs is None or d.theirs.value != d.ours]
    definite = lambda name: not said[name].by.startswith(("every", "assumed", "names", SHAPES))
    alone = lambda name: name not in ours and name not in taken and definite(name) and _last(name) not in OF_LAYERS
    beyond = [name for name in said if alone(name)]
    return found + [Difference(name, None, said[name]) for name in beyond]


def _must_be_said(name: str) -> bool:
    return _last(name) not in OF_THE_VARIANT


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def table(ours: Mapping[str, Any], by: Mapping[str, str]) -> list[str]:
    """Lines "name  value  who says so", for people.

    >>> table({"gelu": "quick"}, {"gelu": "--option"})
    ['gelu  quick  --option']
    """
    rows = [(name, str(value), by.get(name, "")) for name, value in ours.items()]
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)] if rows else []
    return [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows]


def refuse_or_note(
    found: Iterable[Difference],
    told: Iterable[str],
    model: Mapping[str, Any],
    weights: str,
    how: Callable[[str, Any], str],
) -> list[str]:
    """Notes on differences that the user asked for; the others are refused.

    Args:
      found: from `differences`.
      told: names of the options that the user gave.
      model: section of the model, as in `options`.
      weights: what the weights are, for a message.
      how: what to write for an option of a name and a value (None is any), for a message.

    Raises:
      UserError: a difference that the user did not ask for; it names the property, both values, and who says so.
    """
    told, takes, notes, problems = set(told), takers(model), [], []
    for name, ours, theirs in found:
        option = name.replace("head_width", "num_heads")  # which is told, or follows from the size
        if option in told and (theirs is None or ours is not None):
            if theirs is not None:
                notes.append(f"NOTE: {name}={ours!r} as you say, but {weights} computes {theirs.value!r} ({theirs.by})")
        elif theirs is None:
            said = f"{how(option, None)}{_choices(name)}"
            problems.append(f"{name}: neither the file nor its layout tells it. Say it: {said}")
        else:
            line = f"{name}: {weights} computes {theirs.value!r} ({theirs.by}), "
            value = theirs.value if option == name else None
            mend = f"Say it: {how(option, value)}" if takes(option) else "Our model has no option for it."
            problems.append(line + ("which our model has not" if ours is None else f"the model here {ours!r}. {mend}"))
    if problems:
        raise UserError("these weights would fit and compute something else:\n  " + "\n  ".join(problems))
    return notes


CHOICES = {"shortcut": "'A' (zero channels behind) or 'zeros_centred' (half in front, half behind)"}


def _choices(name: str) -> str:
    choices = CHOICES.get(_last(name))
    return f", {choices}" if choices else ""
