"""Listings of large folders, remembered between runs as long as no folder in them has changed.

They are in `listings` in the cache, one file for each folder; never in the folder itself. A folder's time changes when
a file in it is added, removed or renamed: what is remembered holds while all times are as they were. A file is replaced
whole, so that processes that write at once do no harm.
"""

import json
import os
import time
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from tempfile import NamedTemporaryFile

from gradloom.config.cache import cache

WORTHWHILE = 1000  # files, from which on a listing is remembered
_SETTLED = 2.0  # seconds for which a folder has to be unchanged, as a file system's clock may be that coarse

Listing = Mapping[str, tuple[int, list[str]]]
"""For each folder, as seen from the first, when it changed, in nanoseconds, and the names of its files."""


def files_below(folder: Path) -> Mapping[Path, list[str]]:
    """The names of the files in a folder and in every folder below it, links followed."""
    place = _place(folder)
    known = _read(place)
    if not known or any(_time_of(folder / where) != then for where, (then, _) in known.items()):
        began = time.time()
        known = {
            os.path.relpath(where, folder): (_time_of(Path(where)), names)
            for where, _, names in os.walk(folder, followlinks=True)
        }
        settled = all(then < (began - _SETTLED) * 1e9 for then, _ in known.values())
        if place and settled and sum(len(names) for _, names in known.values()) >= WORTHWHILE:
            _write(place, known)
    return {folder / where: names for where, (_, names) in known.items()}


def _time_of(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return -1


def _place(folder: Path) -> Path | None:
    """Where a folder's listing is, if there is a cache."""
    digest = blake2b(os.fsencode(folder.absolute()), digest_size=16).hexdigest()
    among = cache()
    return among / "listings" / f"{digest}.json" if among else None


def _read(place: Path | None) -> Listing:
    """What is remembered; nothing where that is no listing."""
    try:
        told = json.loads(place.read_text(encoding="utf-8")) if place else {}
        return {str(where): (int(then), [str(name) for name in names]) for where, (then, names) in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(place: Path, listing: Listing) -> None:
    """Remember a listing, if the cache can be written to."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=place.parent, delete=False, encoding="utf-8") as file:
            json.dump(listing, file)
        Path(file.name).replace(place)
    except OSError:
        return
