"""Short names of models, as people write them: resnet18, vit-s16, convnext-t."""

import re
from collections.abc import Iterator
from typing import Any

from jaxvision import models, own_modules
from jaxvision.errors import UserError, closest, natural


def find_model(text: str) -> dict[str, Any]:
    """Returns the section `model` that a short name means.

    The name begins with the name of a model; the rest is one of its variants, or the beginning of one. Case, and the
    characters between letters and digits, do not matter. A variant SIZE/PATCH may have any patch.

    Args:
      text: Short name, or "package.module:function" of a user's own model.

    Raises:
      UserError: No model, or no variant, has such a name.

    >>> find_model("resnet18"), find_model("vit-s16")
    ({'name': 'resnet', 'variant': '18'}, {'name': 'vit', 'variant': 'S/16'})
    >>> find_model("ConvNeXt_T"), find_model("wide-resnet-28-10"), find_model("vit:Ti/4")["variant"]
    ({'name': 'convnext', 'variant': 'tiny'}, {'name': 'wide_resnet', 'variant': '28-10'}, 'Ti/4')
    """
    if own_modules.is_own(text) and text.partition(":")[0] not in models.NAMES:
        models.NAMES.resolve(text)
        return {"name": text}
    folded = _fold(text)
    for name in sorted(models.NAMES, key=len, reverse=True):
        if folded.startswith(_fold(name)):
            rest = _after(text, len(_fold(name)))
            for variant in _variants(name, rest):
                section = {"name": name} | ({"variant": variant} if variant else {})
                if _builds(section):
                    return section
    for name, factory in models.NAMES.items():  # resnext50_32x4d is a variant whose name says it all
        for variant in models.NAMES.more(factory, "variants", ()):
            if _fold(variant) == folded and len(folded) > 6:
                return {"name": name, "variant": variant}
    raise _unknown(text)


def _unknown(text: str) -> UserError:
    """The error for a name that means no model: its choices are the variants of the nearest model, else all models."""
    names = {name: short_names(name) for name in sorted(models.NAMES)}
    every = [short for listed_names in names.values() for short in listed_names]
    near = closest(text.lower(), every)
    meant = [name for name in names if _fold(text).startswith(_fold(name)) or near in names[name]]
    choices = f"{', '.join(names)}, or a variant, as in resnet50 and vit-s16: see `jaxvision list variants`"
    if meant:
        model = max(meant, key=len)
        choices = f"{', '.join(names[model])}, and those of {', '.join(name for name in names if name != model)}"
    return UserError(f"unknown model {text!r}{f'; did you mean {near!r}?' if near else '.'} Choices: {choices}")


def short_names(model: str) -> list[str]:
    """Returns the short names of a model, one for each of the variants that it lists, sorted.

    Args:
      model: Name of the model.

    >>> short_names("mixer")[:2], short_names("nin")
    (['mixer-b16', 'mixer-h16'], ['nin'])
    """
    variants = models.NAMES.more(models.NAMES[model], "variants", ())
    names = [f"{model}{'' if v[0].isdigit() else '-'}{v.replace('/', '').lower()}" for v in variants]
    return sorted(dict.fromkeys(names or [model]), key=natural)


def _variants(name: str, rest: str) -> Iterator[str]:
    """Yields the variants that the rest of a name may mean, the likeliest first; "" for that of the builder."""
    listed_variants = models.NAMES.more(models.NAMES[name], "variants", ())
    folded = _fold(rest)
    if not folded:
        yield ""
        return
    bare = rest.strip("-_:/. ")
    exact = [variant for variant in listed_variants if _fold(variant) == folded]
    yield from sorted(exact, key=lambda variant: variant.replace("/", "") != bare)  # g/14 and G/14
    sized = re.fullmatch(r"([a-z0-9]*[a-z])(\d+)", folded)
    sizes = dict.fromkeys(variant.partition("/")[0] for variant in listed_variants if "/" in variant)
    if sized:
        alike = [size for size in sizes if _fold(size) == sized[1]]
        yield from (f"{size}/{sized[2]}" for size in sorted(alike, key=lambda size: not bare.startswith(size)))
    begun = [variant for variant in listed_variants if _fold(variant).startswith(folded)]
    yield from begun if len(begun) == 1 and not folded.isdigit() else ()
    yield bare


def _fold(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _after(text: str, letters: int) -> str:
    """The text after so many letters and digits."""
    ends = [match.end() for match in re.finditer(r"[A-Za-z0-9]", text)]
    return text[ends[letters - 1] :]


def _builds(section: dict[str, Any]) -> bool:
    try:
        models.build(num_classes=2, **section)
    except UserError:
        return False
    return True
