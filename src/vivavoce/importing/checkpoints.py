"""Read other projects' weight files safely, map their names strictly, write ours whole or not at all.

Nothing in a file is ever run: ``.pth`` files go through PyTorch's reader of plain data, which knows tensors and
containers only, and everything that reader lets through is checked again here.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vivavoce import weights
from vivavoce.errors import InputError

PICKLED = (".pth", ".pt", ".ckpt", ".bin")
SAFE = ".safetensors"
COUNTERS = "num_batches_tracked"  # of batch norms: training bookkeeping that changes no output
_SHOWN = 3  # names of a mismatch written out; the rest is counted
_DEPTH = 8  # of dictionaries in dictionaries
_PIECE = 1 << 22

Shape = tuple[int, ...]
Rename = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tensors of one published file."""

    file: Path
    sha256: str
    tensors: Mapping[str, Shaped[Tensor, "..."]]  # names of nested dictionaries joined by dots, without "module"

    def under(self, prefix: str) -> dict[str, Shaped[Tensor, "..."]]:
        """Tensors whose names begin with ``prefix`` and a dot, without both; empty if there are none."""
        start = f"{prefix}."
        return {key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)}


def find(source: Path, names: Iterable[str]) -> Path | None:
    """The file under ``source`` with one of these names, or ``None``.

    Args:
        source: a folder, searched with everything in it, or one file, which is taken if its name is one of ``names``.
        names: file names in order of preference.

    Raises:
        InputError: several files of one name, in different folders, so that nobody can say which is meant; or
            ``source`` does not exist.
    """
    if not source.exists():
        raise InputError(f"there is no file or folder {source}")
    for name in names:
        if source.is_file():
            found = [source] if source.name == name else []
        else:
            found = sorted(path for path in source.rglob(name) if path.is_file())
        if len(found) > 1:
            places = ", ".join(str(path.relative_to(source)) for path in found[:_SHOWN])
            raise InputError(
                f"{source} has {len(found)} files called {name} ({places}); give the folder of one of them"
            )
        if found:
            return found[0]
    return None


def read(file: Path, *, only: str | None = None, inert: Sequence[str] = ()) -> Checkpoint:
    """Every tensor of a ``.pth`` (or ``.pt``, ``.ckpt``, ``.bin``) or ``.safetensors`` file.

    Args:
        file: the file.
        only: where the file is a dictionary with this name in it, what lies there is all that is read: the rest, such
            as the optimiser's state, is no weights.
        inert: full names of classes that files of this kind mention. They are read as classes that do nothing.

    Raises:
        InputError: the file cannot be read, is damaged or is of another kind, or it holds anything but tensors,
            numbers and text in plain containers (code, above all: it is refused unrun).
    """
    try:
        if file.suffix == SAFE:
            found: Any = _safetensors(file)
        elif file.suffix in PICKLED:
            found = _pickled(file, inert)
        else:
            accepted = ", ".join((*PICKLED, SAFE))
            raise InputError(f"{file} is not a weight file that can be read (accepted: {accepted})")
        checksum = sha256(file)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from error
    if isinstance(found, Mapping) and only in found:
        found = found[only]
    tensors: dict[str, Tensor] = {}
    _flatten(found, (), tensors, file)
    if not tensors:
        raise InputError(f"{file} holds no weights at all")
    return Checkpoint(file, checksum, tensors)


def sha256(file: Path) -> str:
    """Checksum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def matched(
    found: Mapping[str, Shaped[Tensor, "..."]],
    wanted: Mapping[str, Shape],
    *,
    what: str,
    rename: Rename | None = None,
) -> dict[str, Shaped[Tensor, "..."]]:
    """The tensors of ``found`` under our names: exactly those of ``wanted``, each of its shape and finite.

    Args:
        found: tensors by published name.
        wanted: shapes by our name.
        what: how messages call the thing, for example ``"warping_module.pth (the warping network)"``.
        rename: published name -> ours, or ``None`` for a tensor that is knowingly left behind; the name itself when
            not given. Names it does not know it returns as they are: they are then refused as unknown.

    Raises:
        InputError: naming what is missing, unknown, twice there, of the wrong shape or kind, or not finite.
    """
    mapped: dict[str, Tensor] = {}
    published: dict[str, str] = {}
    twice: list[str] = []
    for key, value in found.items():
        name = rename(key) if rename else key
        if name is None:
            continue
        if name in mapped:
            twice.append(f"{key} and {published[name]}")
        mapped[name], published[name] = value, key
    known = wanted.keys() & mapped.keys()
    if not known:
        first = next(iter(sorted(found)), "nothing")
        raise InputError(f"{what} is something else: none of its {len(found)} names fits (the first is {first})")
    problems = [
        *_listed("missing", wanted.keys() - mapped.keys()),
        *_listed("unknown", (published[name] for name in mapped.keys() - wanted.keys())),
        *_listed("the same weight twice", twice),
        *_listed("wrong shape", _misshapen(mapped, wanted, published)),
    ]
    problems = problems or _listed("not finite numbers", (published[key] for key in known if not _sound(mapped[key])))
    if problems:
        raise InputError(f"{what} does not fit: {'; '.join(problems)}")
    return {name: mapped[name].detach().clone(memory_format=torch.contiguous_format) for name in wanted}


def without_counters(key: str) -> str | None:
    """A ``rename`` that leaves the batch counters of batch norms behind."""
    return None if key.rpartition(".")[2] == COUNTERS else key


def publish(folder: Path, name: str, tensors: Mapping[str, Shaped[Tensor, "..."]], card: str, **header: Any) -> Path:
    """Write ``name.safetensors`` and its card ``name.md`` to ``folder``: both whole, or the folder as it was.

    The folder is made if need be; files of these names are replaced. ``header`` takes any JSON values.

    Raises:
        InputError: the folder cannot be written to.
    """
    file, note = folder / f"{name}{SAFE}", folder / f"{name}.md"
    beside = [file.with_name(f".{name}.partial{SAFE}"), note.with_name(f".{name}.partial.md")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights.write(beside[0], tensors, **header)
        beside[1].write_text(card)
        beside[1].replace(note)
        beside[0].replace(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"the weights cannot be written to {folder}: {error}") from error
    finally:
        for left in beside:
            left.unlink(missing_ok=True)
    return file


def _safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  (no mapping)
    except SafetensorError as error:
        raise InputError(f"{file} is damaged or no safetensors file: {error}") from error


def _pickled(file: Path, inert: Sequence[str]) -> Any:
    standing_in: list[Any] = [(type(name.rpartition(".")[2], (), {}), name) for name in inert]
    try:
        with torch.serialization.safe_globals(standing_in):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("WeightsUnpickler error:")[-1].strip().splitlines()[0]
        raise InputError(f"{file} holds more than plain weights, and nothing of it was run: {reason}") from error
    except OSError:
        raise
    except Exception as error:  # the reader meets arbitrary bytes here, and raises whatever they make of it
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{file} is damaged or no weight file: {reason}") from error


def _flatten(value: Any, path: tuple[str, ...], tensors: dict[str, Tensor], file: Path) -> None:
    """Collect the tensors of nested dictionaries; numbers and text beside them (epochs, options) are no weights."""
    if isinstance(value, Tensor):
        key = ".".join(path)
        if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
            raise InputError(f"{file} is not plain: {key or 'what it holds'} is no ordinary tensor")
        if key in tensors:
            raise InputError(f"{file} holds {key} twice")
        tensors[key] = value
    elif isinstance(value, Mapping):
        if len(path) >= _DEPTH:
            raise InputError(f"{file} is no weight file: its dictionaries lie in each other without end")
        for key, inner in value.items():
            words = [word for word in str(key).split(".") if word != "module"]  # of networks wrapped for training
            _flatten(inner, (*path, *words) if words else path, tensors, file)
    elif isinstance(value, list | tuple) and any(isinstance(item, Tensor | Mapping) for item in value):
        raise InputError(f"{file} is laid out in lists ({'.'.join(path) or 'at the top'}), not by name")


def _misshapen(found: Mapping[str, Tensor], wanted: Mapping[str, Shape], published: Mapping[str, str]) -> list[str]:
    wrong = []
    for name in wanted.keys() & found.keys():
        value, shape = found[name], tuple(wanted[name])
        if tuple(value.shape) != shape:
            wrong.append(f"{published[name]} is {list(value.shape)} but must be {list(shape)}")
        elif not value.is_floating_point():
            wrong.append(f"{published[name]} holds {value.dtype} where real numbers belong")
    return wrong


def _sound(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _listed(problem: str, names: Iterable[str]) -> list[str]:
    ordered = sorted(names)
    if not ordered:
        return []
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return [f"{problem}: {', '.join(ordered[:_SHOWN])}{more}"]
