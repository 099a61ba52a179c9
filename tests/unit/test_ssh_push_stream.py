"""The stream of a push without a cable: the receiving program alone, on every Python that a device may have."""
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cable import push_stream, receive, shell
from harness.cable.push_stream import Stream
from harness.errors import ConfigError, DeviceNotReady, DeviceUnreachable, DeviceUnsupported


@pytest.fixture(params=["this Python", "Python 3.6"])
def python(request: Any, python36: Path | None) -> str:
    if request.param == "this Python":
        return sys.executable
    if python36 is None:
        pytest.skip("no Python 3.6 here")
    return str(python36)


@pytest.fixture
def files(tmp_path: Path) -> list[tuple[Path, str]]:
    made = []
    for number, size_b in enumerate((0, 1, 700_000, 5)):
        (tmp_path / str(number)).write_bytes(os.urandom(size_b))
        made.append((tmp_path / str(number), f"{tmp_path}/there/{number % 2}/{number}"))
    return made


def sent(line: str, stream: bytes) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["sh", "-c", line], input=stream, capture_output=True, timeout=60, check=False)


def arrived(files: list[tuple[Path, str]]) -> list[bool]:
    return [Path(target).exists() and Path(target).read_bytes() == source.read_bytes() for source, target in files]


def left_overs(folder: Path) -> list[str]:
    return [path.name for path in (folder / "there").rglob("*") if "part" in path.name]


def test_files_arrive_by_python(files: Any, python: str, tmp_path: Path) -> None:
    stream = Stream.with_python(python, files)
    assert sent(stream.command, b"".join(stream.python_blocks())).returncode == 0
    assert arrived(files) == [True] * 4 and not left_overs(tmp_path)


@pytest.mark.parametrize("shell_name", ["sh", "busybox"])
def test_files_arrive_by_tar(files: Any, tmp_path: Path, shell_name: str) -> None:
    if shutil.which(shell_name) is None:
        pytest.skip(f"no {shell_name} here")
    stream = Stream.with_tar(files)
    line = stream.command if shell_name == "sh" else shell.line(["busybox", "sh", "-c", stream.command], {})
    done = sent(line, b"".join(stream.tar_blocks()))
    assert (done.returncode, done.stderr) == (0, b"")
    assert arrived(files) == [True] * 4 and not left_overs(tmp_path)


def test_a_cut_stream_leaves_what_was_complete_and_nothing_torn(files: Any, python: str, tmp_path: Path) -> None:
    whole = b"".join(Stream.with_python(python, files).python_blocks())
    done = sent(Stream.with_python(python, files).command, whole[:400_000])
    assert done.returncode == receive.CUT
    assert arrived(files) == [True, True, False, False] and not left_overs(tmp_path)


def test_a_stream_without_its_end_is_no_success(files: Any, python: str) -> None:
    stream = Stream.with_python(python, files)
    assert sent(stream.command, b"".join(stream.python_blocks())[:-4]).returncode == receive.CUT


@pytest.mark.parametrize("kept", [300_000, -1024 - 512])
def test_a_cut_tar_changes_nothing(files: Any, tmp_path: Path, kept: int) -> None:
    """Also when it was cut between two members, where tar itself sees no fault."""
    stream = Stream.with_tar(files)
    done = sent(stream.command, b"".join(stream.tar_blocks())[:kept])
    assert done.returncode == receive.CUT
    assert arrived(files) == [False] * 4 and not left_overs(tmp_path)


@pytest.mark.parametrize("way", ["python", "tar", "cat"])
def test_a_full_disk_is_found_before_anything_is_written(files: Any, tmp_path: Path, way: str) -> None:
    """Twice the free space, by a sparse file."""
    disk = os.statvfs(tmp_path)
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(disk.f_bavail * disk.f_frsize * 2 if disk.f_bavail < 2**32 else 2**44)
    wanted = [*files, (sparse, f"{tmp_path}/there/sparse")]
    stream, blocks = {
        "python": lambda: (made := Stream.with_python(sys.executable, wanted), made.python_blocks()),
        "tar": lambda: (made := Stream.with_tar(wanted), made.tar_blocks()),
        "cat": lambda: (made := Stream.with_cat(wanted[-1:]), made.cat_blocks()),
    }[way]()
    done = sent(stream.command, next(iter(blocks)))
    assert done.returncode == receive.NO_ROOM and b"are needed and" in done.stderr
    assert arrived(files) == [False] * 4
    told = push_stream.failure("pi", done.returncode, done.stderr)
    assert isinstance(told, DeviceNotReady) and "edgefleet device gc" in str(told)


def test_every_exit_code_has_its_error() -> None:
    assert isinstance(push_stream.failure("d", receive.CANNOT_WRITE, b"x"), DeviceUnsupported)
    assert isinstance(push_stream.failure("d", receive.CUT, b"x"), DeviceUnreachable)
    assert "no message" in str(push_stream.failure("d", 1, b""))


def test_what_a_stream_cannot_carry_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    for bad in [(tmp_path / "f", "/a/two\nlines"), (tmp_path / "f", "no-folder"), (tmp_path / "absent", "/a/b")]:
        with pytest.raises(ConfigError):
            Stream.with_python("python3", [bad])


def test_a_file_that_shrinks_on_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(3 * push_stream.BLOCK_B))
    blocks = Stream.with_python("python3", [(tmp_path / "f", "/a/f")]).python_blocks()
    next(blocks)
    os.truncate(tmp_path / "f", 10)
    with pytest.raises(ConfigError, match="shrank"):
        list(blocks)


def test_a_word_that_begins_with_a_tilde_lies_in_the_home(tmp_path: Path) -> None:
    line = shell.line(["printf", "%s|", "~/a b", "~", "x~/y", "~z"], {"HOME": "/somewhere else"})
    out = subprocess.run(["sh", "-c", line], env={"HOME": "/h me"}, capture_output=True, check=True).stdout
    assert out == b"/h me/a b|/h me|x~/y|~z|"


def test_a_line_ends_in_its_own_status_also_when_killed() -> None:
    assert sent(shell.line(["sh", "-c", "kill -9 $$"], {}), b"").returncode == 137
    assert sent(shell.line(["false"], {}), b"").returncode == 1


def test_a_variable_that_no_shell_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match="a-b"):
        shell.line(["true"], {"a-b": "1"})


def test_one_file_arrives_by_cat(files: Any, tmp_path: Path) -> None:
    for one in files:
        stream = Stream.with_cat([one])
        done = sent(stream.command, b"".join(stream.cat_blocks()))
        assert (done.returncode, done.stderr) == (0, b"")
    assert arrived(files) == [True] * 4 and not left_overs(tmp_path)


def test_one_file_that_is_cut_leaves_nothing(files: Any, tmp_path: Path) -> None:
    stream = Stream.with_cat([files[2]])
    assert sent(stream.command, b"".join(stream.cat_blocks())[:-1]).returncode == receive.CUT
    assert not arrived(files)[2] and not left_overs(tmp_path)


def test_one_file_to_an_impossible_place_says_why(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    done = sent(Stream.with_cat([(tmp_path / "f", f"{tmp_path}/f/below")]).command, b"x")
    assert done.returncode == receive.CANNOT_WRITE and str(tmp_path).encode() in done.stderr
