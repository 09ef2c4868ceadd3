"""How processes part: one that fails by itself tells the others why, who lose touch with it."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import format_exception_only

from gradloom.engine.interrupts import Interrupted
from gradloom.engine.world import World
from gradloom.errors import Diverged, LostTouch, OptionsError, RunError, one_line


@contextmanager
def farewell(world: World) -> Iterator[None]:
    """Within it, an error of one process is told with the process, by that one and by those that lose touch with it.

    Raises:
        RunError: the one that was raised, with the process it was raised in.
    """
    if world.last_words is None:
        yield
        return
    here = f"process {world.number} on {platform.node()}"
    try:
        yield
    except LostTouch as error:
        words = world.last_words.heard()
        raise LostTouch(f"{error}; {words}" if words else str(error)) from error
    except (OptionsError, Interrupted, Diverged):  # which all processes come to alike
        raise
    except RunError as error:
        world.last_words.say(f"{here} failed: {one_line(str(error))}")
        raise RunError(f"{error} ({here})") from error
    except Exception as error:
        what = " ".join(line.strip() for line in format_exception_only(error)[:2])  # the first note tells where
        world.last_words.say(f"{here} failed: {one_line(what)}")
        raise
