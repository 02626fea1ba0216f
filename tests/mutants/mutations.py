"""
What can be changed in a module, one thing at a time.

The changes are those of mutation testing (DeMillo, Lipton and Sayward, "Hints on Test Data
Selection", 1978): comparisons shifted, conditions negated, constants off by one, statements and
operands dropped, arguments exchanged. Left alone is what no user sees or no test should hold:
texts, log lines, annotations, assertions and what only type checkers read.
"""

from __future__ import annotations

import ast
import copy
import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import attrs

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
#: Comparisons whose exchange is their negation.
_OPPOSITES = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DROPPED = (ast.Expr, ast.Assign, ast.AugAssign, ast.Raise, ast.Delete)
#: Functions to which the order of their arguments means nothing.
_SYMMETRIC = ("min", "max", "hmac.compare_digest")
#: What `attrs` is told of a field that no program that type checkers accept can tell.
_OF_FIELDS = ("init", "repr")
#: Fields that say nothing about what is done.
_SILENT_FIELDS = ("annotation", "returns", "decorator_list", "type_comment", "type_params")

Change = tuple[ast.AST, str]


@attrs.frozen
class Mutant:
    """
    A module with one change.

    :param module: its dotted name.
    :param function: the classes and functions around the change, dotted; "" in the module itself.
    :param number: of the changed line.
    :param line: that line, without the blanks around it.
    :param change: what was changed into what.
    :param render: makes the source of the whole module, changed.
    :param at_call: whether what is changed is run when a function is called, not when the module is
        loaded, as the defaults of arguments are.
    """

    module: str
    function: str
    number: int
    line: str
    change: str
    render: Callable[[], str] = attrs.field(repr=False, eq=False)
    at_call: bool = True

    def __str__(self) -> str:
        return f"{self.module}:{self.number} {self.function}: {self.line}  [{self.change}]"


def mutants(module: str, source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    lines = source.splitlines()
    found = []
    for place, function, at_call in _places(tree):
        for new, change in changes(place.node, bool(function)):
            number = place.node.lineno  # type: ignore[attr-defined]
            if isinstance(place.node, ast.Constant) and isinstance(place.parent, ast.expr):
                change = f"{change} in {ast.unparse(place.parent)}"
            line = lines[number - 1].strip()
            render = functools.partial(_rendered, tree, place, new)
            found.append(Mutant(module, function, number, line, change, render, at_call))
    return found


def _rendered(tree: ast.Module, place: _Place, new: ast.AST) -> str:
    place.put(new)
    text = ast.unparse(ast.fix_missing_locations(tree))
    place.put(place.node)
    return text


def sample(found: list[Mutant], most: int, seed: int) -> list[Mutant]:
    """Draw at most so many mutants, the same for the same seed, in their order."""
    if len(found) <= most:
        return found
    chosen = random.Random(seed).sample(range(len(found)), most)
    return [found[at] for at in sorted(chosen)]


@attrs.frozen(eq=False)
class _Place:
    """Where a node stands: in a field of its parent, or in a list there."""

    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST

    def put(self, node: ast.AST) -> None:
        """Put a node there."""
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def _places(tree: ast.Module) -> Iterator[tuple[_Place, str, bool]]:
    """
    The place of each node that may be changed, and the name of the function or class around it.

    With them goes whether the node is run when a function is called.
    """
    pending: list[tuple[ast.AST, tuple[str, ...], bool]] = [(tree, (), False)]
    while pending:
        parent, names, at_call = pending.pop()
        below = []
        for place in _children(parent):
            node = place.node
            if _left_alone(node):
                continue
            if hasattr(node, "lineno"):
                yield place, ".".join(names), at_call
            named = isinstance(node, (ast.ClassDef, *_FUNCTIONS))
            called = isinstance(node, (*_FUNCTIONS, ast.Lambda)) or (
                at_call and not isinstance(node, ast.ClassDef | ast.arguments)
            )
            below.append((node, (*names, node.name) if named else names, called))  # type: ignore[attr-defined]
        pending.extend(reversed(below))


def _children(parent: ast.AST) -> Iterator[_Place]:
    for field, value in ast.iter_fields(parent):
        if field in _SILENT_FIELDS:
            continue
        if isinstance(value, ast.AST):
            yield _Place(parent, field, None, value)
        elif isinstance(value, list):
            for index, node in enumerate(value):
                if isinstance(node, ast.AST):
                    yield _Place(parent, field, index, node)


def _left_alone(node: ast.AST) -> bool:
    """Whether a node and all within it stay as they are."""
    if isinstance(node, ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.If):
        return ast.unparse(node.test).endswith("TYPE_CHECKING")
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) or _logs(node.value)
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) in ("__slots__", "__all__")
    return isinstance(node, ast.keyword) and node.arg in _OF_FIELDS


def _logs(node: ast.AST) -> bool:
    """Whether it is a call of a logger."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    return ast.unparse(node.func.value).rpartition(".")[2] in ("log", "_log", "logger")


def changes(node: ast.AST, in_function: bool = True) -> Iterator[Change]:
    """What a node may be replaced with, and how that is called."""
    if isinstance(node, ast.stmt):
        yield from _of_statement(node, in_function)
    for new in _of_expression(node):
        yield new, f"{ast.unparse(node)} -> {ast.unparse(new)}"


def _of_statement(node: ast.stmt, in_function: bool) -> Iterator[Change]:
    if isinstance(node, ast.If | ast.While):
        if (test := _negated(node.test)) is not None:
            yield _with(node, test=test), f"{ast.unparse(node.test)} -> {ast.unparse(test)}"
    elif isinstance(node, ast.Return):
        if node.value is None:
            yield ast.Pass(), "return dropped"
        elif not (isinstance(node.value, ast.Constant) and _is_no(node.value.value)):
            yield _with(node, value=ast.Constant(None)), "return None"
    elif isinstance(node, ast.Break):
        yield ast.Continue(), "break -> continue"
    elif isinstance(node, ast.Continue):
        yield ast.Break(), "continue -> break"
    elif isinstance(node, _DROPPED) and in_function:
        yield ast.Pass(), "dropped"
    if isinstance(node, ast.AugAssign) and type(node.op) in _OPERATORS:
        new = _with(node, op=_OPERATORS[type(node.op)]())
        yield new, f"{ast.unparse(node)} -> {ast.unparse(new)}"


def _of_expression(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare):
        for at, op in enumerate(node.ops):
            yield _with(node, ops=_replaced(node.ops, at, _COMPARISONS[type(op)]()))
    elif isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
        for at in range(len(node.values)):
            rest = [*node.values[:at], *node.values[at + 1 :]]
            yield rest[0] if len(rest) == 1 else _with(node, values=rest)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        if (test := _negated(node.test)) is not None:
            yield _with(node, test=test)
    elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        yield from _of_comprehension(node)
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        if not (_is_text(node.left) or _is_text(node.right)):
            yield _with(node, op=_OPERATORS[type(node.op)]())
    elif isinstance(node, ast.Constant):
        yield from map(ast.Constant, _of_constant(node.value))
    elif isinstance(node, ast.Call):
        yield from _of_call(node)


def _of_constant(value: object) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
        yield value - 1
    elif isinstance(value, bytes):
        yield value + b"!"


def _of_comprehension(node: Any) -> Iterator[ast.AST]:
    for at, part in enumerate(node.generators):
        for which, test in enumerate(part.ifs):
            if (new := _negated(test)) is not None:
                changed = _with(part, ifs=_replaced(part.ifs, which, new))
                yield _with(node, generators=_replaced(node.generators, at, changed))


def _of_call(node: ast.Call) -> Iterator[ast.AST]:
    if ast.unparse(node.func) in _SYMMETRIC:
        return
    for at, (one, other) in enumerate(zip(node.args, node.args[1:], strict=False)):
        starred = isinstance(one, ast.Starred) or isinstance(other, ast.Starred)
        if not starred and ast.unparse(one) != ast.unparse(other):
            yield _with(node, args=[*node.args[:at], other, one, *node.args[at + 2 :]])


def _negated(test: ast.expr) -> ast.expr | None:
    """The negation of a condition; None if another change of it is the same."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return None
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], _OPPOSITES):
        return None
    if isinstance(test, ast.Constant):
        return None
    return ast.UnaryOp(ast.Not(), test)


def _is_no(value: object) -> bool:
    """Whether a condition takes a constant for what None is; another change makes it a yes."""
    return value is None or value is False


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str | bytes)
    return isinstance(node, ast.JoinedStr | ast.List | ast.Tuple | ast.Set | ast.Dict)


def _replaced(items: list[Any], at: int, new: Any) -> list[Any]:
    return [*items[:at], new, *items[at + 1 :]]


def _with(node: Any, **fields: object) -> Any:
    """Copy a node with other fields; what is below it is shared."""
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new
