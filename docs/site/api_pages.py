"""The pages of the reference that list functions to import, made from signatures and docstrings.

Docstrings of this project are Markdown with sections in Google's style, so they are written into the directives of
Sphinx's Python domain as they are. (`sphinx.ext.autodoc` would read them as reStructuredText.)
"""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from inspect import Parameter
from types import ModuleType
from typing import Any, NamedTuple

from jaxvision import registry
from jaxvision.docstrings import entries, sections


class Package(NamedTuple):
    """A page about the public functions of some modules.

    Attributes:
      title: Title of the page.
      about: Text below the title.
      modules: Names of the modules; a name that ends with ".*" is that of a package, and means all its modules.
    """

    title: str
    about: str
    modules: tuple[str, ...]


PACKAGES = {
    "python": Package(
        "Python: import jaxvision",
        "The functions of `import jaxvision`, for a notebook or a program of your own: `jaxvision.create_model`, "
        "`jaxvision.load` and so on. [jaxvision in Python](../python.md) shows them in use.",
        ("jaxvision.api", "jaxvision.run", "jaxvision.trained", "jaxvision.predictions"),
    ),
    "python_losses": Package(
        "Python: losses",
        "Losses as pure functions of arrays, to use in a task or outside of this package.",
        ("jaxvision.losses.*",),
    ),
    "python_models": Package(
        "Python: models",
        "The factories of the models. Each returns a Linen module; its arrays are described here, its options are the "
        "keys of the section `model`.",
        tuple(
            f"jaxvision.models.{name}"
            for name in (
                "vit",
                "resnet",
                "resnet_v2",
                "wide_resnet",
                "bit",
                "convnext",
                "mixer",
                "resmlp",
                "gmlp",
                "cycle_mlp",
                "s2_mlp",
                "swin",
                "swin_v2",
                "mvit_v2",
                "nin",
                "lenet",
                "cnn",
                "cnn_layers",
                "mlp",
                "linear",
                "activations",
                "pooling",
                "drop_connect",
                "mlperf_tiny",
                "clip_resnet",
                "text",
                "two_towers",
                "heads",
                "patches",
                "positions",
            )
        ),
    ),
    "python_augment": Package(
        "Python: augmentation",
        "Operations on batches of images inside a jitted step. `jaxvision.augment.make_augmentation(spec)` makes one "
        "function of several.",
        ("jaxvision.augment", "jaxvision.augment.*"),
    ),
    "python_optim": Package(
        "Python: optimizers and schedules",
        "Optax chains and learning-rate schedules, and the rules that choose parameters by their paths.",
        (
            "jaxvision.optim.optimizers",
            "jaxvision.optim.algorithms",
            "jaxvision.optim.schedules",
            "jaxvision.optim.rules",
            "jaxvision.optim.scaling",
            "jaxvision.optim.bit_hyperrule",
        ),
    ),
    "python_analysis": Package(
        "Python: analysis",
        "Statistics, scaling laws and cost accounting on plain numbers, as the studies use them.",
        tuple(
            f"jaxvision.analysis.{name}"
            for name in (
                "statistics",
                "criteria",
                "scaling_laws",
                "equal_error",
                "crossing",
                "efficiency",
                "accounting",
                "collectives",
            )
        ),
    ),
    "python_explain": Package(
        "Python: what a network sees",
        "The instruments of `jaxvision explain` as pure functions of a model and of images. "
        "[What a network sees](../explain.md) shows them in use.",
        ("jaxvision.explain.*",),
    ),
    "python_contracts": Package(
        "Python: contracts",
        "The types that the parts of an experiment exchange: what a task, a source, a field and a state are.",
        (
            "jaxvision.tasks.task",
            "jaxvision.fields",
            "jaxvision.data.sources.base",
            "jaxvision.train.state",
            "jaxvision.errors",
            "jaxvision.sections",
        ),
    ),
}


def modules(names: tuple[str, ...]) -> list[ModuleType]:
    """Imports the modules that the names of a package stand for.

    Args:
      names: Names of modules, and of packages followed by ".*".
    """
    found = []
    for name in names:
        found += registry.modules(name[:-2]) if name.endswith(".*") else [importlib.import_module(name)]
    return found


def members(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yields the public functions and classes that a module or a class defines itself, in their order in the file.

    Args:
      owner: Module or class.
    """
    module = owner.__name__ if inspect.ismodule(owner) else owner.__module__
    for name, value in vars(owner).items():
        value = getattr(value, "__func__", value)  # of a static or class method
        value = inspect.unwrap(value)  # of a jitted function
        documented = inspect.isfunction(value) or inspect.isclass(value) or isinstance(value, property)
        public = not name.startswith("_") or (name == "__call__" and inspect.isclass(owner))
        own = isinstance(value, property) or getattr(value, "__module__", "") == module
        if public and documented and own and inspect.getdoc(value):
            yield name, value


def markdown(doc: str) -> str:
    """Returns a docstring as Markdown: its text, its sections, then its examples, as blocks of code.

    Args:
      doc: Docstring, its indentation removed.

    >>> print(markdown("Adds.\\n\\nArgs:\\n  a, b: Numbers."))
    Adds.
    <BLANKLINE>
    **Args:**
    <BLANKLINE>
    - `a`, `b`: Numbers.
    """
    texts = sections(doc)
    prose, examples = [], []
    for block in re.split(r"\n\s*\n", texts.pop("").strip("\n")):
        if block.lstrip().startswith(">>>"):
            examples.append(f"```pycon\n{inspect.cleandoc(block)}\n```")
        elif block.startswith("  "):
            prose.append(f"```text\n{block}\n```")
        elif block.strip():
            prose.append(block)
    for title, text in texts.items():
        if title in ("Args", "Attributes", "Raises"):
            prose.append(f"**{title}:**\n\n{_listed(text)}")
        elif text.strip():
            prose.append(f"**{title}:** {inspect.cleandoc(text)}")
    return "\n\n".join(prose + examples)


def _listed(section: str) -> str:
    """The entries of a section as a list; names that share a description share an item."""
    groups: list[tuple[list[str], str]] = []
    for name, text in entries(section).items():
        if groups and groups[-1][1] == text:
            groups[-1][0].append(name)
        else:
            groups.append(([name], text))
    return "\n".join(f"- {', '.join(f'`{name}`' for name in names)}: {text}" for names, text in groups)


def signature(function: Callable) -> str:
    """Returns the parameters of a function with their defaults, without annotations.

    Args:
      function: Function or class.
    """
    plain = []
    for parameter in inspect.signature(function).parameters.values():
        default = parameter.default
        if default is not Parameter.empty:
            default = _Written(getattr(default, "__name__", None) or re.sub(r"<.*>", "...", repr(default)))
        plain.append(parameter.replace(annotation=Parameter.empty, default=default))
    if plain and plain[0].name == "self":
        plain = plain[1:]
    return str(inspect.Signature(plain))


class _Written(str):
    """A default that is shown as it is, without quotes."""

    def __repr__(self) -> str:
        return str(self)


def directive(kind: str, name: str, value: Any, module: str, content: str) -> str:
    """Returns a directive of Sphinx's Python domain.

    Args:
      kind: Name of the directive: function, class, method or property.
      name: Name of the thing.
      value: Thing.
      module: Name of its module.
      content: Markdown below its signature.
    """
    fence = "`" * (6 if kind == "class" else 5)
    plain = kind == "property" or (kind == "class" and issubclass(value, BaseException))
    called = "" if plain else signature(value)
    return f"{fence}{{py:{kind}}} {name}{called}\n:module: {module}\n\n{content}\n{fence}"


def describe(name: str, value: Any, module: str) -> str:
    """Returns a function or a class with its methods as Markdown.

    Args:
      name: Name of the thing.
      value: Function or class.
      module: Name of its module.
    """
    content = markdown(inspect.getdoc(value) or "")
    if not inspect.isclass(value):
        return directive("function", name, value, module, content)
    parts = [content]
    for method, function in members(value):
        kind = "property" if isinstance(function, property) else "method"
        if not inspect.isclass(function):
            text = markdown(inspect.getdoc(function) or "")
            parts.append(directive(kind, f"{name}.{method}", function, module, text))
    return directive("class", name, value, module, "\n\n".join(parts))


def pages() -> dict[str, str]:
    """Returns the pages by name."""
    texts = {}
    for name, package in PACKAGES.items():
        parts = [f"# {package.title}", package.about]
        for module in modules(package.modules):
            shown = module.__name__.replace("jaxvision.api", "jaxvision")
            parts += [f"## {shown}", markdown(inspect.getdoc(module) or "")]
            parts += [describe(one, value, shown) for one, value in members(module)]
        texts[name] = "\n\n".join(parts) + "\n"
    return texts
