"""Where a machine keeps what it can make again: `$XDG_CACHE_HOME/gradloom`, or `~/.cache/gradloom`."""

import os
from pathlib import Path

from gradloom.config.source import home_expanded


def cache() -> Path | None:
    """The folder, if there is one: the user of a container may have no home. A relative path counts as none."""
    told = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = told if told.is_absolute() else home_expanded("~") / ".cache"
    return folder / "gradloom" if folder.is_absolute() else None
