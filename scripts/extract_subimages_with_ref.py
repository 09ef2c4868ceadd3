"""Cut images into tiles, in the format that `mode: single_image_extensible` reads; docs/data.md describes it.

python scripts/extract_subimages_with_ref.py photos/ tiles/                      squares of 256 pixels, every 128
python scripts/extract_subimages_with_ref.py photos/ tiles/ --crop 256 512 1024 --step 128 256 512

Of each image the middle square is taken. Squares of each size in --crop are cut out of it, a step apart, and shrunk
to the first size; where more than --margin pixels are left at an edge, one more stands there. Images that were cut
before are passed over, so that a run that was stopped goes on; images that cannot be read are named and counted.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "codes"))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torchvision.transforms.v2.functional import to_pil_image  # noqa: E402

from gradloom.datasets._image_files import crop_center, list_images, read_image, resize_area  # noqa: E402
from gradloom.errors import RunError  # noqa: E402


@dataclass(frozen=True)
class Cut:
    """How images are cut."""

    crops: Sequence[int]
    steps: Sequence[int]
    margin: int
    halve: int
    split: bool
    ending: str
    quality: int

    @property
    def size(self) -> int:
        """The side of tiles and overviews."""
        return self.crops[0]


@dataclass(frozen=True)
class Done:
    """What became of an image: how many tiles, or why none."""

    file: Path
    tiles: int = 0
    why: str = ""


def places(side: int, crop: int, step: int, margin: int) -> list[int]:
    """Where squares begin along a side; none where it is shorter than one."""
    starts = list(range(0, side - crop + 1, step))
    if starts and side - (starts[-1] + crop) > margin:
        starts.append(side - crop)
    return starts


def tiles_of(image: Tensor, cut: Cut) -> Iterator[tuple[Tensor, tuple[tuple[int, int], int]]]:
    """The tiles of a square, each with its center and width in the overview."""
    side = image.shape[-1]
    for crop, step in zip(cut.crops, cut.steps, strict=True):
        starts = places(side, crop, step, cut.margin)
        for top in starts:
            for left in starts:
                tile = image[:, top : top + crop, left : left + crop]
                row, column = ((start + crop // 2) * cut.size // side for start in (top, left))
                yield resize_area(tile, cut.size, cut.size), ((row, column), max(1, crop * cut.size // side))


def halves(image: Tensor, split: bool) -> Iterator[tuple[str, Tensor]]:
    """The middle square of an image, or those of its halves that are nearest to the middle."""
    if not split:
        yield "", crop_center(image, *[min(image.shape[-2:])] * 2)
        return
    half = image.shape[-1] // 2
    side = min(image.shape[-2], half)
    image = crop_center(image, side, image.shape[-1])
    yield "_left", image[:, :, half - side : half]
    yield "_right", image[:, :, -half : -half + side] if side < half else image[:, :, -half:]


def cut_image(file: Path, images: Path, target: Path, cut: Cut) -> list[Done]:
    """Cut one image; a folder is there only when all of it is."""
    name = "_".join(file.relative_to(images).parts)
    try:
        image = read_image(file)
    except RunError as error:
        return [Done(file, why=str(error))]
    height, width = image.shape[-2:]
    if max(height, width) > cut.halve:
        image = resize_area(image, height // 2, width // 2)
    return [write(file, target / f"{name}{side}", square, cut) for side, square in halves(image, cut.split)]


def write(file: Path, folder: Path, square: Tensor, cut: Cut) -> Done:
    """Write the tiles of a square, its overview, and where the tiles are."""
    if folder.exists():
        return Done(file, why="was cut before")
    if square.shape[-1] < cut.size:
        return Done(file, why=f"is smaller than {cut.size} pixels")
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    centers = {}
    for number, (tile, place) in enumerate(tiles_of(square, cut), 1):
        save(tile, beside / f"{number:08d}.{cut.ending}", cut.quality)
        centers[number] = place
    save(resize_area(square, cut.size, cut.size), beside / "ref.jpg", cut.quality)
    torch.save(centers, beside / "centers.pt")
    beside.rename(folder)
    return Done(file, len(centers))


def save(image: Tensor, file: Path, quality: int) -> None:
    options = {"quality": quality} if file.suffix == ".jpg" else {}
    to_pil_image((image * 255).round().byte()).save(file, **options)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="a folder of images, those in folders below it too")
    parser.add_argument("tiles", type=Path, help="the folder to write to")
    parser.add_argument("--crop", type=int, nargs="+", default=[256], help="sides of squares; tiles have the first")
    parser.add_argument("--step", type=int, nargs="+", help="pixels between them; half of each side by default")
    parser.add_argument("--margin", type=int, help="pixels that may be left at an edge; the least step by default")
    parser.add_argument("--halve", type=int, default=5500, help="images with a longer side are halved first")
    parser.add_argument("--split", action="store_true", help="cut left and right halves apart, for mode: paired_frame")
    parser.add_argument("--png", action="store_true", help="lose nothing; else tiles are JPEG")
    parser.add_argument("--quality", type=int, default=90, help="of JPEG")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(words)
    given.step = given.step or [max(1, crop // 2) for crop in given.crop]
    if len(given.step) != len(given.crop):
        parser.error(f"--step needs one number for each of --crop, got {len(given.step)} for {len(given.crop)}")
    if min([*given.crop, *given.step]) < 1 or min(given.crop) < given.crop[0]:
        parser.error("--crop and --step are above 0, and the first of --crop is the smallest")
    return given


def all_done(work: Callable[[Path], list[Done]], files: Sequence[Path], workers: int) -> Iterator[Done]:
    """What becomes of each image, by so many processes."""
    if workers == 1:
        yield from (one for file in files for one in work(file))
        return
    with Pool(workers, torch.set_num_threads, (1,)) as pool:
        yield from (one for several in pool.imap(work, files) for one in several)


def main(words: Sequence[str] | None = None) -> int:
    given = arguments(words)
    margin = min(given.step) if given.margin is None else given.margin
    ending = "png" if given.png else "jpg"
    cut = Cut(given.crop, given.step, margin, given.halve, given.split, ending, given.quality)
    try:
        files = list_images(given.images)
    except RunError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    work = partial(cut_image, images=given.images, target=given.tiles, cut=cut)
    tiles, passed, bad = 0, 0, 0
    for done in all_done(work, files, given.workers):
        tiles, passed, bad = tiles + done.tiles, passed + bool(done.why), bad + ("cannot be read" in done.why)
        if done.why:
            print(done.why if str(done.file) in done.why else f"{done.file} {done.why}", file=sys.stderr)
    print(f"{tiles:,} tiles of {len(files):,} images in {given.tiles}; {passed:,} passed over, {bad:,} not readable")
    return 0


if __name__ == "__main__":
    sys.exit(main())
