"""What is wrong with a configuration, in one sentence: key, value, and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError


class _Place(NamedTuple):
    """Where an error is: its dotted key, the keys of the table there, and the names to choose."""

    key: str
    keys: list[str]
    names: list[str]


def sentence(error: ValidationError, config: type[BaseModel]) -> str:
    """One clear sentence for the first error, the unknown keys first: they explain the rest.

    Args:
        config: the model that was validated; the valid keys and names are read from it.
    """
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        table = _place(config, path[:-1])
        key = f"{table.key}.{path[-1]}" if table.key else path[-1]
        hint = _hint(path[-1], table.keys, 0.5)
        return f"unknown key {key!r}: {hint}The keys here are {', '.join(sorted(table.keys))}."
    key, _, names = _place(config, path)
    if first["type"] == "union_tag_invalid":
        value = first.get("ctx", {})["tag"]
        hint = _hint(value, names, 0.4)
        return f"{key}.name = {value!r} is not known: {hint}The choices are {', '.join(names)}."
    if first["type"] == "union_tag_not_found":
        return f"{key}.name is missing: the choices are {', '.join(names)}."
    if first["type"] == "missing":
        return f"{key} is missing."
    if first["type"] in ("model_type", "dict_type", "model_attributes_type"):
        within = f" with the key {key}.name" if names else ""
        return f"{key} = {first['input']!r}: expected a table{within}."
    message = first["msg"].removeprefix("Value error, ")
    return f"{key} = {first['input']!r}: {message[0].lower()}{message[1:]}."


def named(annotation: Any) -> dict[str, type[BaseModel]]:
    """Name -> model of a union of models told apart by their `name`; empty elsewhere."""
    models = _models(annotation)
    if len(models) < 2:
        return {}
    return {get_args(model.model_fields["name"].annotation)[0]: model for model in models}


def _hint(word: str, choices: Sequence[str], cutoff: float) -> str:
    close = difflib.get_close_matches(word, choices, n=1, cutoff=cutoff)
    return f"did you mean {close[0]!r}? " if close else ""


def _place(config: type[BaseModel], path: Sequence[str]) -> _Place:
    """Follow pydantic's path into the models: beside the keys it holds the names of unions."""
    here: Any = config
    said = []
    for part in path:
        union = named(here)
        if part in union:
            here = union[part]
            continue
        said.append(part)
        fields = _fields(here)
        # another key of a dictionary, or of a list: the last argument is what it holds
        here = fields[part].annotation if part in fields else (get_args(here) or (None,))[-1]
    return _Place(".".join(said), list(_fields(here)), list(named(here)))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models among what an annotation allows: itself, or the members of a union."""
    members = [annotation, *get_args(annotation)]
    return [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]


def _fields(annotation: Any) -> dict[str, Any]:
    """The fields of the one model that an annotation allows; none elsewhere."""
    models = _models(annotation)
    return models[0].model_fields if len(models) == 1 else {}
