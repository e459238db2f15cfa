"""The table of all models in docs/models.md, made from the code.

    python docs/site/model_table.py            # writes it
    python docs/site/model_table.py --check    # exits with 1 if the page has another one

Parameters and multiply-adds are counted in the traced network, in a minute, without computing anything. The publication
is the one that the docstring of the model names, or else that of its file. Libraries whose weights can be read are
those of `models/weights/tables.py`, and the differences of logits are the bounds of tests/reference/parity.json, which
the tests of tests/parity assert.
"""

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from jaxvision import models  # noqa: E402
from jaxvision.analysis.accounting import traced_macs  # noqa: E402
from jaxvision.models.weights.tables import TABLES  # noqa: E402

PAGE = ROOT / "docs" / "models.md"
BOUNDS = ROOT / "tests" / "reference" / "parity.json"
BEGIN, END = "<!-- table of models: python docs/site/model_table.py -->", "<!-- end of the table of models -->"
HEAD = (
    "| model | images | parameters | multiply-adds | publication | weights of | logits differ by at most |",
    "|---|---|---:|---:|---|---|---|",
)
CITATION = re.compile(
    r"""(?P<who>[A-Z][a-z][\w'-]*(?:\ et\ al\.|\ (?:&|and)\ [A-Z][\w'-]+)?\ (?:19|20)\d\d)[a-z]?\b
        (?:,\ "[^"]*")?(?:,\ (?:arXiv\ )?(?P<arxiv>\d{4}\.\d{4,5}))?""",
    re.VERBOSE,
)


class Setting(NamedTuple):
    """For which images the row of a model counts.

    Attributes:
      side: Side of the images in pixels.
      classes: Number of classes, or None for a model without a head.
      options: Options of the model that are not its defaults.
      channels: Number of channels of the images.
    """

    side: int = 224
    classes: int | None = 1000
    options: Mapping[str, Any] = {}
    channels: int = 3


CIFAR = Setting(32, 10)
SETTINGS = {  # those of their papers, where these are not 224 pixels and 1,000 classes
    "bit": Setting(480),
    "clip_resnet": Setting(224, None),
    "cnn": Setting(28, 10, {"variant": "bn9"}),
    "darknet": Setting(256),
    "identity": Setting(32, None),
    "inception": Setting(299),
    "lenet": Setting(32, 10, channels=1),
    "linear": CIFAR,
    "mlp": Setting(28, 10, {"grey": True}),
    "mlperf_resnet8": CIFAR,
    "nasnet": Setting(331),
    "nin": CIFAR,
    "swin_v2": Setting(256),
    "two_towers": Setting(224, None, {"variant": "clip_vit_b32"}),
    "wide_resnet": CIFAR,
}
CONTEXT = 77  # tokens of a text in CLIP


def names() -> list[str]:
    """Lists the models of images, and those of images and texts, in alphabetical order."""
    return sorted([*models.NAMES, *models.PAIR_NAMES])


def row(name: str) -> str:
    """Makes the row of a model.

    Args:
      name: Name of the model.

    >>> row("lenet")
    '| `lenet` | 32 px, 10 classes | 61,706 | 0.42 M | LeCun et al. 1998 | lenet5 | 1e-4 (lenet5) |'
    """
    factory = models.NAMES.resolve(name, models.PAIR_NAMES)
    setting = SETTINGS.get(name, Setting())
    variant = setting.options.get("variant", _default(factory, "variant"))
    called = f"`{name}`" + ("" if variant is None else f", {variant}")
    images = f"{setting.side} px" + ("" if setting.classes is None else f", {setting.classes:,} classes")
    parameters, multiply_adds = counted(name, setting)
    cells = (
        called,
        images,
        f"{parameters:,}",
        f"{multiply_adds / 1e6:,.2f} M",
        publication(factory),
        ", ".join(source for source, tables in TABLES.items() if name in tables),
        ", ".join(f"{bound} ({source})" for source, bound in bounds(name)),
    )
    return "| " + " | ".join(cells) + " |"


def counted(name: str, setting: Setting) -> tuple[int, int]:
    """Counts the parameters of a model and the multiply-adds of its forward pass for one image.

    Args:
      name: Name of the model.
      setting: Images, number of classes and options.
    """
    factory = models.NAMES.resolve(name, models.PAIR_NAMES)
    quick = {} if _default(factory, "scan") is None else {"scan": True}  # traced faster, and the counts are the same
    model = models.build(name, setting.classes, **quick, **setting.options)
    inputs = [jax.ShapeDtypeStruct((1, setting.side, setting.side, setting.channels), jnp.float32)]
    if name in models.PAIR_NAMES:
        inputs.append(jax.ShapeDtypeStruct((1, CONTEXT), jnp.int32))
    traced = jax.jit(model.init_with_output).trace(jax.eval_shape(lambda: jax.random.key(0)), *inputs)
    _, variables = traced.out_info
    return sum(x.size for x in jax.tree.leaves(variables.get("params", {}))), traced_macs(traced.jaxpr.jaxpr)


def publication(factory: Callable) -> str:
    """Finds the publication of a model: in the "Source:" of its docstring, or else in the docstring of its file.

    Args:
      factory: Factory of the model.

    Returns:
      Authors and year, with a link if an arXiv number follows; empty if there is none.
    """
    module = inspect.getmodule(factory)
    source = re.search(r"^Source: (.*?)(?:\n\n|\Z)", inspect.getdoc(factory) or "", re.DOTALL | re.MULTILINE)
    text = source[1] if source else (module and inspect.getdoc(module)) or ""
    found = CITATION.search(" ".join(text.split()))
    if not found:
        return ""
    link = f", [{found['arxiv']}](https://arxiv.org/abs/{found['arxiv']})" if found["arxiv"] else ""
    return found["who"] + link


def bounds(name: str) -> Iterator[tuple[str, str]]:
    """Yields (library, largest difference of logits that the parity tests allow, as a share of the largest logit).

    Args:
      name: Name of the model.
    """
    for source, recorded in json.loads(BOUNDS.read_text()).items():
        if source != "_about" and name in recorded:
            yield source, f"{recorded[name]:.0e}".replace("e-0", "e-")


def _default(factory: Callable, option: str) -> Any:
    """The default of an option, or None if there is no such option."""
    parameter = inspect.signature(factory).parameters.get(option)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def written(page: str) -> list[str]:
    """Returns the rows of the table on a page, without its head.

    Args:
      page: Text of the page.
    """
    _, _, rest = page.partition(BEGIN)
    return rest.partition(END)[0].strip().splitlines()[len(HEAD) :]


def main(check: bool) -> int:
    """Writes the table, or compares it.

    Args:
      check: True to change nothing.

    Returns:
      0, or 1 if the page had another table and `check` is set.
    """
    page = PAGE.read_text()
    table = "\n".join([BEGIN, "", *HEAD, *map(row, names()), "", END])
    if BEGIN not in page or END not in page:
        raise SystemExit(f"{PAGE} needs the lines {BEGIN!r} and {END!r}, between which the table belongs")
    before, _, rest = page.partition(BEGIN)
    new = before + table + rest.partition(END)[2]
    if check:
        return int(new != page)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if the table differs")
    sys.exit(main(parser.parse_args().check))
