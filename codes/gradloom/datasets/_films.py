"""Films as rows of frames: folders of images, animated images, and whatever ffmpeg can decode."""

import os
import shutil
import subprocess
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from gradloom.datasets._image_files import list_images, read_image
from gradloom.errors import RunError

_ANIMATED = frozenset({".gif", ".webp", ".png", ".apng"})
_SKIPPED = 100  # frames that are rather decoded in vain than looked for anew


class Film(Protocol):
    """Frames at even times."""

    count: int  # frames from the start to the end of the film

    def frame(self, index: int) -> Tensor:
        """A frame, (3, height, width) in [0, 1]."""


def open_film(path: Path, rate: float, start: float) -> Film:
    """The frames of a film at a rate, from a time in seconds on.

    Raises:
        RunError: when there is no such file, or nothing here can decode it.
    """
    if path.is_dir():
        return FrameFolder(path, rate, start)
    if not path.is_file():
        raise RunError(f"there is no film {path}; give the path of a film, or of a folder of frames")
    if path.suffix.lower() in _ANIMATED:
        return Animation(path, rate, start)
    return Decoded(path, rate, start)


class FrameFolder:
    """Images in a folder, in the order of their names, one after the other at the rate."""

    def __init__(self, folder: Path, rate: float, start: float) -> None:
        self.files = list_images(folder)[round(start * rate) :]
        self.count = len(self.files)

    def frame(self, index: int) -> Tensor:
        return read_image(self.files[index])


class Animation:
    """An animated GIF, WebP or PNG, which Pillow decodes; at each time the frame that is shown then."""

    def __init__(self, file: Path, rate: float, start: float) -> None:
        try:
            with Image.open(file) as opened:
                frames = [(one.convert("RGB"), one.info.get("duration", 0)) for one in ImageSequence.Iterator(opened)]
        except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise RunError(f"{file} cannot be read as an animation ({error})") from error
        self.frames = [torch.from_numpy(np.array(frame)) for frame, _ in frames]
        self.ends = list(accumulate(max(float(time), 1.0) / 1000 for _, time in frames))
        self.rate, self.start = rate, start
        self.count = max(0, int((self.ends[-1] - start) * rate + 1e-3))

    def frame(self, index: int) -> Tensor:
        shown = bisect_right(self.ends, self.start + index / self.rate + 1e-6)
        return self.frames[min(shown, len(self.frames) - 1)].permute(2, 0, 1).float() / 255


class Decoded:
    """What ffmpeg decodes: one process for as long as frames are asked for in their order, or nearly so."""

    def __init__(self, file: Path, rate: float, start: float) -> None:
        self.file, self.rate, self.start = file, rate, start
        if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
            raise RunError(f"{file} needs ffmpeg and ffprobe, which are not there; install them, or give a folder of "
                           "frames or an animated GIF, WebP or PNG")  # fmt: skip
        self.count = max(0, int((self._seconds() - start) * rate + 1e-3))
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()  # a copy in a forked process leaves it alone
        self._next = 0

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_process": None}

    def __del__(self) -> None:
        self._stop()

    def _seconds(self) -> float:
        ask = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "default=nk=1:nw=1"]
        told = subprocess.run([*ask, str(self.file)], capture_output=True, text=True, check=False)
        try:
            return float(told.stdout.strip())
        except ValueError:
            words = " ".join(told.stderr.split())[-200:] or f"it says {told.stdout.strip()!r}"
            raise RunError(f"ffprobe does not know how long {self.file} is: {words}") from None

    def frame(self, index: int) -> Tensor:
        if self._process is None or self._owner != os.getpid() or not 0 <= index - self._next <= _SKIPPED:
            self._stop()
            self._process, self._owner, self._next = self._started(index), os.getpid(), index
        for _ in range(index - self._next):
            self._read(self._process, index)
        self._next = index + 1
        return self._read(self._process, index)

    def _started(self, index: int) -> "subprocess.Popen[bytes]":
        time = f"{self.start + index / self.rate:.6f}"
        form = ["-vf", f"fps={self.rate}", "-f", "image2pipe", "-c:v", "ppm", "-"]
        command = ["ffmpeg", "-v", "error", "-nostdin", "-ss", time, "-i", str(self.file), *form]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def _read(self, process: "subprocess.Popen[bytes]", index: int) -> Tensor:
        pixels = read_ppm(process.stdout) if process.stdout else None
        if pixels is None:
            self._stop()
            raise RunError(f"{self.file} ends before frame {index}, at {self.start + index / self.rate:.3f} seconds")
        return pixels

    def _stop(self) -> None:
        process, self._process = self.__dict__.get("_process"), None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()


def read_ppm(stream: IO[bytes]) -> Tensor | None:
    """The next image of a stream of binary PPM as ffmpeg writes it; None where it ends."""
    if stream.readline() != b"P6\n":
        return None
    width, height = map(int, stream.readline().split())
    stream.readline()  # the largest value, 255
    content = bytearray(stream.read(width * height * 3))
    if len(content) < width * height * 3:
        return None
    return torch.frombuffer(content, dtype=torch.uint8).view(height, width, 3).permute(2, 0, 1).float() / 255
