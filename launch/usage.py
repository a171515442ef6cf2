"""A command line that cannot be read: one sentence, with what is wrong and what is nearest."""

from __future__ import annotations

import difflib
import re

import typer


def sentence(error: typer.TyperException) -> str:
    """What the parser found, with the nearest option of that command; '' where it printed help."""
    said = error.format_message() if hasattr(error, "format_message") else str(error)  # type: ignore[attr-defined]
    context, wrong = getattr(error, "ctx", None), getattr(error, "option_name", None)
    said = " ".join(said.partition(" (Possible options")[0].split()).rstrip(".")
    if not said:
        return ""
    said = re.sub(r"\. Did you", ": did you", said)
    if context and wrong:
        names = [n for p in context.command.get_params(context) for n in p.opts if n[0] == "-"]
        if close := difflib.get_close_matches(wrong, names, 1, 0.5):
            said += f": did you mean {close[0]!r}?"
    end = "" if said.endswith("?") else "."
    help_of = context.command_path if context else "distgram COMMAND"
    return f"{said[:1].lower()}{said[1:]}{end} `{help_of} -h` shows what it takes."
