"""Name -> system. Names are looked up lazily, so listing them imports nothing heavy."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from vivavoce.errors import InputError
from vivavoce.system import System

BUILT_IN = {
    "moda": "vivavoce.systems.moda:assemble",
    "moda-liveportrait": "vivavoce.systems.moda_liveportrait:assemble",
    "if-mdm": "vivavoce.systems.ifmdm:assemble",
    "difftalk": "vivavoce.systems.difftalk:assemble",
    "tgdm": "vivavoce.systems.tgdm:assemble",
}
# What follows a driving video instead of speech: chosen when ``driving=PATH`` is given, or where nothing of the name
# speaks.
DRIVEN = {
    "reenact": "vivavoce.systems.reenact:assemble",
    "liveportrait": "vivavoce.systems.liveportrait:assemble",
    "if-mdm": "vivavoce.systems.ifmdm:follow",
    "tgdm": "vivavoce.systems.tgdm:follow",
}
GROUP = "vivavoce.systems"  # entry-point group in which other packages register theirs


def names() -> list[str]:
    """All systems that speak, built-in ones first."""
    return list(dict.fromkeys([*BUILT_IN, *(point.name for point in entry_points(group=GROUP))]))


def load(name: str = "moda", **options: Any) -> System:
    """Build system ``name`` (or one of :data:`DRIVEN`); ``options`` are the arguments of its ``assemble`` function.

    Raises :class:`vivavoce.errors.InputError` for a name or an option that does not exist, saying which do, and for
    an option that is needed and was not given.
    """
    assemble = _assembler(name, driven="driving" in options)
    known = inspect.signature(assemble).parameters
    unknown = sorted(options.keys() - known.keys())
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        raise InputError(f"system {name!r} has no option {unknown[0]!r} (it has: {', '.join(known) or 'none'})")
    if missing := [option for option in _needed(assemble) if option not in options]:
        raise InputError(f"system {name!r} needs {' and '.join(missing)} to be given (--{' and --'.join(missing)})")
    return assemble(**options)


def needs(name: str) -> list[str]:
    """Options that system ``name`` cannot be built without. Raises as :func:`load` does."""
    return _needed(_assembler(name, driven=False))


def _needed(assemble: Callable[..., System]) -> list[str]:
    known = inspect.signature(assemble).parameters.values()
    return [one.name for one in known if one.default is one.empty and one.kind is one.KEYWORD_ONLY]


def _assembler(name: str, *, driven: bool) -> Callable[..., System]:
    if name in BUILT_IN or name in DRIVEN:
        module, _, function = (BUILT_IN | DRIVEN if driven else DRIVEN | BUILT_IN)[name].partition(":")
        return getattr(importlib.import_module(module), function)
    for point in entry_points(group=GROUP):
        if point.name == name:
            return point.load()
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(f"there is no system called {name!r} (there are: {', '.join(names())}){hint}")
