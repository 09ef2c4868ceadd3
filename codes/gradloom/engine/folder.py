"""What a run leaves, and where."""

import json
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from gradloom.config.names import file_name
from gradloom.engine.claim import see_that_nobody_is_in
from gradloom.engine.saving import disk
from gradloom.errors import RunError
from gradloom.plan.drawing import listing
from gradloom.plan.plan import Plan


def experiments_root(plan: Plan) -> Path:
    """The folder of all runs: as the options say, or `experiments/` of the checkout, or of the working directory."""
    if plan.sections.path.experiments_root:
        return plan.sections.path.experiments_root
    checkout = Path(__file__).resolve().parents[3]
    return (checkout if (checkout / "codes" / "gradloom").is_dir() else Path.cwd()) / "experiments"


class RunFolder:
    """The folder of one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.path = experiments_root(plan) / plan.name

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def images(self, key: str) -> Path:
        """The folder of the images of a key, or of those that an evaluator calls `<evaluator>/<key>`."""
        return Path(self.path, "images", *map(file_name, key.split("/")))

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    def prepare(self, resuming: bool, foreseen: Sequence[str] = ()) -> Path | None:
        """Make the folder and describe the run in it; move a former run of the name aside, and return where it is now.

        What preflight foresaw goes into `preflight.txt`.

        Raises:
            RunError: when the folder cannot be written, or another process writes into it.
        """
        archived = None
        try:
            see_that_nobody_is_in(self.path)
            if self.path.exists() and not resuming:
                archived = self._archive()
            self.path.mkdir(parents=True, exist_ok=True)
            for name, text in self._description(foreseen).items():
                disk.replace(self.path / name, text)
        except OSError as error:
            raise RunError(f"the run's folder {self.path} cannot be written: {error}") from error
        return archived

    def _archive(self) -> Path:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        target = self.path.with_name(f"{self.path.name}_archived_{stamp}")
        number = 1
        while target.exists():
            number += 1
            target = self.path.with_name(f"{self.path.name}_archived_{stamp}_{number}")
        self.path.rename(target)
        return target

    def _description(self, foreseen: Sequence[str]) -> dict[str, str]:
        """The files that say what the run is."""
        document = self.plan.document
        environment = {"command": document.told_command(sys.argv), **_environment()}
        texts = {
            "options.yml": document.told_text(),
            "plan.txt": listing(self.plan) + "\n",
            "environment.json": json.dumps(environment, indent=1) + "\n",
        }
        if document.root:
            resolved = yaml.safe_dump(document.told_tree(), sort_keys=False, allow_unicode=True)
            texts["options.resolved.yml"] = resolved
        if foreseen:
            texts["preflight.txt"] = "".join(f"{document.told(line)}\n" for line in foreseen)
        return texts


def _environment() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "threads": torch.get_num_threads(),
    }
