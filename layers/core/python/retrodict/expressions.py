"""Ordinary arithmetic over features and event fields, as a value.

An expression is a small immutable tree. It is evaluated the same way online and
in bulk, because it is only ever evaluated here. A null operand makes a null
result, and so does a result that is not a finite number.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from retrodict.errors import FeatureDefinitionError

Number = float | int
Lookup = Callable[["Expression"], Number | None]


def _divide(left: Number, right: Number) -> Number | None:
    return None if right == 0 else left / right


OPERATIONS: Final[Mapping[str, Callable[[Number, Number], Number | None]]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": _divide,
    "<": lambda left, right: int(left < right),
    "<=": lambda left, right: int(left <= right),
    ">": lambda left, right: int(left > right),
    ">=": lambda left, right: int(left >= right),
}

COMPARISONS: Final = frozenset({"<", "<=", ">", ">="})
"""Operations whose result is 1 or 0."""


_MIRRORED: Final[Mapping[str, str]] = {">": "<", ">=": "<="}
_COMMUTATIVE: Final = frozenset({"+", "*"})


def finite(value: Number | None) -> Number | None:
    """Return `value`, or null where it is no finite number; never minus zero.

    Examples
    --------
    >>> finite(1e308 * 10) is None, finite(-0.0), finite(3)
    (True, 0.0, 3)
    """
    if value is None or isinstance(value, int):
        return value
    return value + 0.0 if math.isfinite(value) else None


class Expression:
    """Something that has a number at a key and a time: a field, a feature, a sum."""

    def evaluate(self, lookup: Lookup) -> Number | None:
        """Return the number, asking `lookup` for what is not arithmetic."""
        return finite(lookup(self))

    def operands(self) -> tuple["Expression", ...]:
        """Return the expressions this one is made of."""
        return ()

    def describe(self) -> str:
        """Return the canonical text of the meaning; equal text is equal meaning."""
        raise NotImplementedError

    def __add__(self, other: "Expression | Number") -> "Arithmetic":
        return Arithmetic("+", self, as_expression(other))

    def __radd__(self, other: Number) -> "Arithmetic":
        return Arithmetic("+", as_expression(other), self)

    def __sub__(self, other: "Expression | Number") -> "Arithmetic":
        return Arithmetic("-", self, as_expression(other))

    def __rsub__(self, other: Number) -> "Arithmetic":
        return Arithmetic("-", as_expression(other), self)

    def __mul__(self, other: "Expression | Number") -> "Arithmetic":
        return Arithmetic("*", self, as_expression(other))

    def __rmul__(self, other: Number) -> "Arithmetic":
        return Arithmetic("*", as_expression(other), self)

    def __truediv__(self, other: "Expression | Number") -> "Arithmetic":
        return Arithmetic("/", self, as_expression(other))

    def __rtruediv__(self, other: Number) -> "Arithmetic":
        return Arithmetic("/", as_expression(other), self)

    def __lt__(self, other: "Expression | Number") -> "Arithmetic":
        return Arithmetic("<", self, as_expression(other))

    def __le__(self, other: "Expression | Number") -> "Arithmetic":
        return Arithmetic("<=", self, as_expression(other))

    def __gt__(self, other: "Expression | Number") -> "Arithmetic":
        return Arithmetic(">", self, as_expression(other))

    def __ge__(self, other: "Expression | Number") -> "Arithmetic":
        return Arithmetic(">=", self, as_expression(other))

    def __neg__(self) -> "Arithmetic":
        return Arithmetic("-", Constant(0), self)


@dataclass(frozen=True, eq=False)
class Constant(Expression):
    """A literal number inside an expression."""

    value: Number

    def evaluate(self, lookup: Lookup) -> Number | None:  # noqa: ARG002
        """Return the literal."""
        return self.value

    def describe(self) -> str:
        """Return the literal, exactly."""
        return repr(self.value)


def _apply(
    operation: Callable[[Number, Number], Number | None],
    left: Number | None,
    right: Number | None,
) -> Number | None:
    if left is None or right is None:
        return None
    try:
        return finite(operation(left, right))
    except OverflowError:
        return None


@dataclass(frozen=True, eq=False)
class Arithmetic(Expression):
    """Two expressions joined by ``+``, ``-``, ``*``, ``/`` or a comparison.

    Division by zero is null, as is every result that is not finite. A comparison is 1
    or 0, and null where a side is.
    """

    operator: str
    left: Expression
    right: Expression

    def evaluate(self, lookup: Lookup) -> Number | None:
        """Return the result in double precision, or null."""
        left, right = self.left.evaluate(lookup), self.right.evaluate(lookup)
        return _apply(OPERATIONS[self.operator], left, right)

    def operands(self) -> tuple[Expression, ...]:
        """Return both sides."""
        return (self.left, self.right)

    def describe(self) -> str:
        """Return the formula, fully parenthesised, in the one form of its meaning.

        ``a > b`` is written ``b < a``; the sides of ``+`` and ``*``, which may change
        places without changing a bit, stand in alphabetical order.
        """
        left, right, operator = self.left, self.right, self.operator
        if operator in _MIRRORED:
            left, right, operator = right, left, _MIRRORED[operator]
        sides = [_side(side, operator) for side in (left, right)]
        if operator in _COMMUTATIVE:
            sides.sort()
        return f"({sides[0]} {operator} {sides[1]})"


def _side(expression: Expression, operator: str) -> str:
    """Return one side of a formula; whether 30 is written 30.0 changes no order."""
    if operator in COMPARISONS and isinstance(expression, Constant):
        return bound_text(expression.value)
    return expression.describe()


def bound_text(value: Number) -> str:
    """Return the one text of a number that is only compared with: 30, not 30.0.

    Examples
    --------
    >>> bound_text(30.0), bound_text(30), bound_text(0.5)
    ('30', '30', '0.5')
    """
    return repr(int(value) if value == int(value) else value)


def as_expression(value: Expression | Number) -> Expression:
    """Return `value` as an expression; a plain number becomes a constant.

    Raises
    ------
    FeatureDefinitionError
        It is neither an expression nor a finite number.
    """
    if isinstance(value, Expression):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise FeatureDefinitionError(
            f"expected a feature, a field or a finite number, got {value!r}"
        )
    return Constant(value)


class Program:
    """Named expressions, laid out so that each distinct meaning is computed once.

    Attributes
    ----------
    leaves
        The distinct expressions that are neither arithmetic nor literal, whose numbers
        `run` needs, shape (n,).
    constants
        The distinct literals; their places come after those of the leaves.
    steps
        Operator and the places of both sides; each result has the next place.
    names
        Place of every named expression.

    Examples
    --------
    >>> class Field(Expression):
    ...     def describe(self) -> str:
    ...         return "field"
    >>> program = Program({"twice": Field() * 2, "itself": Field()})
    >>> len(program.leaves), program.run([21.0])
    (1, {'twice': 42.0, 'itself': 21.0})
    """

    def __init__(self, expressions: Mapping[str, Expression]) -> None:
        distinct: dict[str, Expression] = {}
        for expression in expressions.values():
            _gather(expression, distinct)
        self.leaves = tuple(
            e for e in distinct.values() if not isinstance(e, Arithmetic | Constant)
        )
        places = {leaf.describe(): place for place, leaf in enumerate(self.leaves)}
        self.constants: list[Number] = []
        for meaning, expression in distinct.items():
            if isinstance(expression, Constant):
                places[meaning] = len(places)
                self.constants.append(expression.value)
        self.steps: list[tuple[str, int, int]] = []
        for meaning, expression in distinct.items():
            if isinstance(expression, Arithmetic):
                left, right = (places[o.describe()] for o in expression.operands())
                places[meaning] = len(places)
                self.steps.append((expression.operator, left, right))
        self.names = {name: places[e.describe()] for name, e in expressions.items()}

    def run(self, values: Sequence[Number | None]) -> dict[str, Number | None]:
        """Return the number of every expression by name.

        Parameters
        ----------
        values
            Numbers of the leaves, each finite or null, shape (n,).
        """
        known = [*values, *self.constants]
        for operator, left, right in self.steps:
            known.append(_apply(OPERATIONS[operator], known[left], known[right]))
        return {name: known[place] for name, place in self.names.items()}

    def run_columns(
        self, columns: Sequence[list[Number | None]], count: int
    ) -> dict[str, list[Number | None]]:
        """Return what `run` returns for each of `count` rows, by name.

        Parameters
        ----------
        columns
            Numbers of the leaves, shape (n, count).
        """
        known = list(columns)
        known += [[constant] * count for constant in self.constants]
        for operator, left, right in self.steps:
            apply = partial(_apply, OPERATIONS[operator])
            known.append(list(map(apply, known[left], known[right])))
        return {name: known[place] for name, place in self.names.items()}


def _gather(expression: Expression, distinct: dict[str, Expression]) -> None:
    """Add every meaning in `expression`, operands first; a name alone adds nothing."""
    operands = expression.operands()
    for operand in operands:
        _gather(operand, distinct)
    if not operands or isinstance(expression, Arithmetic):
        distinct.setdefault(expression.describe(), expression)
