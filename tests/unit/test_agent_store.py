"""The device's store while others write into it."""
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from device_agents import store


def test_gc_goes_on_when_a_push_ends_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both folders are listed; whichever gc meets first, the other has its name no more when gc comes to it."""
    (tmp_path / ("a" * 64)).write_text("kept")
    folders = [tmp_path / "push.one.part", tmp_path / "push.two.part"]
    for folder in folders:
        folder.mkdir()
        os.utime(folder, (1, 1))
    remove = shutil.rmtree

    def both_end(_path: str, **how: Any) -> None:
        for folder in folders:
            remove(folder, **how)

    monkeypatch.setattr(shutil, "rmtree", both_end)
    assert store.collect_gc(str(tmp_path), None, None) == {"removed": [], "kept_mb": 0.0}
    assert [path.name for path in tmp_path.iterdir()] == ["a" * 64]
