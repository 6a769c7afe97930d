"""What this installation and this machine can do, and what stands in the way."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from typing import Any

import psutil
import torch
from packaging.requirements import Requirement

from snowmelt._version import __version__
from snowmelt.device import resolve_device
from snowmelt.errors import InputError
from snowmelt.files import check_writable, user_cache
from snowmelt.json_files import Json, plain
from snowmelt.models import create_ddpm
from snowmelt.precision import AUTO, choose
from snowmelt.text import text_table

__all__ = ["Library", "Machine", "examine"]

NOT_FOR_USERS = {"all", "browser", "dev"}  # extras that bring nothing of their own, or are for tests
ROOM = 2**30  # bytes that the cache should have: an array of prepared images, say
DRIVER = Path("/proc/driver/nvidia/version")
IMAGES = 8  # of a step of the network whose precision is tried


@dataclass(frozen=True)
class Library:
    """A library that snowmelt can use.

    Attributes:
        name: of the library.
        needed: its versions, such as ``">=2.6"``.
        extras: what installs it; empty where sampling needs it.
        installed: its version; None if it is missing.
    """

    name: str
    needed: str
    extras: list[str]
    installed: str | None

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"pip install 'snowmelt[{self.extras[0]}]'" if self.extras else "pip install snowmelt"

    def problem(self) -> str | None:
        """Return what is wrong with it; a library of an extra may be missing."""
        if self.installed is None:
            return None if self.extras else f"{self.name} is missing: {self.install}"
        if not Requirement(f"{self.name}{self.needed}").specifier.contains(self.installed, prereleases=True):
            return (
                f"{self.name} {self.installed} is not {self.needed}, which snowmelt needs: "
                f"pip install --upgrade '{self.name}{self.needed}'"
            )
        return None


@dataclass(frozen=True)
class Machine:
    """An installation and its machine.

    Attributes:
        versions: of snowmelt, Python and the operating system.
        devices: each with its name, memory and what else is known.
        precision: what ``auto`` takes on the fastest device, for sampling and for training, and why.
        folders: that snowmelt keeps things in, with the free bytes.
        libraries: that it can use.
        problems: sentences, each with what to do.
    """

    versions: dict[str, str]
    devices: dict[str, Json]
    precision: dict[str, Json]
    folders: dict[str, Json]
    libraries: list[Library]
    problems: list[str]

    def to_dict(self) -> Json:
        """Return all of it as plain values."""
        found: Json = plain(self)
        return found

    def __str__(self) -> str:
        facts = [[name, found] for name, found in self.versions.items()]
        facts += [[name, ", ".join(map(str, about.values()))] for name, about in self.devices.items()]
        facts += [[f"precision, {use}", str(found["reason"])] for use, found in self.precision.items()]
        facts += [
            [name, f"{about['path']}, {about['free_bytes'] / 2**30:.1f} GiB free"]
            for name, about in self.folders.items()
        ]
        there = ", ".join(f"{each.name} {each.installed}" for each in self.libraries if each.installed)
        missing = [
            f"{each.name} is not installed: {each.install}" for each in self.libraries if not each.installed
        ]
        problems = [f"Problem: {problem}" for problem in self.problems] or ["No problem was found."]
        return "\n".join([text_table(facts, left=2), "", f"Libraries: {there}", *missing, "", *problems])


def examine() -> Machine:
    """Look at the installation and the machine; a few steps of a small network take seconds."""
    libraries, devices, folders = list(_libraries()), _devices(), _folders()
    problems = [problem for each in libraries if (problem := each.problem())]
    problems += [*_troubles_of_devices(), *_troubles_of_folders(folders)]
    versions = {
        "snowmelt": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
    }
    return Machine(versions, devices, _precision(), folders, libraries, problems)


def _libraries() -> Iterator[Library]:
    """Yield what the metadata of snowmelt states, each library once."""
    stated = metadata("snowmelt")
    extras = sorted(set(stated.get_all("Provides-Extra") or ()) - NOT_FOR_USERS)
    found: dict[str, tuple[str, list[str]]] = {}
    for line in stated.get_all("Requires-Dist") or ():
        one = Requirement(line)
        wanting = [each for each in extras if one.marker and one.marker.evaluate({"extra": each})]
        if wanting or one.marker is None:
            found.setdefault(one.name, (str(one.specifier), []))[1].extend(wanting)
    brought = Counter(each for _, wanting in found.values() for each in wanting)
    for name, (needed, wanting) in found.items():
        smallest_first = sorted(set(wanting), key=lambda each: (brought[each], each))
        yield Library(name, needed, smallest_first, _version(name))


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _devices() -> dict[str, Json]:
    processor: Json = {
        "name": platform.processor() or platform.machine(),
        "processors": f"{_processors()} processors",
        "threads": f"{torch.get_num_threads()} threads",
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
    }
    found = {"cpu": processor}
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = {
            "name": about.name,
            "memory": f"{about.total_memory / 2**30:.1f} GiB",
            "cuda": f"CUDA {torch.version.cuda}",
        }
    if torch.backends.mps.is_available():
        found["mps"] = {"name": "Apple's GPU"}
    return found


def _processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1


def _precision() -> dict[str, Json]:
    """Return what ``precision=auto`` takes for a small network on the fastest device."""
    device = resolve_device(AUTO)
    model: Any = create_ddpm(image_size=32, in_channels=3, model_channels=32).to(device).eval()
    return {
        use: choose(AUTO, model, device, IMAGES, backward=backward)._asdict()
        for use, backward in {"sampling": False, "training": True}.items()
    }


def _folders() -> dict[str, Json]:
    places = {"cache": user_cache(), "data": Path(os.environ.get("SNOWMELT_DATA", "data"))}
    return {
        name: {"path": str(path), "free_bytes": shutil.disk_usage(_there(path)).free}
        for name, path in places.items()
    }


def _there(path: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    return next(each for each in [path.absolute(), *path.absolute().parents] if each.exists())


def _troubles_of_devices() -> Iterator[str]:
    if DRIVER.exists() and not torch.cuda.is_available():
        yield (
            f"this machine has an NVIDIA driver, but torch {torch.__version__} sees no device: install the "
            "torch of its CUDA version (pytorch.org says how), or look at CUDA_VISIBLE_DEVICES"
        )
    if (threads := torch.get_num_threads()) > (there := _processors()):
        yield (
            f"torch uses {threads} threads on {there} processors, which slows all of them down: set "
            f"OMP_NUM_THREADS={there}"
        )


def _troubles_of_folders(folders: dict[str, Json]) -> Iterator[str]:
    cache = folders["cache"]
    try:
        check_writable(cache["path"])
    except InputError as error:
        yield f"the cache cannot be written ({error}): set XDG_CACHE_HOME to another folder"
    if cache["free_bytes"] < ROOM:
        yield f"the cache {cache['path']} has less than 1 GiB free: make room, or set XDG_CACHE_HOME"
