"""Where a machine keeps what it can make again."""

from pathlib import Path

import pytest

from gradloom.config.cache import cache


def no_home(self: Path) -> Path:
    """What a path says whose user the system does not know, as in a container that runs as any number."""
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize(
    ("told", "home", "folder"),
    [
        ("/caches", "/home/me", "/caches/gradloom"),
        ("", "/home/me", "/home/me/.cache/gradloom"),
        ("somewhere", "/home/me", "/home/me/.cache/gradloom"),
        ("/caches", "", "/caches/gradloom"),
    ],
)
def test_the_cache_is_where_the_system_has_caches(monkeypatch, told, home, folder):
    monkeypatch.setenv("XDG_CACHE_HOME", told)
    monkeypatch.setenv("HOME", home)
    assert cache() == (folder and Path(folder))


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", no_home)
    assert cache() is None
