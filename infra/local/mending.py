"""How a name of moto is replaced, so that what moto wrote can be found again."""

from collections.abc import Callable
from typing import Any


def mend(owner: Any, name: str, replacement: object) -> None:
    """Put `replacement` in the place of a name of a class or module of moto."""
    original(owner, name)
    setattr(owner, name, replacement)


def original(owner: Any, name: str) -> Callable[..., Any]:
    """Return what moto wrote, however often it was replaced since."""
    kept = f"_retrodict_{name}"
    if kept not in vars(owner):
        setattr(owner, kept, getattr(owner, name))
    found: Callable[..., Any] = vars(owner)[kept]
    return found
