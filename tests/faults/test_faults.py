"""Each broken options file beside this module is refused with exactly the messages in the `.txt` of its name.

Long lists of what is known, which grow with every part, are cut short there.
`GRADLOOM_REWRITE=1 pytest tests/faults` writes the messages anew; read what has changed before you commit it.
"""

import os
import re
from pathlib import Path

import pytest

import gradloom
from gradloom.parts import Evaluator, Injector, Loss, datasets, networks

FAULTS = Path(__file__).parent
LONG = re.compile(r"(is missing; )known: .+$|known: ([^,]+(?:, [^,]+){4,})$")
FILES = sorted(file.name for file in FAULTS.glob("*.yml"))


@pytest.fixture(autouse=True)
def only_what_gradloom_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to the files, and leave out the parts and networks that other tests have registered."""
    monkeypatch.chdir(FAULTS)
    for registry in (Injector.registry, Loss.registry, Evaluator.registry, networks, datasets):
        registry.discover()
        ours = {name: cls for name, cls in registry.classes.items() if cls.__module__.startswith("gradloom.")}
        monkeypatch.setattr(registry, "classes", ours)


def messages(name: str) -> list[str]:
    with pytest.raises(gradloom.OptionsError) as refused:
        gradloom.load(name)
    return [LONG.sub(r"\1known: ...", str(fault)) for fault in refused.value.faults]


@pytest.mark.parametrize("name", FILES)
def test_each_broken_file_is_refused_with_these_messages(name: str) -> None:
    expected = FAULTS / name.replace(".yml", ".txt")
    found = messages(name)
    if os.environ.get("GRADLOOM_REWRITE"):
        expected.write_text("\n".join(found) + "\n")
    assert found == expected.read_text().splitlines()


def test_every_message_belongs_to_a_file() -> None:
    assert {file.stem for file in FAULTS.glob("*.txt")} == {Path(name).stem for name in FILES}
    assert len(FILES) >= 40


@pytest.mark.parametrize("file", sorted(FAULTS.glob("*.txt")), ids=lambda file: file.stem)
def test_every_message_has_its_place_and_is_one_readable_line(file: Path) -> None:
    for line in file.read_text().splitlines():
        assert re.match(rf"[\w/]+\.yml:\d+:\d+: \S|{file.stem}\.yml: the file is empty", line), line
        assert len(line) < 400
        assert not re.search(r"Traceback|NoneType|<class|object at 0x|typing\.|collections\.abc|/work/|/tmp/", line), (
            line
        )


def test_what_the_broken_files_include_is_sound() -> None:
    assert gradloom.load("parts/sound.yml").notices == ()
    assert gradloom.load("parts/measured.yml").notices == ()
