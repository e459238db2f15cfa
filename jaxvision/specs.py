"""Operations written as one string: `"random_crop(32, 4)|flip_lr|mixup(0.2)"`.

A spec is a chain of names or calls joined by `|`. It is read as a Python expression tree in which
only names, calls and literals are accepted, so a spec from a config file or from the command line
runs no code except its operations. A `Registry` holds the operations that a spec may name. A user's own operation is
written `my_package.ops:blur(3)`; it must be registered as the built-in ones are, so that no other function can be
called.
"""

import ast
import contextlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxvision import calls, own_modules, registry
from jaxvision.errors import UserError, shown, unknown


class Call(NamedTuple):
    """One operation of a spec: `name(*args, **kwargs)`.

    Attributes:
      name: Name of the operation.
      args: Positional arguments.
      kwargs: Keyword arguments.
    """

    name: str
    args: tuple = ()
    kwargs: dict[str, Any] = {}

    def __str__(self) -> str:
        words = [_literal(a) for a in self.args] + [f"{k}={_literal(v)}" for k, v in self.kwargs.items()]
        return f"{self.name}({', '.join(words)})" if words else self.name


def _literal(value: Any) -> str:
    """A value in the form of a spec. NumPy's numbers are written as Python's, since their `repr` is not a literal."""
    if isinstance(value, tuple | list):
        return repr(type(value)(map(_plain, value)))
    return repr(_plain(value))


def _plain(value: Any) -> Any:
    # The type is checked by name, since a process that only watches jobs must not import NumPy. A traced number stays.
    return value.item() if type(value).__module__ == "numpy" and value.ndim == 0 else value


MAX_LENGTH, MAX_CALLS = 100_000, 1000  # most characters and operations in a spec
NONE = "none"  # spec without operations
COLON = "\N{MODIFIER LETTER TRIANGULAR COLON}"  # a letter for Python's parser: it replaces the colon of own names
# Quoted texts, with an end or without; names of a user's own; other words, each as a whole. So each character is
# scanned once, and long specs take linear time.
_WORDS = re.compile(rf"""(?P<own>{own_modules.NAME.pattern})|"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|[\w.]+""", re.DOTALL)


def parse(spec: str | list[Call]) -> list[Call]:
    """Reads a spec into its calls. An empty spec and "none" give an empty list; a list of calls is returned unchanged.

    Args:
      spec: Text of the spec, or its calls.

    Raises:
      UserError: If the text is not a chain of names and calls with literal arguments.

    >>> parse("flip_lr|resize(32, method='area')")
    [Call(name='flip_lr', args=(), kwargs={}), Call(name='resize', args=(32,), kwargs={'method': 'area'})]
    >>> parse("my_package.ops:blur(3)")
    [Call(name='my_package.ops:blur', args=(3,), kwargs={})]
    """
    if isinstance(spec, list) and all(isinstance(call, Call) for call in spec):
        return spec
    if not isinstance(spec, str):
        raise UserError(f"a spec is a string like 'op(1)|op(2)', not {shown(spec)}")
    if not spec.strip():
        return []
    if len(spec) > MAX_LENGTH:
        raise UserError(f"a spec has at most {MAX_LENGTH:,} characters, not {len(spec):,}: {shown(spec)}")
    try:
        tree = ast.parse(_WORDS.sub(_letter_for_colon, spec.strip()), mode="eval").body
    except SyntaxError as error:
        if re.search(r"^\s*\||\|\s*(?:\||$)", spec):
            raise UserError(
                f"cannot read the spec {shown(spec)}: an operation is missing next to a '|', which joins two operations"
            ) from None
        column = f" at column {error.offset}" if error.offset else ""
        raise UserError(f"cannot read the spec {shown(spec)}: {error.msg}{column}") from None
    except (ValueError, RecursionError, MemoryError):
        raise UserError(
            f"cannot read the spec {shown(spec)}: it has a character that is not text, or is nested too deep"
        ) from None
    links = []
    while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr):
        links.append(tree.right)
        tree = tree.left
    if len(links) >= MAX_CALLS:
        raise UserError(f"a spec has at most {MAX_CALLS:,} operations, not {len(links) + 1:,}: {shown(spec)}")
    calls = [_call(node, spec) for node in [tree, *reversed(links)]]
    return [call for call in calls if call != Call(NONE)]


def _letter_for_colon(match: re.Match) -> str:
    return match[0].replace(":", COLON) if match["own"] else match[0]


def _name(node: ast.expr) -> str | None:
    """The name of an operation, `flip_lr` or `my_package.ops:blur`; None if the node is not a name."""
    name = ast.unparse(node).replace(COLON, ":") if isinstance(node, ast.Name | ast.Attribute) else ""
    return name if isinstance(node, ast.Name) or own_modules.is_own(name) else None


def _call(node: ast.expr, spec: str) -> Call:
    if (name := _name(node)) is not None:
        return Call(name, (), {})
    if not isinstance(node, ast.Call) or (name := _name(node.func)) is None:
        raise UserError(
            f"cannot read {_source(node)} in the spec {shown(spec)}: write a name or a call, like 'resize(32)'"
        )
    args: tuple = ()
    kwargs: dict[str, Any] | None = None
    # A TypeError comes from a set or dict with unhashable members, a ValueError from the `repr` of an integer of
    # thousands of digits, which no operation can use and no message can show.
    with contextlib.suppress(ValueError, TypeError, RecursionError, MemoryError):
        args = tuple(ast.literal_eval(a) for a in node.args)
        literals = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg is not None}
        repr((args, literals))
        kwargs = literals
    if kwargs is None or len(kwargs) < len(node.keywords):
        raise UserError(
            f"the arguments of {_source(node)} in the spec {shown(spec)} must be literals: numbers, strings, tuples"
        )
    return Call(name, args, kwargs)


def _source(node: ast.expr) -> str:
    try:
        return shown(ast.unparse(node).replace(COLON, ":"))
    except (ValueError, RecursionError):
        return "a part"


class Registration(NamedTuple):
    """The arguments with which an operation was registered.

    Attributes:
      evaluation: Spec that replaces the operation when a model is evaluated, or a function that makes it; None to keep
        the operation.
      more: Further properties of its kind of spec.
    """

    evaluation: str | Callable[..., str] | None
    more: Mapping[str, Any]


class Registry:
    """The operations that one kind of spec may name.

    An operation is a factory: called with the arguments written in the spec, it returns the function that does the
    work. An operation that draws random numbers declares its replacement for the evaluation of a model: `evaluation=""`
    for nothing, or a function of the same arguments that returns another spec.

    Args:
      kind: Kind of the operations, for messages: "augmentation".
      packages: Names of packages whose modules hold the built-in operations; they are imported at the first request.
      where: Name by which a user imports this registry, "jaxvision.augment.ops"; empty if users cannot add operations.
      plural: Word for all of them, for `jaxvision list`; None for the kind with an "s".
      usage: Line of a config that names an operation, with CALL in the place of its call.
    """

    def __init__(
        self, kind: str, packages: Sequence[str] = (), where: str = "", plural: str | None = None, usage: str = ""
    ):
        self.kind, self.packages, self._where = kind, tuple(packages), where
        self.plural, self.usage = plural, usage
        self._built_in: dict[str, Callable] = {}
        self._registrations: dict[Callable, Registration] = {}
        self._walked = False

    def register(self, evaluation: str | Callable[..., str] | None = None, **more: Any) -> Callable:
        """Decorates a factory. Its name in specs is the name of the function, after "package.module:" for a user's own.

        Args:
          evaluation: Spec that replaces the operation in evaluation, or a function of the same arguments that returns
            it. The function gets only arguments that the factory accepts. With `reads=True` in `more`, the factory
            reads a file of the user's that need not exist when a spec is only inspected, so the arguments are only
            checked by annotations.
          **more: Further properties of its kind of spec.
        """

        def decorate(factory: Callable) -> Callable:
            self._registrations[factory] = Registration(evaluation, more)
            if not self._where or factory.__module__.partition(".")[0] == own_modules.PACKAGE:
                self._built_in[factory.__name__] = factory
            return factory

        return decorate

    @property
    def factories(self) -> dict[str, Callable]:
        """The built-in operations by name."""
        if not self._walked:
            for package in self.packages:
                registry.modules(package)
            self._walked = True
        return self._built_in

    def more(self, call: Call, key: str, default: Any = None) -> Any:
        """Returns a property that the operation of a call was registered with.

        Args:
          call: Operation of a spec.
          key: Name of the property.
          default: Value if it was registered without this property.
        """
        return self._registrations[self.find(call.name)].more.get(key, default)

    def build(self, spec: str | list[Call]) -> list[Callable]:
        """Builds every operation of a spec, in order.

        Args:
          spec: Text of the spec, or its calls.

        Raises:
          UserError: If a name is unknown, or arguments do not fit the operation's signature and annotations.
        """
        return [self._build(call) for call in parse(spec)]

    def named(self, call: Call) -> Call:
        """Returns the call with every argument under its name, including those left at their defaults.

        Args:
          call: Operation of a spec.

        Raises:
          UserError: For the reasons of `build`.
        """
        bound = self._bind(call)
        bound.apply_defaults()
        return Call(call.name, (), dict(bound.arguments))

    def _build(self, call: Call) -> Callable:
        bound = self._bind(call)
        return self.find(call.name)(*bound.args, **bound.kwargs)

    def _bind(self, call: Call) -> inspect.BoundArguments:
        factory = self.find(call.name)
        words = calls.Usage(f"{self.kind} {shown(str(call))}", calls.usage(factory, call.name))
        return calls.bind(factory, words, call.args, call.kwargs)

    def find(self, name: str) -> Callable:
        """Returns the factory of a name.

        Args:
          name: Name of a built-in operation, or "package.module:function".

        Raises:
          UserError: If there is no such function, or it is not registered.
        """
        if own_modules.is_own(name):
            factory = own_modules.load(self.kind, name)
            if factory not in self._registrations:
                hint = f": decorate it with @{self._where.rpartition('.')[2]}.register(), from {self._where}"
                raise UserError(f"{name!r} is not registered as {self.kind}{hint if self._where else ''}")
            return factory
        if name not in self.factories:
            alternative = "; or one of your own, 'package.module:function'" if self._where else ""
            raise UserError(f"{unknown(self.kind, name, self.factories)}{alternative}")
        return self.factories[name]

    def is_random(self, spec: str) -> bool:
        """Checks whether an operation of the spec draws random numbers: evaluation drops or replaces it.

        Args:
          spec: Text of the spec.
        """
        return any(self._in_evaluation(call) != str(call) for call in parse(spec))

    def evaluation(self, spec: str) -> str:
        """Returns the default spec for evaluation: `spec` with its random operations replaced.

        Args:
          spec: Text of the spec.
        """
        parts = [self._in_evaluation(call) for call in parse(spec)]
        return "|".join(p for p in parts if p)

    def _in_evaluation(self, call: Call) -> str:
        bound = self._bind(call)  # checks the arguments even if the operation is dropped
        replacement = self._registrations[self.find(call.name)].evaluation
        if replacement is None:
            return str(call)
        if not callable(replacement):
            return replacement
        if not self.more(call, "reads", False):
            self._build(call)  # for its own checks
        return replacement(*bound.args, **bound.kwargs)
