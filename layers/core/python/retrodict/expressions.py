"""Ordinary arithmetic over features and event fields, as a value.

An expression is a small immutable tree. It is evaluated the same way online and
in bulk, because it is only ever evaluated here. A null operand makes a null
result, and so does a result that is not a finite number.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

Number = float | int
Lookup = Callable[["Expression"], Number | None]


def _divide(left: Number, right: Number) -> Number | None:
    return None if right == 0 else left / right


OPERATIONS: Final[Mapping[str, Callable[[Number, Number], Number | None]]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": _divide,
}


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


@dataclass(frozen=True, eq=False)
class Arithmetic(Expression):
    """Two expressions joined by ``+``, ``-``, ``*`` or ``/``.

    Division by zero is null, as is every result that is not finite.
    """

    operator: str
    left: Expression
    right: Expression

    def evaluate(self, lookup: Lookup) -> Number | None:
        """Return the result in double precision, or null."""
        left, right = self.left.evaluate(lookup), self.right.evaluate(lookup)
        if left is None or right is None:
            return None
        try:
            return finite(OPERATIONS[self.operator](left, right))
        except OverflowError:
            return None

    def operands(self) -> tuple[Expression, ...]:
        """Return both sides."""
        return (self.left, self.right)

    def describe(self) -> str:
        """Return the formula, fully parenthesised."""
        return f"({self.left.describe()} {self.operator} {self.right.describe()})"


def as_expression(value: Expression | Number) -> Expression:
    """Return `value` as an expression; a plain number becomes a constant."""
    return value if isinstance(value, Expression) else Constant(value)
