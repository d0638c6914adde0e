"""Look over the installation: what is there, what is missing, what to do about it."""

from __future__ import annotations

import importlib
import io
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

NEEDED = {  # import name -> name on the package index
    "torch": "torch",
    "numpy": "numpy",
    "scipy": "scipy",
    "cv2": "opencv-python-headless",
    "av": "av",
    "safetensors": "safetensors",
    "jaxtyping": "jaxtyping",
    "numba": "numba",
    "PIL": "pillow",
    "rich": "rich",
}
MEMORY = 2.0  # GB that a video needs, with room for the system
DISK = 1.0  # GB of scratch space worth mentioning when it is not there


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``missing`` means that no video can be made until the remedy is applied."""

    name: str
    state: Literal["ok", "note", "missing"]
    found: str
    remedy: str = ""


def examine() -> list[Check]:
    """Look at everything that making a video needs; takes a few seconds, writes nothing that stays."""
    packages = [_package(module, package) for module, package in NEEDED.items()]
    looks: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("video encoder", _encoder),
        ("face tracker", _tracker),
        ("weights", _weights),
        ("devices", _devices),
        ("memory", _memory),
        ("scratch space", _scratch),
    )
    return [_python(), *packages, *(_looked(name, look) for name, look in looks)]


def _looked(name: str, look: Callable[[], Check]) -> Check:
    """``look``, where any failure is itself the finding."""
    try:
        return look()
    except Exception as error:  # the whole point is to report whatever is broken
        return Check(name, "missing", f"{type(error).__name__}: {' '.join(str(error).split())}", "reinstall Vivavoce")


def _python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _package(module: str, package: str) -> Check:
    try:
        importlib.import_module(module)
        return Check(package, "ok", version(package))
    except PackageNotFoundError:
        return Check(package, "ok", "present, of unknown version")
    except Exception as error:  # a broken binary fails in its own ways
        return Check(package, "missing", f"{type(error).__name__}: {error}", f"pip install {package}")


def _encoder() -> Check:
    """Encode two frames with sound in memory, as every video is."""
    import torch

    from vivavoce.media.write import write_video
    from vivavoce.system import Clip
    from vivavoce.timeline import Clock, Span

    clock, made = Clock(), io.BytesIO()
    clip = Clip(Span(0, 2), torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.zeros(clock.sample(2)))
    write_video(made, [clip], clock)
    return Check("video encoder", "ok", "H.264 and AAC")


def _tracker() -> Check:
    import numpy as np

    from vivavoce.errors import InputError
    from vivavoce.face.track import FaceTracker

    try:
        FaceTracker().faces(np.zeros((64, 64, 3), np.uint8))
    except InputError as error:
        return Check("face tracker", "missing", str(error), "see the message")
    return Check("face tracker", "ok", f"mediapipe {version('mediapipe')}")


def _weights() -> Check:
    from vivavoce import weights

    names = weights.names()
    if not names:
        return Check("weights", "missing", "none in the package", "reinstall Vivavoce")
    size = 0
    for name in names:
        weights.read(name)
        size += weights.path(name).stat().st_size
    return Check("weights", "ok", f"{len(names)} files, {size / 1e6:.1f} MB, all readable")


def _devices() -> Check:
    import torch

    found = [f"cpu ({os.cpu_count()} cores, {torch.get_num_threads()} threads)"]
    if torch.cuda.is_available():
        found.append(f"cuda ({torch.cuda.get_device_name()})")
    if torch.backends.mps.is_available():
        found.append("mps")
    return Check("devices", "ok", ", ".join(found))


def _memory() -> Check:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return Check("memory", "note", "unknown on this system")
    if total < MEMORY:
        return Check("memory", "note", f"{total:.1f} GB", f"{MEMORY:g} GB or more are recommended")
    return Check("memory", "ok", f"{total:.1f} GB")


def _scratch() -> Check:
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    free = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    if free < DISK:
        return Check("scratch space", "note", f"{free:.1f} GB free", "long videos may not fit")
    return Check("scratch space", "ok", f"{free:.1f} GB free")
