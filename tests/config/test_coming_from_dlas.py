"""The page for those who come from the ancestor names every spelling that is mended, and only options that there are."""

import re
from pathlib import Path

import pytest

from gradloom.config.legacy import RULES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "coming-from-dlas.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted({rule.pattern.rpartition(".")[2] for rule in RULES if rule.refuses}))
def test_what_is_refused_stands_on_the_page(name: str) -> None:
    assert re.search(rf"`[^`]*\b{name}\b|{name.partition('_')[0]}_\*", PAGE), name


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([\w./-]+)\)", PAGE):
        assert (Path(__file__).resolve().parents[2] / "docs" / target).exists(), target
