"""Parts by name: built-in ones, found in the folder of their kind, and a user's own, "package.module:function".

A built-in part is declared where it is defined, so nothing else has to be edited to add one:

    @part("model", small={"depth": 2, "width": 32})
    def vit(*, num_classes, dtype, depth=12, ...):

A user's own part needs no decorator; with one, it can declare the same as a built-in part.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from jaxvision import calls, own_modules
from jaxvision.errors import UserError, unknown

_MARK = "jaxvision_parts"  # attribute of a factory that is a part: {kind: Declaration}


class Declaration(NamedTuple):
    """What the decorator of a part declares.

    Attributes:
      name: Name of the part.
      small: Options that make it small enough for a test of milliseconds.
      more: Further values by name, which its kind defines.
    """

    name: str
    small: Mapping[str, Any]
    more: Mapping[str, Any]


def part(kind: str, name: str | None = None, *, small: Mapping[str, Any] | None = None, **more: Any) -> Callable:
    """Decorates the factory of a part.

    Args:
      kind: Kind of the part: "model", "task", ...
      name: Name of the part; None takes the name of the function.
      small: Options that make it small enough for a test of milliseconds.
      **more: Further values by name, which the module of the kind documents.
    """

    def decorate(factory: Callable) -> Callable:
        declared = Declaration(name or factory.__name__, small or {}, more)
        setattr(factory, _MARK, {**vars(factory).get(_MARK, {}), kind: declared})
        return factory

    return decorate


def declaration(kind: str, factory: Callable) -> Declaration | None:
    """Returns what the decorator of a factory declares, or None if the factory has none.

    Args:
      kind: Kind of the part, such as "model".
      factory: Factory of a part.
    """
    return getattr(factory, "__dict__", {}).get(_MARK, {}).get(kind)


def kinds_of(factory: Callable) -> list[str]:
    """Returns the kinds of part that the decorators of a factory declare.

    Args:
      factory: Factory of a part.
    """
    return list(getattr(factory, "__dict__", {}).get(_MARK, {}))


def modules(package: str) -> list[ModuleType]:
    """Imports and returns the modules of a package, by name, without its subpackages.

    Args:
      package: Name of the package, "jaxvision.models".
    """
    paths = importlib.import_module(package).__path__
    names = sorted(module.name for module in pkgutil.iter_modules(paths) if not module.ispkg)
    return [importlib.import_module(f"{package}.{name}") for name in names]


class PartRegistry(Mapping[str, Callable]):
    """The built-in parts of one kind, by name; their modules are imported on first use.

    Args:
      kind: Kind of the parts, as in messages: "model".
      packages: Names of the packages whose modules hold the parts.
      required: Names of the arguments that the program passes to every part of this kind; each part must take them.
      offered: Names of further arguments that the program gives to parts that have a parameter of that name.
      plural: Word for all of them, for `jaxvision list`; None for the kind with an "s".
      usage: Line of a config that names a part, with NAME in the place of its name.
    """

    def __init__(
        self,
        kind: str,
        packages: Sequence[str],
        required: Sequence[str] = (),
        offered: Sequence[str] = (),
        plural: str | None = None,
        usage: str = "",
    ):
        self.kind, self.packages, self.required, self.offered = kind, tuple(packages), tuple(required), tuple(offered)
        self.plural, self.usage = plural, usage
        self._factories: dict[str, Callable] | None = None

    def __getitem__(self, name: str) -> Callable:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __or__(self, other: Mapping[str, Callable]) -> dict[str, Callable]:
        return {**self, **other}

    def __ror__(self, other: Mapping[str, Callable]) -> dict[str, Callable]:
        return {**other, **self}

    def resolve(self, name: Any, *others: "PartRegistry") -> Callable:
        """Returns the factory of a name.

        Args:
          name: Name of a built-in part, or "package.module:function".
          *others: Parts of further kinds that are allowed.

        Raises:
          UserError: There is no such part; or a user's own cannot be imported, or lacks a parameter that the program
            gives.
        """
        if own_modules.is_own(name):
            factory = own_modules.load(self.kind, name)
            kinds = [parts for parts in (self, *others) if declaration(parts.kind, factory)] or [self]
            own_modules.check_takes(self.kind, name, factory, kinds[0].required)
            return factory
        for parts in (self, *others):
            if isinstance(name, str) and name in parts:
                return parts[name]
        raise self.unknown(name, *others)

    def options(self, name: Any, *others: "PartRegistry") -> dict[str, Any] | None:
        """Returns the annotations of a part's options, by name: the parameters that the program does not pass.

        Args:
          name: Name of a built-in part, or "package.module:function".
          *others: Parts of further kinds that are allowed.

        Returns:
          The annotations, or None if the part takes any option.

        Raises:
          UserError: There is no such part, see `resolve`.
        """
        return calls.options(self.resolve(name, *others), (*self.required, *self.offered))

    def unknown(self, name: Any, *others: "PartRegistry") -> UserError:
        """Returns the error for a name that no part has.

        Args:
          name: Name that was asked for.
          *others: Parts of further kinds that are allowed.
        """
        error = unknown(self.kind, name, [one for parts in (self, *others) for one in parts])
        return UserError(f"{error}; or one of your own, 'package.module:function'{_hint(name)}")

    def small(self, name: str) -> dict[str, Any]:
        """Returns the options that make a part small, for tests.

        Args:
          name: Name of a built-in part.
        """
        declared = declaration(self.kind, self[name])
        return {} if declared is None else dict(declared.small)

    def more(self, factory: Callable, key: str, default: Any = None) -> Any:
        """Returns a further value that the decorator of a factory declares.

        Args:
          factory: Factory of a part, built in or the user's own.
          key: Name of the value.
          default: Value to return if the factory declares none.
        """
        declared = declaration(self.kind, factory)
        return default if declared is None else declared.more.get(key, default)

    def forget(self) -> None:
        """Makes the next use search the packages again, for tests that add a file."""
        self._factories = None

    def _all(self) -> dict[str, Callable]:
        if self._factories is None:
            self._factories = {name: factory for package in self.packages for name, factory in self._in(package)}
        return self._factories

    def _in(self, package: str) -> Iterator[tuple[str, Callable]]:
        seen: dict[str, str] = {}
        for module in modules(package):
            for factory in list(vars(module).values()):
                declared = declaration(self.kind, factory)
                if declared is None or factory.__module__ != module.__name__:
                    continue
                name = declared.name
                if seen.setdefault(name, module.__name__) != module.__name__:
                    raise ValueError(f"{module.__name__} and {seen[name]} both hold the {self.kind} {name}")
                yield name, factory


def _hint(name: Any) -> str:
    """How to write a name that looks like a user's own part."""
    text = str(name)
    if ".py" in text:
        file, _, function = text.partition(".py")
        module = file.strip("./\\").replace("/", ".").replace("\\", ".")
        return f", as in '{module}:{function.strip(':') or 'FUNCTION'}'"
    module, dot, function = text.rpartition(".")
    return f", as in '{module}:{function}'" if dot and text.replace(".", "_").isidentifier() else ""
