"""Write what a network makes of the frames of a film, as images and as films: `gradloom process_video`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gradloom.engine.applying import Applying, Output, look_first, results_folder, to_pictures
from gradloom.engine.data.feed import Fetched
from gradloom.engine.data.rejects import Rejects
from gradloom.engine.interrupts import Interrupted, Interrupts
from gradloom.engine.testing import save
from gradloom.errors import OptionsError, RunError
from gradloom.plan.applying import RECURRENT
from gradloom.plan.plan import Plan


class Frames(Protocol):
    """What a dataset of the frames of a film says of it."""

    frame_rate: float
    vertical_splits: int  # samples that make up a frame, side by side


def process_video(plan: Plan, say: Callable[[str], None]) -> None:
    """Write `eval.output_state` of each frame of `datasets.video` into `results/<name>/<dataset>/`, and films of them.

    Raises:
        OptionsError: when the options do not say what to write, or of which film.
        RunError: when something is missing, or a film cannot be made.
        Interrupted: when it was asked to stop.
    """
    _check(plan)
    try:
        dataset = look_first(plan, ["video"], say)["video"]
        applying = Applying(plan)
        for sentence in applying.origins:
            say(sentence)
        with Interrupts().noted() as interrupts:
            _process(applying, dataset, interrupts, say)
    except OSError as error:
        raise RunError(f"a file cannot be read or written: {error}") from error


def _check(plan: Plan) -> None:
    root, video = plan.document.root, plan.sections.video
    if root is None or "video" not in plan.datasets:
        raise OptionsError([root.fault("there is no film; add datasets.video: {mode: video, ...}")] if root else [])
    node = plan.datasets["video"].recipe.node
    first = video.recurrent_hr_generator
    if video.recurrent_mode and plan.datasets["video"].batch_size > 1:
        why = "with recurrent_mode frames come one at a time; write batch_size: 1"
        raise OptionsError([plan.datasets["video"].batch_fault(why)])
    if first and ("generator" not in plan.networks or first not in plan.networks):
        raise OptionsError([node.fault(f"video.recurrent_hr_generator: {first!r} stands in for 'generator'; name both "
                                       "under networks")])  # fmt: skip


def _process(applying: Applying, dataset: Dataset[Any], interrupts: Interrupts, say: Callable[[str], None]) -> None:
    plan, video = applying.plan, applying.plan.sections.video
    film, rejects = cast(Frames, dataset), Rejects(plan.datasets["video"], say)
    folder = results_folder(plan, "video")
    folder.mkdir(parents=True, exist_ok=True)
    reel = Reel(folder, video.mini_vid_output_folder or folder, film.frame_rate, video.minivid_crf,
                video.frames_per_mini_vid, video.minivid_start_no, say)  # fmt: skip
    parts: list[Tensor] = []
    before: Tensor | None = None
    for fetched in applying.feed("video", dataset):
        rejects.note(fetched.bad, fetched.batch)
        outputs = _outputs(applying, fetched, before)
        before = outputs[-1].value[None] if outputs else before
        for output in outputs:
            parts += to_pictures(output.value, *plan.sections.image_normalization_range)
            if (output.index + 1) % film.vertical_splits == 0:
                if len(parts) == film.vertical_splits:  # or a part of the frame was bad, which has been said
                    reel.add(torch.cat(parts, -1))
                parts = []
        if interrupts.number is not None:
            raise Interrupted(interrupts.number, f"stopped after {reel.count:,} frames, in {folder}")
    reel.finish()
    say(f"{reel.count:,} frames of {applying.application.output!r} in {folder}")


def _outputs(applying: Applying, fetched: Fetched, before: Tensor | None) -> list[Output]:
    """What becomes of some frames, given what became of the one before them."""
    video = applying.plan.sections.video
    if not video.recurrent_mode:
        return applying.outputs("video", fetched)
    if before is None:
        lq = fetched.batch["lq"]
        before = lq.new_zeros(*lq.shape[:-2], *(side * video.scale for side in lq.shape[-2:]))
        first = {"generator": video.recurrent_hr_generator} if video.recurrent_hr_generator else {}
        return applying.outputs("video", fetched, {RECURRENT: before}, first)
    return applying.outputs("video", fetched, {RECURRENT: before})


class Reel:
    """Frames as numbered images, and films of so many of them, made by ffmpeg while frames go on; None is one film.

    Frames that are in one of several films are removed. Without ffmpeg all stay, and there are no films.
    """

    def __init__(
        self, folder: Path, films: Path, rate: float, crf: int, length: int | None, number: int,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.folder, self.films, self.rate, self.crf, self.length, self.number = (
            folder,
            films,
            rate,
            crf,
            length,
            number,
        )
        self.count = self.filmed = 0
        self._say = say
        self._working: tuple[subprocess.Popen[bytes], Path, list[Path]] | None = None
        self._able = shutil.which("ffmpeg") is not None
        if not self._able:
            say("ffmpeg is not there, so that frames are written as images only")

    def add(self, picture: Tensor) -> None:
        """Write a frame."""
        save(self._file(self.count), picture)
        self.count += 1
        if self.length and self.count - self.filmed == self.length:
            self._film()

    def finish(self) -> None:
        """Make a film of what is left, and wait for it."""
        if self.count > self.filmed:
            self._film()
        self._wait()

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:08d}.png"

    def _film(self) -> None:
        self._wait()
        frames = [self._file(number) for number in range(self.filmed, self.count)]
        if self._able:
            self.films.mkdir(parents=True, exist_ok=True)
            target = self.films / f"mini_{self.number:06d}.mkv"
            source = ["-framerate", f"{self.rate:g}", "-f", "image2", "-start_number", str(self.filmed),
                      "-i", str(self.folder / "%08d.png"), "-frames:v", str(len(frames))]  # fmt: skip
            form = ["-c:v", "libx265", "-crf", str(self.crf), "-preset", "slow", "-pix_fmt", "yuv444p", str(target)]
            command = ["ffmpeg", "-y", "-v", "error", "-nostdin", *source, *form]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            self._working = process, target, frames
        self.filmed, self.number = self.count, self.number + 1

    def _wait(self) -> None:
        """Wait for the film that is being made."""
        if self._working is None:
            return
        process, target, frames = self._working
        self._working = None
        _, words = process.communicate()
        if process.returncode:
            told = " ".join(words.decode(errors="replace").split())[-300:]
            raise RunError(f"ffmpeg could not make {target}: {told}; its frames are in {self.folder}")
        self._say(f"{target}: {len(frames):,} frames")
        for frame in frames if self.length else ():
            frame.unlink(missing_ok=True)
