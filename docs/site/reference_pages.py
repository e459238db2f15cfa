"""The pages of the reference that list what a config may hold, made from signatures, annotations and docstrings.

One page has the keys of the sections, and one for each kind of part has the options of all its built-in parts.
"""

import ast
import inspect
from collections.abc import Callable, Collection, Mapping
from inspect import Parameter
from pathlib import Path
from typing import Any, NamedTuple

from jaxvision import arguments, augment, calls, evals, launch, losses, models, tasks
from jaxvision import sections as config_sections
from jaxvision.config import schema
from jaxvision.data import host_ops, sources, subsets
from jaxvision.data.sources.tfds import TfdsSource
from jaxvision.data.text.registry import TOKENIZERS
from jaxvision.docstrings import entries, sections
from jaxvision.optim import optimizers, schedules
from jaxvision.sweep import searches


class Option(NamedTuple):
    """An option, or a key of a section.

    Attributes:
      name: Name of the option.
      kind: Words for the values that it takes.
      default: Default as it is written in a config; None if the option is required.
      meaning: Description from the docstring; empty if there is none.
    """

    name: str
    kind: str
    default: str | None
    meaning: str


def options(function: Callable, program: Collection[str] = ()) -> list[Option]:
    """Returns the options of a function or class.

    Args:
      function: Function or class with a docstring.
      program: Names of the parameters that the program sets.
    """
    texts = sections(inspect.getdoc(function) or "")
    meanings = entries(texts.get("Args", "")) | entries(texts.get("Attributes", ""))
    return [
        Option(
            ("*" if parameter.kind is parameter.VAR_POSITIONAL else "") + name,
            _kind(parameter),
            None if parameter.default is Parameter.empty else _written(parameter.default),
            meanings.get(name, ""),
        )
        for name, parameter in calls.parameters(function).items()
        if name not in program and parameter.kind is not parameter.VAR_KEYWORD
    ]


def _kind(parameter: Parameter) -> str:
    """Words for the annotation of a parameter; those of its default if there is none."""
    annotation: Any = parameter.annotation
    if annotation is Parameter.empty:
        return "" if parameter.default in (None, Parameter.empty) else arguments.words(type(parameter.default))
    return "" if annotation is Any else arguments.words(annotation)


def _written(default: Any) -> str:
    return getattr(default, "__name__", None) or repr(default)


def summary(function: Callable) -> str:
    """Returns the first paragraph of a docstring, as one line.

    Args:
      function: Function or class.
    """
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


def table(rows: Collection[Option], first: str = "option") -> str:
    """Returns options as a Markdown table.

    Args:
      rows: Options.
      first: Title of the first column.
    """
    if not rows:
        return "It takes no options."
    lines = [f"| {first} | type | default | meaning |", "|---|---|---|---|"]
    for row in rows:
        default = "required" if row.default is None else f"`{row.default}`"
        cells = (f"`{row.name}`", row.kind, default, row.meaning)
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


class Kind(NamedTuple):
    """A kind of parts, and the page about it.

    Attributes:
      title: Title of the page.
      about: Text below the title: what the page is for, and where a config names such a part.
      parts: Functions by name.
      program: Names of the parameters that the program sets.
    """

    title: str
    about: str
    parts: Mapping[str, Callable]
    program: Collection[str] = ()

    def page(self) -> str:
        """Returns the page as Markdown."""
        texts = [f"# {self.title}", self.about]
        for name, part in sorted(self.parts.items()):
            file = part.__module__.replace(".", "/")
            texts += [f"## {name}", f"{summary(part)}\n\nIn `{file}.py`.", table(options(part, self.program))]
        return "\n\n".join(texts) + "\n"


def kinds() -> dict[str, Kind]:
    """Returns the kinds of parts by the name of their page."""
    registries = (models.NAMES, models.TEXT_NAMES, models.PAIR_NAMES)
    all_models = {name: part for registry in registries for name, part in registry.items()}
    data_sets = {**sources.KINDS, "a TFDS name": TfdsSource}
    return {
        "models": Kind(
            "Models",
            "Every model that `model.name` may name, and its options. A text model is named in the section "
            "`model.text` of `two_towers`. Number of classes and precision follow from other sections.",
            all_models,
            ("num_classes", "dtype"),
        ),
        "tasks": Kind(
            "Tasks",
            "Every task that `task.name` may name, and its options.",
            tasks.TASKS,
            (*tasks.TASKS.required, *tasks.TASKS.offered),
        ),
        "losses": Kind(
            "Losses",
            "Every loss that `task.loss` of the task `supervised` may name.",
            losses.LOSSES,
            losses.LOSSES.required,
        ),
        "optimizers": Kind(
            "Optimizers",
            "Every optimizer that `optimizer.name` may name, and its own options; the keys that all optimizers share "
            "are in the [section optimizer](config.md#optimizer).",
            optimizers.OPTIMIZERS,
            optimizers.OPTIMIZERS.required,
        ),
        "schedules": Kind(
            "Schedules",
            'Every decay of the learning rate that `optimizer.schedule` may name, as in `"cosine"` or '
            "`\"step('30 epochs', factor=0.1)\"`.",
            schedules.decays.factories,
        ),
        "evaluators": Kind(
            "Evaluators",
            "Every evaluator that an entry of `evals` may name, and its own options; the keys that all entries share "
            "are in the [section evals](config.md#evals).",
            evals.EVALUATORS,
            (*evals.EVALUATORS.required, *evals.EVALUATORS.offered),
        ),
        "augmentations": Kind(
            "Augmentations",
            "Every operation that the spec `augment` may name, and its arguments. They run on the device, in the order "
            "of the spec.",
            augment.ops.factories,
        ),
        "host_operations": Kind(
            "Host operations",
            "Every operation that the spec `data.host` may name, and its arguments. They run on the host, on one "
            "example at a time.",
            host_ops.host_ops.factories,
        ),
        "data_sets": Kind(
            "Kinds of data sets",
            "Every kind of data set that `data.name` may name, and what `data.options` may hold for it. Any other name "
            "is that of a TFDS set.",
            data_sets,
            ("self", "data_dir", "split", "fields", "name"),
        ),
        "tokenizers": Kind(
            "Tokenizers",
            "Every tokenizer that the host operation `tokenize` may name, and its options.",
            TOKENIZERS,
            TOKENIZERS.required,
        ),
        "searches": Kind(
            "Searches and pruners",
            "Every search that the file of a sweep may name in `search`, and every pruner in `pruning`.",
            {**searches.registry.factories, **searches.pruning.factories},
        ),
        "launchers": Kind(
            "Launchers",
            "Every place to run that `--launcher` may name, and its options.",
            launch.LAUNCHERS,
        ),
    }


def config_sections_of() -> dict[str, tuple[str, list[Option]]]:
    """Returns a sentence and the keys of each section of a config that all its parts share."""
    name = Option("name", "a text", None, "Name of the part, or `package.module:function` of your own.")
    projection = [one for one in options(models.build) if one.name.startswith("projection")]
    optimizer = options(optimizers.make_optimizer, (*optimizers.GIVEN, "options"))
    subset = options(subsets.take, ("source",))
    return {
        "data": ("The training set. Its `options` depend on its [kind](data_sets.md).", options(DATA)),
        "data.subset": ("A part of the training set; `evals.NAME.subset` has the same keys.", subset),
        "model": ("The network. Further keys are those of the [model](models.md).", [name, *projection]),
        "task": ("What is learned. Further keys are those of the [task](tasks.md).", [name]),
        "optimizer": (
            "How the parameters are updated. Further keys are those of the [optimizer](optimizers.md). For a task with "
            "several players, `optimizer.players.NAME` changes these keys for one of them.",
            optimizer,
        ),
        "train": ("Length, precision and safety of the run.", options(config_sections.TrainSection)),
        "evals": (
            "Evaluations: `evals.NAME` is one entry, under a name of your choice. Further keys are those of the "
            "[evaluator](evaluators.md).",
            options(config_sections.EvalSection),
        ),
        "init": ("The weights that the run starts from.", options(config_sections.InitSection)),
        "mesh": ("The devices, and how the state is laid over them.", options(config_sections.MeshSection)),
    }


DATA = config_sections.DataSection
CONFIG = """# Config keys

Every key of every section of a config, with its type, its default and its meaning. A key that is "required" has no
default. Every key can be changed on the command line, whether the file contains it or not:
`--config.train.total="90 epochs"`.

Two keys are no sections: `seed`, a whole number from which every random draw of the run follows, and `augment`, the
spec of the [operations](augmentations.md) on the device; without it there are none."""


def config_page() -> str:
    """Returns the page with the keys of all sections."""
    described = config_sections_of()
    missing = set(schema.SECTIONS) - {"seed", "augment"} - set(described)
    assert not missing, f"the page of config keys lacks {missing}"
    texts = [f"## {title}\n\n{about}\n\n{table(rows, 'key')}" for title, (about, rows) in described.items()]
    return "\n\n".join([CONFIG, *texts]) + "\n"


def configs_page(root: Path) -> str:
    """Returns the page with the header of every config.

    Args:
      root: Root of the repository.
    """
    texts = [
        "# Configs",
        "Every config of the folder `configs/`, with its header: the command, the source of the recipe, the number to "
        "expect and its cost.",
    ]
    for file in sorted((root / "configs").rglob("*.py")):
        header = ast.get_docstring(ast.parse(file.read_text())) or ""
        texts.append(f"## {file.relative_to(root / 'configs')}\n\n```text\n{header}\n```")
    return "\n\n".join(texts) + "\n"


def pages(root: Path) -> dict[str, str]:
    """Returns the pages by name.

    Args:
      root: Root of the repository.
    """
    of_kinds = {name: kind.page() for name, kind in kinds().items()}
    return {"config": config_page(), "configs": configs_page(root), **of_kinds}
