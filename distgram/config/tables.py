"""Tables of a configuration, made from the classes that they describe.

A rule, a placement or a network is a dataclass with its own defaults and its own checks. Its table
in a config has the same keys, by the types of its fields, so that no second list of names or
defaults exists. A class in a file of `rules/` or `points/adaptive/` can be chosen in a config if
the class itself defines `name`; a class without one is called by its class name in reports only.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

import pydantic
from pydantic import BaseModel, ConfigDict, create_model

from distgram.errors import UserError


class ConfigTable(BaseModel):
    """A table of a configuration: no unknown key, no infinity, no value of another type (`true` is
    no number, `"10"` neither), and it does not change.

    described: the class of the object that the table describes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)
    described: ClassVar[type | None] = None


@cache
def choices(base: type, *packages: str) -> dict[str, type]:
    """The classes that a config can choose, by name, sorted: the subclasses of `base` in the
    modules of these packages that have a name of their own."""
    for package in packages:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if not module.ispkg:
                importlib.import_module(f"{package}.{module.name}")
    found, waiting = {}, [base]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        at_home = cls.__module__.rpartition(".")[0] in packages
        if at_home and not inspect.isabstract(cls) and "name" in vars(cls):
            found[vars(cls)["name"]] = cls
    return dict(sorted(found.items()))


@cache
def table_of(cls: type) -> type[ConfigTable]:
    """The table of a dataclass: a key for each of its settings, and the key `name` where that
    chooses the class among others."""
    hints = typing.get_type_hints(cls)
    keys: dict[str, Any] = {}
    if name := _name(cls):
        keys["name"] = (Literal[name], ...)  # type: ignore[valid-type]
    for setting in settings(cls):
        keys[setting.name] = (_key_type(hints[setting.name]), _default(setting))
    table = create_model(f"{cls.__name__}Table", __base__=ConfigTable, __doc__=cls.__doc__, **keys)
    table.described = cls
    return table


def one_of(classes: Mapping[str, type], *more: type[ConfigTable]) -> Any:
    """The table of one of several classes, told apart by the key `name`."""
    tables = (*more, *(table_of(cls) for cls in classes.values()))
    return Annotated[Union[tables], pydantic.Field(discriminator="name")]  # noqa: UP007


def build(table: ConfigTable, key: str, cls: type | None = None) -> Any:
    """The object that a table describes.

    Args:
        key: where the table stands in the config. cls: of several classes that it describes, one.

    Raises:
        UserError: a value outside its range, by the key of the config.
    """
    cls = cls or type(table).described
    assert cls is not None
    given = {s.name: _built(getattr(table, s.name), f"{key}.{s.name}") for s in settings(cls)}
    try:
        return cls(**given)
    except UserError as error:
        raise type(error)(str(error).replace(f"{cls.__name__}.", f"{key}.", 1)) from error


def settings(cls: type) -> list[Field]:
    """The fields of a dataclass that a user sets."""
    return [f for f in fields(cls) if not f.metadata.get("planned")]


def _name(cls: type) -> str | None:
    return vars(cls).get("name") if isinstance(vars(cls).get("name"), str) else None


def _key_type(hint: Any) -> Any:
    """The type of a key: a table for a dataclass, one of several for an abstract class, a list for
    a sequence."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return Union[tuple(_key_type(one) for one in inside)]  # noqa: UP007
    if inside and inside[0] is not type(None):
        return list[_key_type(inside[0])]  # type: ignore[misc]
    if inspect.isabstract(hint):
        return one_of(choices(hint, hint.__module__.rpartition(".")[0]))
    return table_of(hint) if is_dataclass(hint) else hint


def _default(setting: Field) -> Any:
    value = setting.default
    if setting.default_factory is not MISSING:
        value = setting.default_factory()
    if value is MISSING:
        return ...
    if isinstance(value, tuple):
        return list(value)
    return _table(value) if is_dataclass(value) else value


def _table(value: Any) -> ConfigTable:
    """The table of an object."""
    cls = type(value)
    given = {s.name: getattr(value, s.name) for s in settings(cls)}
    return table_of(cls)(**({"name": _name(cls)} if _name(cls) else {}), **given)


def _built(value: Any, key: str) -> Any:
    if isinstance(value, ConfigTable):
        return build(value, key)
    if isinstance(value, list):
        return tuple(_built(one, f"{key}.{i}") for i, one in enumerate(value))
    return value
