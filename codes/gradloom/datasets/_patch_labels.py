"""Labels of rectangles in images, as the ancestor's labelling tool writes them.

{"a": {"label": "sky", "index": 1, "keyBinding": "a", "labeledImages": [
    {"path": "cat.png", "label": "sky", "patch_top": 0, "patch_left": 8, "patch_height": 16, "patch_width": 16}]}}
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gradloom.errors import RunError


class Patch(NamedTuple):
    """A rectangle of one label, in pixels of the file."""

    top: int
    left: int
    height: int
    width: int
    label: int


@dataclass(frozen=True, kw_only=True)
class Labeler:
    """Where labels come from."""

    type: Literal["patch_labels"]
    label_file: Path | list[Path]  # JSON; of several, all labels are taken

    def read(self, folder: Path) -> Mapping[Path, list[Patch]]:
        """The labels of each file that has any; paths in label files are relative to the folder.

        Raises:
            RunError: when a label file cannot be understood.
        """
        found: dict[Path, list[Patch]] = {}
        for file in self.label_file if isinstance(self.label_file, list) else [self.label_file]:
            try:
                for name, patch in _patches(json.loads(file.read_text(encoding="utf-8"))):
                    found.setdefault(folder / name, []).append(patch)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise RunError(f"{file} cannot be read as labels ({type(error).__name__}: {error})") from error
        return found


def _patches(categories: Mapping[str, Any]) -> Iterable[tuple[str, Patch]]:
    numbers = {category["label"]: int(category["index"]) for category in categories.values()}
    for category in categories.values():
        for entry in category["labeledImages"]:
            top, left, height, width = (int(entry[f"patch_{side}"]) for side in ("top", "left", "height", "width"))
            name = entry["path"].replace("\\", "/").lstrip("/")
            yield name, Patch(top, left, height, width, numbers[entry["label"]])


def label_map(patches: Iterable[Patch], height: int, width: int) -> Tensor:
    """Float32 of (2, height, width): the label of each pixel, and 1 where it has one; later patches lie above."""
    view = torch.zeros(2, height, width)
    for patch in patches:
        place = view[:, patch.top : patch.top + patch.height, patch.left : patch.left + patch.width]
        place[0], place[1] = patch.label, 1
    return view
