"""The type checker of jaxtyping's import hook: it checks the shapes that annotations state.

Other annotations are left to pyright: a test of a wrong argument expects the library's own error.
"""

from __future__ import annotations

from typing import Any, get_args, get_origin

from beartype import beartype
from jaxtyping import AbstractArray


def check(function):
    """Decorate a function that has the annotations of another, which are checked when it runs."""
    shaped = {name: hint for name, hint in function.__annotations__.items() if _shaped(hint)}
    if not shaped:
        return function
    function.__annotations__ = shaped
    return beartype(function)


def _shaped(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return get_origin(hint) is not None and any(map(_shaped, get_args(hint)))
