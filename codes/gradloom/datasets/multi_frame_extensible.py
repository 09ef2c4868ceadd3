"""Tiles of films: the same place in frames that follow each other."""

from dataclasses import dataclass

from torch import Tensor
from torch.utils.data import Dataset

from gradloom.datasets._smaller import Positive
from gradloom.datasets._tiles import Tiled
from gradloom.errors import RunError
from gradloom.parts import datasets

_NUMBER = 12  # characters at the end of a frame's folder that number it


@datasets.register("multi_frame_extensible")
@dataclass(eq=False)
class MultiFrameExtensible(Tiled, Dataset[dict[str, Tensor]]):
    """Frames in the chunked format, as `single_image_extensible`, every key with a first dimension of `num_frames`.

    Folders whose names differ in the last 12 characters only are the frames of one film, by name. A sample is a tile
    of one frame with those of the frames after it, or before it where too few follow; the kinds of corruptions are
    the same in all. The ancestor began somewhere before the frame, and could run over into another film.

    A film of too few frames, or whose frames have not as many tiles each, is a `RunError`.
    """

    num_frames: Positive  # frames of a sample

    def __post_init__(self) -> None:
        super().__post_init__()
        self.films = [(picture.folder.parent, picture.folder.name[:-_NUMBER]) for picture in self.pictures]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        picture, tile = self.find(index)
        first = last = picture
        while last + 1 < len(self.films) and last - first + 1 < self.num_frames and self._follows(last):
            last += 1
        while first > 0 and last - first + 1 < self.num_frames and self._follows(first - 1):
            first -= 1
        frames = self.pictures[first : last + 1]
        film = str(self.pictures[picture].folder)
        if len(frames) < self.num_frames:
            raise RunError(f"{film} is of a film of {len(frames)} frames, fewer than num_frames {self.num_frames}")
        if len({len(frame.tiles) for frame in frames}) > 1:
            raise RunError(f"{film} has not as many tiles as the frames beside it; cut the film anew")
        return self.sample(frames, tile, index)

    def _follows(self, picture: int) -> bool:
        """Whether the next folder is the next frame of the same film, and not the first one's repetition."""
        same = self.films[picture] == self.films[picture + 1]
        return same and self.pictures[picture].folder.name < self.pictures[picture + 1].folder.name
