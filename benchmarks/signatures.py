"""Public functions of Python files and their docstrings, from the syntax tree, for docstrings.py."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

ARRAYS = {"Array", "ArrayLike", "ndarray", "NDArray"}
JAXTYPING = {"Bool", "Complex", "Float", "Inexact", "Int", "Integer", "Num", "Real", "Shaped", "UInt"}
CONTAINERS = {"Callable", "dict", "Dict", "Mapping", "Iterator", "Iterable"}  # their arrays are no arguments themselves
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Public:
    """A public function.

    Attributes:
        place: Location and name, "path:line: name".
        node: Definition of the function.
        doc: Docstring of the function; of `__init__` and `__call__`, the docstring of the class above it.
        is_method: True if it is defined in a class.
    """

    place: str
    node: Function
    doc: str
    is_method: bool

    @property
    def parameters(self) -> list[ast.arg]:
        """The parameters except `self`, `cls` and those that begin with an underscore."""
        args = self.node.args
        every = [*args.posonlyargs, *args.args, *([args.vararg] if args.vararg else []), *args.kwonlyargs]
        every += [args.kwarg] if args.kwarg else []
        if self.is_method and "staticmethod" not in map(last_name, self.node.decorator_list):
            every = every[1:]
        return [arg for arg in every if not arg.arg.startswith("_")]


def last_name(node: ast.AST) -> str:
    """The last part of a dotted name; of a call or a subscript, that of its function or generic type.

    Args:
      node: Expression of an annotation, a decorator or an error.
    """
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def annotation_nodes(annotation: ast.AST | None, skip: set[str] = frozenset()) -> Iterator[ast.AST]:
    """Walks an annotation, also one that is written as a string.

    Args:
        annotation: Expression of the annotation, or None.
        skip: Names of generic types whose arguments are left out.

    Yields:
        The nodes of the expression.
    """
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except SyntaxError:
            return
    if annotation is None:
        return
    yield annotation
    if isinstance(annotation, ast.Subscript) and last_name(annotation) in skip | {"Literal", "Annotated"}:
        return
    for child in ast.iter_child_nodes(annotation):
        yield from annotation_nodes(child, skip)


def has_array(annotation: ast.AST | None) -> bool:
    """Checks whether an annotation is an array, an optional one or a sequence of them, without axes in the type itself.

    Args:
      annotation: Expression of the annotation, or None.
    """
    nodes = list(annotation_nodes(annotation, CONTAINERS | JAXTYPING))
    return any(isinstance(node, ast.Name | ast.Attribute) and last_name(node) in ARRAYS for node in nodes)


def definitions(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    """Yields the public definitions of a module or class, including those under `if` and `try`.

    Args:
      body: Statements of the module or class.
    """
    for node in body:
        if isinstance(node, Function | ast.ClassDef):
            if not node.name.startswith("_") or node.name in ("__init__", "__call__"):
                yield node
        elif isinstance(node, ast.If | ast.Try):
            yield from definitions([*node.body, *node.orelse])


def public_functions(tree: ast.Module, path: str) -> Iterator[Public]:
    """The public functions and methods of a module.

    Args:
        tree: Syntax tree of the module.
        path: Name of the file, for the places.

    Yields:
        Each function; functions with the decorator `overload` are left out.
    """
    for node in definitions(tree.body):
        is_class = isinstance(node, ast.ClassDef)
        for function in definitions(node.body) if is_class else [node]:
            if isinstance(function, ast.ClassDef) or "overload" in map(last_name, function.decorator_list):
                continue
            doc = ast.get_docstring(function) or ""
            if is_class and function.name.startswith("__"):
                doc = f"{ast.get_docstring(node) or ''}\n\n{doc}"
            name = f"{node.name}.{function.name}" if is_class else function.name
            yield Public(f"{path}:{function.lineno}: {name}", function, doc, is_class)


def raises_itself(function: Function) -> bool:
    """Checks whether a function raises a new error in its own body, not only in a function inside it.

    Args:
      function: Definition of the function.
    """
    stack: list[ast.AST] = list(function.body)
    while stack:
        node = stack.pop()
        if isinstance(node, Function | ast.ClassDef | ast.Lambda):
            continue
        # A lower-case name is an error that was caught: `raise error`.
        if isinstance(node, ast.Raise) and node.exc is not None:
            caught = isinstance(node.exc, ast.Name) and node.exc.id[0].islower()
            if not caught and last_name(node.exc) != "NotImplementedError":
                return True
        stack.extend(ast.iter_child_nodes(node))
    return False
