"""Fetching and checking data sets: a published archive is put in place whole, anything else is refused."""
import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import pytest

from device_agents.seams import UserError
from harness.cli import build_app
from harness.cli._exit import guarded
from workloads.data_sets import check_data, fetch_data
from workloads.seams import Progress

TASK = '''"""A task whose archive lies in a file."""
from workloads.data_folder import content_digest, present, published_folder
from workloads.seams import Task

class Toy(Task):
    classes = 2
    shape = (1, 2, 2)
    archive = (%r, %r, "toy-set")

    def checksum(self):
        return content_digest(present("toy", published_folder("toy", "toy-set", "fetch it"), ["a.txt"]))
'''


def archive(path: Path, member: str = "toy-set/a.txt") -> str:
    """Writes a tar.gz with one file; its md5."""
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(member)
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: str, address: str = "") -> list[str]:
    (tmp_path / "plugins" / "tasks").mkdir(parents=True)
    text = TASK % (address or (tmp_path / "toy.tar.gz").as_uri(), digest)
    (tmp_path / "plugins" / "tasks" / "toy.py").write_text(text)
    monkeypatch.setenv("EDGEFLEET_DATA", str(tmp_path / "data"))
    return [str(tmp_path / "plugins")]


def test_fetched_whole_and_then_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = toy(tmp_path, monkeypatch, archive(tmp_path / "toy.tar.gz"))
    assert "there is no folder" in check_data(["toy"], plugins)[0].problem
    told: list[Progress] = []
    folder, fresh = fetch_data("toy", told.append, plugins)
    assert fresh
    assert (folder / "a.txt").read_text() == "hello"
    assert told[-1].done == told[-1].total > 0
    found = check_data(["toy"], plugins)[0]
    assert (len(found.checksum), found.problem, found.fetchable) == (64, "", True)
    (tmp_path / "toy.tar.gz").unlink()
    assert fetch_data("toy", told.append, plugins) == (folder, False)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["toy-set"]
    (folder / "a.txt").unlink()                 # of a folder that lacks files it does not say that all is well
    with pytest.raises(UserError, match=r"incomplete: a\.txt.*move .*toy-set away"):
        fetch_data("toy", told.append, plugins)


@pytest.mark.parametrize(("digest", "member", "says"), [
    ("0" * 32, "toy-set/a.txt", "not the published"),
    (None, "other/a.txt", "holds no folder toy-set"),
    (None, "../escaped.txt", "cannot fetch"),
])
def test_a_wrong_archive_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: str | None,
                                        member: str, says: str) -> None:
    real = archive(tmp_path / "toy.tar.gz", member)
    plugins = toy(tmp_path, monkeypatch, digest or real)
    with pytest.raises(UserError, match=says):
        fetch_data("toy", lambda _: None, plugins)
    assert not list((tmp_path / "data").iterdir())
    assert not (tmp_path / "escaped.txt").exists()


def test_no_network_and_no_archive_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = toy(tmp_path, monkeypatch, "0" * 32, address=(tmp_path / "absent.tar.gz").as_uri())
    with pytest.raises(UserError, match="download it elsewhere"):
        fetch_data("toy", lambda _: None, plugins)
    with pytest.raises(UserError, match="no official archive"):
        fetch_data("digits", lambda _: None)
    monkeypatch.delenv("EDGEFLEET_DATA")
    with pytest.raises(UserError, match="set EDGEFLEET_DATA"):
        fetch_data("toy", lambda _: None, plugins)


def test_verbs_know_a_users_own_task_and_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    plugins = toy(tmp_path, monkeypatch, archive(tmp_path / "toy.tar.gz"))[0]
    (tmp_path / "plugins" / "models").mkdir()
    shutil.copy(Path(__file__).parents[1] / "plugins" / "models" / "tiny.py", tmp_path / "plugins" / "models")
    assert guarded(build_app(), ["data", "check", "toy", "--plugins", plugins]) == 2
    assert guarded(build_app(), ["data", "fetch", "toy", "--plugins", plugins]) == 0
    assert guarded(build_app(), ["data", "check", "toy", "--plugins", plugins]) == 0
    capsys.readouterr()
    assert guarded(build_app(), ["data", "fetch", "toy", "--plugins", plugins]) == 0
    assert "is left as it is; delete it" in capsys.readouterr().err
    assert guarded(build_app(), ["describe", "tiny", "--input", "1x8x8", "--json", "--plugins", plugins]) == 0
    assert '"model": "tiny"' in capsys.readouterr().out
    assert guarded(build_app(), ["data", "check", "--plugins", str(tmp_path / "typo")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_check_lists_every_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEFLEET_DATA", raising=False)
    found = {one.task: one for one in check_data()}
    assert found["digits"].problem == ""
    assert "set EDGEFLEET_DATA" in found["har"].problem
    assert found["cifar10"].fetchable and not found["har"].fetchable
