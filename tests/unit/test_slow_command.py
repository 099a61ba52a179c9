"""SlowCommand: never waits, never hangs, never leaves a process behind."""
import gc
import os
import stat
import time
from pathlib import Path

import pytest

from device_agents.sensors.android_services import AndroidServices
from device_agents.sensors.pi_throttle import PiThrottle
from device_agents.slow_command import Questions, SlowCommand


def program(folder: Path, body: str) -> str:
    path = folder / "tool"
    path.write_text("#!/bin/sh\n" + body)
    os.chmod(str(path), stat.S_IRWXU)
    return str(path)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_answers_come_later_and_one_at_a_time(tmp_path: Path) -> None:
    go = tmp_path / "go"
    body = f"while ! test -e {go}; do sleep 0.01; done\necho \"$1-$2\"\necho line two\n"
    command = SlowCommand(program(tmp_path, body))
    assert command.answer() is None
    assert command.ask("one two")
    assert command.busy
    assert command.answer() is None             # returns at once: the tool waits for a file that is not there yet
    assert not command.ask("three")
    go.write_text("")
    assert command.answer(wait_s=10.0) == "one-two\nline two\n"
    assert not command.busy
    assert command.ask("three four")
    assert command.answer(wait_s=10.0) == "three-four\nline two\n"
    assert command.cost_ms() >= 0.0


def test_a_failing_command_is_no_answer_but_may_be_asked_again(tmp_path: Path) -> None:
    command = SlowCommand(program(tmp_path, "echo \"$1\"; exit \"$1\"\n"))
    command.ask("3")
    assert command.answer(wait_s=10.0) is None
    assert not command.reason
    command.ask("0")
    assert command.answer(wait_s=10.0) == "0\n"


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    command = SlowCommand(program(tmp_path, f"echo $$ > {tmp_path}/pid\nsleep 1000\n"), deadline_s=0.2)
    command.ask("x")
    assert command.answer(wait_s=20.0) is None
    assert "did not answer" in command.reason
    assert not command.ask("x")
    for _ in range(1000):
        if not alive(int((tmp_path / "pid").read_text())):
            break
        time.sleep(0.01)
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_flood_is_cut_off(tmp_path: Path) -> None:
    command = SlowCommand(program(tmp_path, "yes flood\n"))
    command.ask("x")
    assert command.answer(wait_s=20.0) is None
    assert "too much" in command.reason


def test_a_missing_program_says_so(tmp_path: Path) -> None:
    command = SlowCommand(str(tmp_path / "none"))
    assert "not there" in command.reason
    assert not command.ask("x")
    assert command.answer() is None
    assert command.cost_ms() is None


def test_close_leaves_no_process(tmp_path: Path) -> None:
    command = SlowCommand(program(tmp_path, "echo $PPID\n"))
    command.ask("x")
    shell = int(command.answer(wait_s=10.0))
    assert alive(shell)
    command.close()
    assert not alive(shell)


def answered(questions: Questions, turns: int) -> dict:
    """The values after so many turns, each with its answer in."""
    for _ in range(turns):
        questions.turn(three, wait_s=10.0)
    return questions.values()


def three(question: str, answer: str) -> "dict | None":
    return {question: 3.0} if answer == question + "=3\n" else None


def test_what_is_not_answered_in_two_turns_is_forgotten_and_comes_back(tmp_path: Path) -> None:
    body = f"test -e {tmp_path}/$1.fails && exit 1\ntest -e {tmp_path}/$1.odd && echo what\necho \"$1=3\"\n"
    questions = Questions(SlowCommand(program(tmp_path, body)), ["a", "b"])
    questions.round(three, wait_s=10.0)
    assert questions.values() == {"a": 3.0, "b": 3.0}
    (tmp_path / "a.fails").write_text("")
    assert answered(questions, 2) == {"a": 3.0, "b": 3.0}
    assert questions.reason == ""
    assert answered(questions, 2) == {"b": 3.0}
    assert questions.reason == f"{tmp_path}/tool gives no answer to: a"
    (tmp_path / "a.fails").rename(tmp_path / "b.odd")
    assert answered(questions, 4) == {"a": 3.0}
    assert questions.reason.endswith("no answer to: b")
    (tmp_path / "b.odd").unlink()
    assert answered(questions, 2) == {"a": 3.0, "b": 3.0}
    assert questions.reason == ""


def test_a_command_that_is_given_up_leaves_no_values(tmp_path: Path) -> None:
    body = f"test -e {tmp_path}/hang && sleep 1000\necho \"$1\"\n"
    questions = Questions(SlowCommand(program(tmp_path, body), deadline_s=0.2), ["a"])

    def one(_: str, answer: str) -> dict:
        return {answer: 1.0}

    questions.round(one, wait_s=10.0)
    assert questions.values() == {"a\n": 1.0}
    (tmp_path / "hang").write_text("")
    questions.turn(one)
    assert questions.values() == {"a\n": 1.0}   # still out
    time.sleep(0.3)
    questions.turn(one)
    assert questions.values() == {} and "did not answer" in questions.reason


@pytest.mark.parametrize(("sensor", "tool"), [
    (PiThrottle, "usr/bin/vcgencmd"), (AndroidServices, "system/bin/dumpsys")])
def test_a_sensors_shell_ends_with_the_sensor_not_when_garbage_is_collected(
        tmp_path: Path, sensor: type, tool: str) -> None:
    """The warm parent reads every sensor once and drops it: a shell that lives on would be every trial's, too."""
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("Raspberry Pi 5 Model B")
    (tmp_path / tool).parent.mkdir(parents=True)
    os.rename(program(tmp_path, f"echo $PPID > {tmp_path}/shell\n"), str(tmp_path / tool))
    gc.disable()
    try:
        reader = sensor()
        reader.read(str(tmp_path))
        shell = int((tmp_path / "shell").read_text())
        assert alive(shell)
        del reader
        assert not alive(shell)
    finally:
        gc.enable()
