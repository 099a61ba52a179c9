"""Every kind of exception becomes one message and the right exit code, and never a traceback on the terminal."""
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from db.errors import StoreError
from device_agents import registry
from device_agents.registry import BadPlugin, UnknownPlugin
from device_agents.seams import Unsupported, UserError
from harness.cli import build_app
from harness.cli._exit import DEBUG, explain, guarded
from harness.errors import AgentFailed, ConfigError, DeviceUnreachable


def app_that_raises(error: BaseException) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def verb() -> None:
        raise error
    return app


@pytest.mark.parametrize(("error", "code", "said"), [
    (ConfigError("c.toml: no"), 2, "c.toml: no"),
    (StoreError("the schema is too new"), 2, "the schema is too new"),
    (UserError("no data"), 2, "no data"),
    (BadPlugin("two classes"), 2, "two classes"),
    (UnknownPlugin("fixd", "adapters", ["fixed"]), 2, "Did you mean 'fixed'?"),
    (DeviceUnreachable("pi4: no answer"), 3, "pi4: no answer"),
    (Unsupported("no numpy"), 3, "no numpy"),
    (AgentFailed("it failed"), 1, "it failed"),
    (OSError(errno.ENOSPC, "No space left on device", "/data/x.part"), 2, "(/data/x.part): free some space"),
    (PermissionError(errno.EACCES, "Permission denied", "/data"), 2, "(/data): check the permissions"),
    (SyntaxError("invalid syntax", ("mine.py", 3, 1, "x=")), 2, "mine.py, line 3: invalid syntax"),
    (KeyboardInterrupt(), 130, "the same command goes on from there"),
], ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "")
def test_one_message_and_the_exit_code(
        error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(app_that_raises(error), []) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("edgefleet: ")
    assert said in err
    assert "Traceback" not in err


def test_a_bug_is_one_line_and_its_traceback_is_kept_in_the_home(
        edgefleet_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(app_that_raises(ZeroDivisionError("division by zero")), []) == 1
    err = capsys.readouterr().err
    assert "unexpected ZeroDivisionError: division by zero" in err
    assert "Traceback" not in err
    kept, = edgefleet_home.glob("crash-*.log")
    assert str(kept) in err
    assert "Traceback" in kept.read_text()


def test_what_a_users_file_raises_is_told_with_its_place_and_is_no_bug_of_ours(
        tmp_path: Path, edgefleet_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine.py").write_text("import json\n\njson.loads('{')\n")
    with pytest.raises(ValueError) as caught:
        registry.load_module("workloads.models", "mine", [str(tmp_path)])
    assert guarded(app_that_raises(caught.value), []) == 2
    err = capsys.readouterr().err
    assert f"{tmp_path / 'models/mine.py'}, line 3: JSONDecodeError: Expecting" in err
    assert "Traceback" not in err and not list(edgefleet_home.iterdir())


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_a_stream_that_is_closed_is_no_error(closed: str) -> None:
    command = f"{sys.executable} -m harness.cli describe resnet_digits --json"
    number = ("stdin", "stdout", "stderr").index(closed)
    done = subprocess.run(["sh", "-c", f"{command} {number}{'<' if number == 0 else '>'}&-"], capture_output=True,
                          check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert ('"params"' in done.stdout) == (closed != "stdout")


def test_an_unknown_scheduler_is_told_before_anything_is_done(
        edgefleet_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(build_app(), ["run", "c.toml", "--scheduler", "slurm"]) == 2
    assert "unknown scheduler 'slurm' in --scheduler. There is: inline, ray." in capsys.readouterr().err
    assert not list(edgefleet_home.iterdir())


def test_debug_shows_the_traceback_instead(
        edgefleet_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEBUG, "1")
    assert guarded(app_that_raises(ZeroDivisionError("x")), []) == 1
    assert "Traceback" in capsys.readouterr().err
    assert not list(edgefleet_home.iterdir())


def test_terminal_escapes_in_a_message_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(app_that_raises(ConfigError("name \x1b]0;owned\x07 in file")), [])
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(("words", "said"), [
    (["plna"], "Did you mean 'plan'?"), (["plan"], "campaign"), (["plan", "x.toml", "--flet", "y"], "--fleet")])
def test_a_wrong_command_line_is_told_with_its_usage(
        words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(build_app(), words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Usage: edgefleet" in err


def test_the_exit_code_of_a_verb_is_kept() -> None:
    assert guarded(app_that_raises(typer.Exit(3)), []) == 3


def test_an_unexpected_error_is_explained_even_where_nothing_can_be_written(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    monkeypatch.setenv("EDGEFLEET_HOME", str(tmp_path / "gone"))
    message, code = explain(RuntimeError("odd"))
    assert (code, "could not be written" in message) == (1, True)


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "harness.cli", "--help"], stdout=write, stderr=subprocess.PIPE,
                          check=False)
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == b""
