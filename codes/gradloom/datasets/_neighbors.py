"""Images that go with another: the next frame of a film, or another tile of a picture."""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import torch


class Neighbors:
    """The files of a dataset, by folder."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.known = frozenset(files)
        self.beside: dict[Path, list[Path]] = defaultdict(list)
        for file in sorted(self.known):
            self.beside[file.parent].append(file)

    def next_frame(self, file: Path) -> Path:
        """The file whose last 8 digits are one more; the file itself where there is none."""
        numbered = re.fullmatch(r"(.*)(\d{8})", file.stem)
        if not numbered:
            return file
        following = file.with_name(f"{numbered[1]}{int(numbered[2]) + 1:08d}{file.suffix}")
        return following if following in self.known else file

    def any_other(self, file: Path) -> Path:
        """Another file of the folder, each as likely; the file itself where there is none."""
        beside = self.beside[file.parent]
        if len(beside) == 1:
            return file
        chosen = int(torch.randint(len(beside) - 1, ()))
        return beside[chosen + (chosen >= bisect_left(beside, file))]
