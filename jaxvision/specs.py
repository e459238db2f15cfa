"""Operations written as one string: `"random_crop(32, 4)|flip_lr|mixup(0.2)"`.

A spec is a chain of names or calls joined by `|`. It is read as a Python expression tree of which
only names, calls and literals are accepted, so a spec from a config file or from the command line
runs no code but that of operations. A `Registry` holds the operations that a spec may name. One of a user's own is
written `my_package.ops:blur(3)`; it is registered as built-in ones are, so that nothing else can be called.
"""

import ast
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxvision import calls, found, own_modules
from jaxvision.errors import UserError, shown, unknown


class Call(NamedTuple):
    """One operation of a spec: `name(*args, **kwargs)`."""

    name: str
    args: tuple = ()
    kwargs: dict[str, Any] = {}

    def __str__(self) -> str:
        words = [_literal(a) for a in self.args] + [f"{k}={_literal(v)}" for k, v in self.kwargs.items()]
        return f"{self.name}({', '.join(words)})" if words else self.name


def _literal(value: Any) -> str:
    """A value as a spec has it: the numbers of NumPy, whose `repr` is none, as those of Python."""
    if isinstance(value, tuple | list):
        return repr(type(value)(map(_plain, value)))
    return repr(_plain(value))


def _plain(value: Any) -> Any:
    # By name, for a job that is only watched must not import NumPy; a traced number has no value to take.
    return value.item() if type(value).__module__ == "numpy" and value.ndim == 0 else value


MAX_LENGTH, MAX_CALLS = 100_000, 1000  # characters and operations of a spec
NONE = "none"  # the operation that is none: how a spec without operations is written
COLON = "\N{MODIFIER LETTER TRIANGULAR COLON}"  # a letter to Python's parser: it stands for the colon of own names
# Quoted texts, with an end or without; names of a user's own; other words, each as a whole. So no character is looked
# at from more than one beginning, however long a spec is.
_WORDS = re.compile(rf"""(?P<own>{own_modules.NAME.pattern})|"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|[\w.]+""", re.DOTALL)


def parse(spec: str | list[Call]) -> list[Call]:
    """Reads a spec into its calls. An empty spec and "none" are an empty list; a list of calls is taken as it is.

    Raises:
      UserError: the text is not a chain of names and calls with literal arguments.

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
                f"cannot read the spec {shown(spec)}: an operation is missing beside a '|', which stands between two"
            ) from None
        column = f" at column {error.offset}" if error.offset else ""
        raise UserError(f"cannot read the spec {shown(spec)}: {error.msg}{column}") from None
    except (ValueError, RecursionError, MemoryError):
        raise UserError(
            f"cannot read the spec {shown(spec)}: it holds a character that is no text, or is nested too deep"
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
    """The name of an operation, `flip_lr` or `my_package.ops:blur`; None where a node is none."""
    name = ast.unparse(node).replace(COLON, ":") if isinstance(node, ast.Name | ast.Attribute) else ""
    return name if isinstance(node, ast.Name) or own_modules.is_own(name) else None


def _call(node: ast.expr, spec: str) -> Call:
    if (name := _name(node)) is not None:
        return Call(name, (), {})
    if not (isinstance(node, ast.Call) and _name(node.func) is not None):
        raise UserError(
            f"cannot read {_source(node)} in the spec {shown(spec)}: want a name or a call, like 'resize(32)'"
        )
    try:
        args = tuple(ast.literal_eval(a) for a in node.args)
        kwargs = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg is not None}
        repr((args, kwargs))  # a ValueError where a number has thousands of digits, which nothing can take or show
    except (ValueError, TypeError, RecursionError, MemoryError):  # TypeError: a set or dict of what has no hash
        args = kwargs = None
    if kwargs is None or len(kwargs) < len(node.keywords):
        raise UserError(
            f"the arguments of {_source(node)} in the spec {shown(spec)} must be literals: numbers, strings, tuples"
        )
    return Call(_name(node.func), args, kwargs)


def _source(node: ast.expr) -> str:
    try:
        return shown(ast.unparse(node).replace(COLON, ":"))
    except (ValueError, RecursionError):
        return "a part"


class Said(NamedTuple):
    """What an operation says of itself.

    Attributes:
      evaluation: What stands in its place when a model is evaluated; None for itself.
      more: Whatever else its kind of spec asks for.
    """

    evaluation: str | Callable[..., str] | None
    more: Mapping[str, Any]


class Registry:
    """The operations that one kind of spec may name.

    An operation is a factory: called with the arguments written in the spec, it returns the
    function that does the work. An operation that draws random numbers says what stands in its
    place when a model is evaluated: `evaluation=""` for nothing, or a function of the same
    arguments that returns another spec.

    Args:
      kind: Kind of the operations, as in a message: "augmentation".
      packages: Names of packages whose modules hold the built-in ones; they are walked when one is first asked for.
      where: Name by which a user imports this registry, "jaxvision.augment.ops"; empty where there are none of users.
    """

    def __init__(self, kind: str, packages: Sequence[str] = (), where: str = ""):
        self.kind, self.packages, self._where = kind, tuple(packages), where
        self._built_in: dict[str, Callable] = {}
        self._said: dict[Callable, Said] = {}
        self._walked = False

    def register(self, evaluation: str | Callable[..., str] | None = None, **more: Any) -> Callable:
        """Decorates a factory; its function name is its name in specs, after "package.module:" for a user's own.

        Args:
          evaluation: What stands in its place in evaluation. A function may count on arguments that the factory takes,
            or, where `reads=True` is among `more`, that fit its annotations: the factory reads a file of the user's,
            which need not be there when a spec is only looked at.
          more: Whatever else its kind of spec asks for.
        """

        def decorate(factory: Callable) -> Callable:
            self._said[factory] = Said(evaluation, more)
            if not self._where or factory.__module__.partition(".")[0] == own_modules.PACKAGE:
                self._built_in[factory.__name__] = factory
            return factory

        return decorate

    @property
    def factories(self) -> dict[str, Callable]:
        """The built-in operations by name."""
        if not self._walked:
            for package in self.packages:
                found.modules(package)
            self._walked = True
        return self._built_in

    def more(self, call: Call, key: str, default: Any = None) -> Any:
        """What the operation of a call says under a key of its decorator."""
        return self._said[self.find(call.name)].more.get(key, default)

    def build(self, spec: str) -> list[Callable]:
        """Builds every operation of `spec`, in order.

        Raises:
          UserError: an unknown name, or arguments that do not fit the operation's signature and its annotations.
        """
        return [self._build(call) for call in parse(spec)]

    def named(self, call: Call) -> Call:
        """The call with every argument under its name, those left at their defaults too.

        Raises:
          UserError: as `build`.
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
        """The factory of a name, built in or "package.module:function".

        Raises:
          UserError: there is none, or it is not registered.
        """
        if own_modules.is_own(name):
            factory = own_modules.load(self.kind, name)
            if factory not in self._said:
                hint = f": decorate it with @{self._where.rpartition('.')[2]}.register(), from {self._where}"
                raise UserError(f"{name!r} is not registered as {self.kind}{hint if self._where else ''}")
            return factory
        if name not in self.factories:
            own = "; or one of your own, 'package.module:function'" if self._where else ""
            raise UserError(f"{unknown(self.kind, name, self.factories)}{own}")
        return self.factories[name]

    def is_random(self, spec: str) -> bool:
        """True if any operation of `spec` draws random numbers: one that evaluation would drop or replace."""
        return any(self._in_evaluation(call) != str(call) for call in parse(spec))

    def evaluation(self, spec: str) -> str:
        """The spec that an evaluation uses by default: `spec` with its random operations replaced."""
        parts = [self._in_evaluation(call) for call in parse(spec)]
        return "|".join(p for p in parts if p)

    def _in_evaluation(self, call: Call) -> str:
        bound = self._bind(call)  # arguments are checked even where the operation is dropped
        instead = self._said[self.find(call.name)].evaluation
        if instead is None:
            return str(call)
        if not callable(instead):
            return instead
        if not self.more(call, "reads", False):
            self._build(call)  # for its own checks
        return instead(*bound.args, **bound.kwargs)
