"""`jaxvision help NAME`: everything of this name, in whatever kind."""

from collections.abc import Sequence

from jaxvision import own_modules, scripts
from jaxvision.commands import catalog, config_keys, describe, listing
from jaxvision.commands.catalog import Entry
from jaxvision.errors import UserError, nearest, shown, unknown

RULE = "\n\n" + "-" * 40 + "\n\n"  # between two things of one name


def run_help(name: str, inside: str | None = None, *, others: Sequence[str] = (), commands: Sequence[str] = ()) -> str:
    """Describes everything of a name: parts, keys of a config, config files, studies.

    Args:
      name: Name; or a kind, if `inside` is given.
      inside: Name of a part of that kind, for a name that several kinds have; None if `name` is the name.
      others: Texts of other things of this name, which come first.
      commands: Names of the commands, to suggest one.

    Raises:
      UserError: There is nothing of this name.
    """
    if inside is not None:
        return _of_kind(name, inside)
    texts = [*others]
    path, _ = scripts.split(name)
    if own_modules.is_own(name) and not _variant(name):
        return describe.own(name)
    if describe.is_file(name):
        return describe.file(Entry(scripts.split(name)[0] if path == name else name.partition(":")[0], "", path))
    if path.endswith(".py"):
        scripts.check_python(path, "config")  # which says where it was looked for
    texts += [_text(kind.kind, entry) for kind, entry in catalog.named(name)]
    texts += config_keys.describe_key(name.lstrip("-").partition("=")[0])
    texts += [_variant(name)] if _variant(name) else []
    if not texts and name in {word for kind in catalog.kinds().values() for word in (kind.word, kind.kind)}:
        texts = [listing.run_list(name)]
    texts = texts or describe.option(name)
    if not texts:
        raise _unknown(name, commands)
    return RULE.join(texts)


def _of_kind(word: str, name: str) -> str:
    kind = catalog.find_kind(word)
    found = [entry for entry in catalog.entries(kind.word) if entry.name == name]
    if not found:
        raise unknown(kind.kind, name, (entry.name for entry in catalog.entries(kind.word)))
    return _variant(name) if kind.word == catalog.VARIANTS else _text(kind.kind, found[0])


def _text(kind: str, entry: Entry) -> str:
    found = catalog.find_kind(kind)
    return describe.part(found, entry) if found.registry is not None else describe.file(entry)


def _variant(name: str) -> str:
    """The sizes of a variant such as vit:B/16, and the options of its model; empty if there is no such model."""
    model, colon, variant = name.partition(":")
    if not colon:
        return ""
    models = [(kind, entry) for kind, entry in catalog.named(model) if kind.kind.endswith("model")]
    if not models:
        return ""
    sizes = [entry.summary for entry in catalog.entries(catalog.VARIANTS) if entry.name == name]
    if not sizes and "/" not in variant:  # a patch may have any side
        names = [entry.name for entry in catalog.entries(catalog.VARIANTS) if entry.name.startswith(f"{model}:")]
        raise unknown("variant", name, names)
    first = f"variant {name}: {sizes[0]}\n\n" if sizes else ""
    return first + describe.part(*models[0])


def _unknown(name: str, commands: Sequence[str]) -> UserError:
    kinds = [word for word in catalog.kinds() if word != catalog.VARIANTS]
    names = [entry.name for word in kinds for entry in catalog.entries(word)]
    names += [place.path for place in config_keys.every()]
    hint = nearest(name, [*commands, *kinds, *names]) or "."
    return UserError(
        f"nothing is called {shown(name)}{hint} 'jaxvision list' shows what has a name; a part of your own is "
        "'package.module:function', a config is FILE.py"
    )
