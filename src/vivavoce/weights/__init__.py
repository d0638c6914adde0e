"""The trained weights that travel with the package: one ``<name>.safetensors`` and one card ``<name>.md`` each.

The header of a file carries ``config``: everything needed to rebuild its module, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vivavoce.errors import InputError

HERE = Path(__file__).parent
SHOWN = 3  # names of a mismatch written out; the rest is counted

Module = TypeVar("Module", bound=nn.Module)


def names() -> list[str]:
    """Weights that came with the package."""
    return sorted(file.stem for file in HERE.glob("*.safetensors"))


def path(name: str | Path) -> Path:
    """File of packaged weights ``name``; a path of an existing ``.safetensors`` file is taken as it is.

    Raises :class:`vivavoce.errors.InputError` when there is no such file, saying which weights there are.
    """
    file = Path(name) if str(name).endswith(".safetensors") else HERE / f"{name}.safetensors"
    if not file.is_file():
        raise InputError(f"there are no weights {str(name)!r} (there are: {', '.join(names()) or 'none'})")
    return file


def metadata(name: str | Path) -> dict[str, Any]:
    """Header of ``name`` with every value decoded from JSON where it is JSON, else the text itself."""
    file = path(name)
    try:
        with safe_open(file, framework="pt") as opened:
            header: Mapping[str, str] = opened.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"{file} is not a safetensors file: {error}") from error
    return {key: _decoded(text) for key, text in header.items()}


def read(name: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and decoded header of ``name``.

    Raises :class:`vivavoce.errors.InputError` for a file that does not exist or is not a safetensors file.
    """
    header = metadata(name)
    with safe_open(path(name), framework="pt") as opened:
        return {key: opened.get_tensor(key) for key in opened.keys()}, header  # noqa: SIM118  (no mapping)


def load_into(module: Module, name: str | Path, *, prefix: str = "") -> Module:
    """Fill every parameter and buffer of ``module`` from ``name`` and return it in evaluation mode, frozen.

    ``prefix`` picks the tensors whose names start with it when one file holds several modules. Tensors are
    cast to the types of the module (files may store half precision).

    Raises :class:`vivavoce.errors.InputError` naming missing, unknown and wrongly shaped tensors.
    """
    tensors = {key.removeprefix(prefix): value for key, value in read(name)[0].items() if key.startswith(prefix)}
    wanted = module.state_dict()
    shapes = [
        f"{key} is {list(tensors[key].shape)} but must be {list(wanted[key].shape)}"
        for key in wanted.keys() & tensors.keys()
        if tensors[key].shape != wanted[key].shape
    ]
    problems = [
        *_listed("missing", wanted.keys() - tensors.keys()),
        *_listed("unknown", tensors.keys() - wanted.keys()),
        *_listed("wrong shape", shapes),
    ]
    if problems:
        raise InputError(f"weights {str(name)!r} do not fit {type(module).__name__}: {'; '.join(problems)}")
    module.load_state_dict(tensors)
    return module.eval().requires_grad_(False)


def write(file: Path, tensors: Mapping[str, Tensor], **header: Any) -> None:
    """Write ``tensors`` and ``header`` (any JSON values) to ``file``; the folder must exist."""
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    save_file(plain, file, {key: json.dumps(value) for key, value in header.items()})
    file.chmod(0o644)  # written as private otherwise, and a package is read by everybody


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _listed(problem: str, keys: Iterable[str]) -> list[str]:
    ordered = sorted(keys)
    if not ordered:
        return []
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return [f"{problem}: {', '.join(ordered[:SHOWN])}{more}"]
