"""What is chosen for a network, and the file in which a machine keeps it for the next run."""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from gradloom.config.cache import cache
from gradloom.plan.plan import Plan
from gradloom.version import __version__


@dataclass(frozen=True)
class Choice:
    """How a network is laid out and run."""

    channels_last: bool = False
    compile: bool = False
    why: str = ""

    def __str__(self) -> str:
        chosen = [word for word in ("channels_last", "compile") if getattr(self, word)]
        return f"{' and '.join(chosen) or 'as it is'} ({self.why})"

    def plain(self) -> dict[str, bool]:
        """What is chosen, without why: as a checkpoint holds it."""
        return {"channels_last": self.channels_last, "compile": self.compile}


class Remembered:
    """What was chosen on this machine, with these versions and this plan.

    It is kept in `speed/<digest>.json` in the cache, if there is one.
    """

    def __init__(self, plan: Plan, device: torch.device, shapes: Mapping[str, Any]) -> None:
        sections = plan.sections
        told = {
            "machine": [platform.node(), platform.machine(), _device(device), torch.get_num_threads()],
            "versions": [__version__, torch.__version__],
            "plan": plan.digest,
            "options": [str(sections.speed), sections.precision],
            "shapes": shapes,
        }
        digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:32]
        folder = cache()
        self.file = folder / "speed" / f"{digest}.json" if folder else None

    def recall(self) -> dict[str, Choice]:
        """The choice for each network; empty where none is kept, or the file is not what was written."""
        try:
            told = json.loads(self.file.read_text()) if self.file else {}
            return {name: Choice(**one) for name, one in told.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def keep(self, choices: Mapping[str, Choice], tell: Callable[[str], None]) -> None:
        """Keep what was chosen; tell where that cannot be done."""
        if not self.file:
            tell("speed: what was chosen cannot be kept for the next run: there is no home; set XDG_CACHE_HOME")
            return
        beside = self.file.with_suffix(f".{os.getpid()}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps({name: asdict(choice) for name, choice in choices.items()}, indent=1))
            beside.replace(self.file)
        except OSError as error:
            tell(f"speed: what was chosen cannot be kept for the next run: {error}")


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {platform.processor()} {torch.backends.cpu.get_cpu_capability()}"
