"""Parts by name: built-in ones, found by walking the folder of their kind, and a user's own, "package.module:function".

A built-in part says that it is one where it is defined, so that nothing else has to be edited for it:

    @part("model", small={"depth": 2, "width": 32})
    def vit(*, num_classes, dtype, depth=12, ...):

A part of a user needs no decorator; with one it may say the same as a built-in part.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from jaxvision import calls, own_modules
from jaxvision.errors import UserError, unknown

_MARK = "jaxvision_parts"  # attribute of a factory that is a part: {kind: Said}


class Said(NamedTuple):
    """What a part says of itself where it is defined.

    Attributes:
      name: Name of the part.
      small: Options with which it is small enough for a test of milliseconds.
      more: Whatever else its kind asks for.
    """

    name: str
    small: Mapping[str, Any]
    more: Mapping[str, Any]


def part(kind: str, name: str | None = None, *, small: Mapping[str, Any] | None = None, **more: Any) -> Callable:
    """Decorates the factory of a part.

    Args:
      kind: Kind of the part: "model", "task", ...
      name: Name of the part; that of the function if None.
      small: Options with which it is small enough for a test of milliseconds.
      **more: Whatever else its kind asks for, see the module of the kind.
    """

    def decorate(factory: Callable) -> Callable:
        said = Said(name or factory.__name__, small or {}, more)
        setattr(factory, _MARK, {**vars(factory).get(_MARK, {}), kind: said})
        return factory

    return decorate


def said(kind: str, factory: Callable) -> Said | None:
    """What a factory says of itself as a part of that kind; None where it says nothing."""
    return getattr(factory, "__dict__", {}).get(_MARK, {}).get(kind)


def modules(package: str) -> list[ModuleType]:
    """The modules of a package, imported, in the order of their names; packages in it are left out."""
    paths = importlib.import_module(package).__path__
    names = sorted(module.name for module in pkgutil.iter_modules(paths) if not module.ispkg)
    return [importlib.import_module(f"{package}.{name}") for name in names]


class Parts(Mapping[str, Callable]):
    """The built-in parts of one kind, by name; their folders are walked when they are first asked for.

    Args:
      kind: Kind of the parts, as in a message: "model".
      packages: Names of packages whose modules are walked.
      given: Names of the arguments that the program gives to every part of this kind; a user's own must take them.
      offered: Names of further arguments that the program gives to those that ask for them.
    """

    def __init__(self, kind: str, packages: Sequence[str], given: Sequence[str] = (), offered: Sequence[str] = ()):
        self.kind, self.packages, self.given, self.offered = kind, tuple(packages), tuple(given), tuple(offered)
        self._found: dict[str, Callable] | None = None

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

    def resolve(self, name: Any, *others: "Parts") -> Callable:
        """The factory of a name, built in or the user's own.

        Args:
          name: Name of a built-in part, or "package.module:function".
          *others: Further kinds that are allowed in this place.

        Raises:
          UserError: There is no such part; or a user's own cannot be imported, or takes no argument of a name that the
            program gives.
        """
        if own_modules.is_own(name):
            factory = own_modules.load(self.kind, name)
            kinds = [parts for parts in (self, *others) if said(parts.kind, factory)] or [self]
            own_modules.check_takes(self.kind, name, factory, kinds[0].given)
            return factory
        for parts in (self, *others):
            if isinstance(name, str) and name in parts:
                return parts[name]
        raise self.unknown(name, *others)

    def options(self, name: Any, *others: "Parts") -> dict[str, Any] | None:
        """Annotations of what a part takes beside what the program gives, by name; None where that is anything.

        Raises:
          UserError: As `resolve`.
        """
        return calls.options(self.resolve(name, *others), (*self.given, *self.offered))

    def unknown(self, name: Any, *others: "Parts") -> UserError:
        """The error for a name that is none of this kind."""
        error = unknown(self.kind, name, [one for parts in (self, *others) for one in parts])
        return UserError(f"{error}; or one of your own, 'package.module:function'{_hint(name)}")

    def small(self, name: str) -> dict[str, Any]:
        """Options with which a part is small, for tests."""
        return dict(said(self.kind, self[name]).small)

    def more(self, factory: Callable, key: str, default: Any = None) -> Any:
        """What a factory, built in or not, says under a key of its decorator."""
        found = said(self.kind, factory)
        return default if found is None else found.more.get(key, default)

    def forget(self) -> None:
        """Walks the folders again when it is next asked: for tests that put a file there."""
        self._found = None

    def _all(self) -> dict[str, Callable]:
        if self._found is None:
            self._found = {name: factory for package in self.packages for name, factory in self._in(package)}
        return self._found

    def _in(self, package: str) -> Iterator[tuple[str, Callable]]:
        seen: dict[str, str] = {}
        for module in modules(package):
            for factory in list(vars(module).values()):
                found = said(self.kind, factory)
                if found is None or factory.__module__ != module.__name__:
                    continue
                if seen.setdefault(found.name, module.__name__) != module.__name__:
                    raise ValueError(f"{module.__name__} and {seen[found.name]} both hold the {self.kind} {found.name}")
                yield found.name, factory


def _hint(name: Any) -> str:
    """How a name that looks like a user's own is written."""
    text = str(name)
    if ".py" in text:
        file, _, function = text.partition(".py")
        module = file.strip("./\\").replace("/", ".").replace("\\", ".")
        return f", as in '{module}:{function.strip(':') or 'FUNCTION'}'"
    module, dot, function = text.rpartition(".")
    return f", as in '{module}:{function}'" if dot and text.replace(".", "_").isidentifier() else ""
