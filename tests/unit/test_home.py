"""Where state lives: the variable, then the nearest .edgefleet/ upwards; made private and whole."""
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.home import FOLDERS, Home, find_home, make_home


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEFLEET_HOME")


def test_the_nearest_home_upwards_is_found(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_home(deep) is None
    (tmp_path / ".edgefleet").mkdir()
    assert find_home(deep) == tmp_path / ".edgefleet"
    (tmp_path / "a" / ".edgefleet").mkdir()
    assert find_home(deep) == tmp_path / "a" / ".edgefleet"


def test_the_variable_wins_even_before_the_folder_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".edgefleet").mkdir()
    monkeypatch.setenv("EDGEFLEET_HOME", str(tmp_path / "elsewhere"))
    assert find_home(tmp_path) == tmp_path / "elsewhere"
    assert not (tmp_path / "elsewhere").exists()


def test_a_made_home_is_private_and_whole_and_is_found_again(tmp_path: Path) -> None:
    home = Home(make_home(tmp_path))
    assert home.path == tmp_path / ".edgefleet" == find_home(tmp_path)
    assert home.path.stat().st_mode & 0o777 == 0o700
    assert sorted(entry.name for entry in home.path.iterdir()) == sorted(FOLDERS)
    assert make_home(tmp_path) == home.path


def test_a_home_that_cannot_be_made_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEFLEET_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ConfigError, match="Set EDGEFLEET_HOME to a folder that you may write"):
        make_home(tmp_path)
