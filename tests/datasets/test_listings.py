"""Listings of folders that are remembered."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from gradloom.datasets import _listings
from gradloom.datasets._image_files import list_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three empty files that were there long ago, and a cache of our own."""
    monkeypatch.setattr(_listings, "WORTHWHILE", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("a.png", "deep/b.png", "deep/deeper/c.png"):
        (tmp_path / "data" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "data" / name).touch()
    age(tmp_path / "data")
    return tmp_path / "data"


def age(folder: Path) -> None:
    """Let a folder and all in it be as if unchanged for an hour."""
    for where, _, _ in os.walk(folder):
        os.utime(where, (time.time() - 3600,) * 2)


def cached(folder: Path) -> list[Path]:
    return sorted((folder.parent / "cache" / "gradloom" / "listings").glob("*"))


def names(folder: Path) -> list[str]:
    return [file.name for file in list_images(folder)]


def no_walk(*_, **__):
    raise AssertionError("the folder was walked through")


def test_a_listing_is_remembered_outside_the_folder(folder, monkeypatch):
    assert names(folder) == ["a.png", "b.png", "c.png"]
    assert len(cached(folder)) == 1 and not list(folder.rglob("*.json"))
    monkeypatch.setattr(os, "walk", no_walk)
    assert list_images(folder) == [folder / "a.png", folder / "deep/b.png", folder / "deep/deeper/c.png"]


def test_without_a_cache_a_folder_is_listed_each_time(folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(Path, "expanduser", lambda path: path)  # as where nobody's home is known
    assert names(folder) == ["a.png", "b.png", "c.png"]
    assert names(folder) == ["a.png", "b.png", "c.png"]


def added(folder):
    (folder / "deep" / "deeper" / "d.png").touch()
    return ["a.png", "b.png", "c.png", "d.png"]


def removed(folder):
    (folder / "deep" / "b.png").unlink()
    return ["a.png", "c.png"]


def renamed(folder):
    (folder / "a.png").rename(folder / "z.png")
    return ["b.png", "c.png", "z.png"]


def folder_added(folder):
    (folder / "deep" / "new").mkdir()
    (folder / "deep" / "new" / "n.png").touch()
    return ["a.png", "b.png", "c.png", "n.png"]


def folder_removed(folder):
    (folder / "deep" / "deeper" / "c.png").unlink()
    (folder / "deep" / "deeper").rmdir()
    return ["a.png", "b.png"]


@pytest.mark.parametrize("change", [added, removed, renamed, folder_added, folder_removed])
def test_changes_are_noticed_at_once(folder, change):
    names(folder)
    expected = change(folder)
    assert sorted(names(folder)) == sorted(expected)
    age(folder)
    assert sorted(names(folder)) == sorted(expected)


def test_what_changed_just_now_is_not_remembered(folder):
    (folder / "now.png").touch()
    names(folder)
    assert cached(folder) == []


def test_small_folders_are_not_remembered(folder, monkeypatch):
    monkeypatch.setattr(_listings, "WORTHWHILE", 4)
    names(folder)
    assert cached(folder) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 3}', '{"a": ["x", []]}', '{".": [0, ["x.png"]]}'])
def test_a_spoilt_listing_is_made_anew(folder, content):
    names(folder)
    cached(folder)[0].write_text(content)
    assert names(folder) == ["a.png", "b.png", "c.png"]
    assert "deep" in json.loads(cached(folder)[0].read_text())


def test_a_cache_that_cannot_be_written_is_done_without(folder):
    (folder.parent / "cache").write_text("a file, not a folder")
    assert names(folder) == ["a.png", "b.png", "c.png"]


def test_a_folder_seen_from_elsewhere_has_the_same_listing(folder, monkeypatch):
    names(folder)
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(os, "walk", no_walk)
    assert list_images(Path("data")) == [Path("data/a.png"), Path("data/deep/b.png"), Path("data/deep/deeper/c.png")]


def test_many_may_write_at_once(folder):
    found: list[list[str]] = []

    def work() -> None:
        for _ in range(20):
            for place in cached(folder):
                place.unlink(missing_ok=True)
            found.append(names(folder))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["a.png", "b.png", "c.png"]] * 80
    assert all(place.suffix == ".json" for place in cached(folder))
