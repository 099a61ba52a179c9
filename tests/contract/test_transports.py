"""What every file in transports/ that moves bytes promises (harness/seams.py). `simulated` has no cable to test.

ssh talks to a real sshd on loopback; adb to a real adbd where this machine may have a namespace and adbd is built.
"""
import hashlib
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from device_agents import registry
from harness.errors import DeviceError, DeviceUnreachable
from harness.fleet import DeviceSpec
from harness.transports.adb import AdbTransport
from harness.transports.local import LocalTransport
from harness.transports.ssh import SshTransport
from tests import lab_kit

WITH_A_CABLE = {"local": LocalTransport, "ssh": SshTransport, "adb": AdbTransport}


def test_no_transport_is_left_out() -> None:
    assert set(registry.names("harness.transports")) - {"simulated"} == set(WITH_A_CABLE)


@pytest.fixture(scope="module")
def specs(tmp_path_factory: Any) -> Any:
    """Makes the spec of a device behind each transport, once."""
    made: dict[str, DeviceSpec] = {"local": DeviceSpec(name="here", transport="local")}
    labs = []

    def get(name: str) -> DeviceSpec:
        if name not in made:
            reason = {"ssh": lab_kit.no_sshd, "adb": lab_kit.no_phone}[name]()
            if reason:
                pytest.skip(reason)
            folder = tmp_path_factory.mktemp(name)
            lab = lab_kit.running(folder / "lab", int(name == "ssh"), int(name == "adb"), loopback=name == "ssh")
            labs.append(lab)
            made[name] = next(iter(lab.__enter__()[1].values()))
        return made[name]

    yield get
    for lab in labs:
        lab.__exit__(None, None, None)


@pytest.fixture(params=sorted(WITH_A_CABLE))
def transport(request: Any, specs: Any, tmp_path: Path) -> Any:
    made = WITH_A_CABLE[request.param](specs(request.param), tmp_path)
    yield made
    made.close()


@pytest.fixture
def there(transport: Any) -> Any:
    """An empty folder on the device."""
    made = transport.run(["mktemp", "-d", "/var/tmp/edgefleet-contract.XXXXXX"], 20.0).stdout.decode().strip()
    yield made
    transport.run(["rm", "-rf", made], 20.0)


def python(transport: Any, code: str, stdin: bytes = b"", deadline_s: float = 30.0) -> Any:
    return transport.run([sys.executable, "-I", "-S", "-c", code], deadline_s, stdin)


def test_output_errors_and_exit_code_arrive_apart(transport: Any) -> None:
    done = transport.run(["sh", "-c", "echo out; echo err >&2; exit 7"], 20.0)
    assert (done.rc, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_words_arrive_as_they_are(transport: Any) -> None:
    words = ["a b", "", "it's", '"', "$HOME", "`id`", "two\nlines", "*", "\\", "ä€", "-n", ";exit 3"]
    code = "import sys; sys.stdout.buffer.write(ascii(sys.argv[1:]).encode())"
    assert transport.run([sys.executable, "-I", "-S", "-c", code, *words], 20.0).stdout.decode() == ascii(words)


def test_stdin_arrives_whole_and_ends(transport: Any) -> None:
    sent = bytes(range(256)) * 8192
    code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
    assert python(transport, code, sent).stdout == sent[::-1]


def test_without_stdin_a_reader_finds_its_end(transport: Any) -> None:
    assert transport.run(["cat"], 20.0).stdout == b""


def test_large_binary_output_arrives_whole(transport: Any) -> None:
    done = python(transport, "import sys; sys.stdout.buffer.write(bytes(range(256)) * 12000)")
    assert done.stdout == bytes(range(256)) * 12000 and done.rc == 0


def test_a_flood_of_errors_holds_nothing_up(transport: Any) -> None:
    """Whoever reads one stream to its end first waits for ever here."""
    done = python(transport, "import sys\nfor n in range(200): sys.stderr.write('x' * 50000)\nprint('end')")
    assert done.stdout == b"end\n" and done.rc == 0 and done.stderr.endswith(b"x" * 1000)


def test_a_killed_command_is_no_success_and_no_lost_device(transport: Any) -> None:
    assert transport.run(["sh", "-c", "kill -9 $$"], 20.0).rc not in (0, -1)


def test_a_missing_program_is_no_success(transport: Any) -> None:
    try:
        assert transport.run(["no-such-program-anywhere"], 20.0).rc != 0
    except DeviceError as error:
        assert "no-such-program" in str(error)


def test_the_deadline_is_ours_and_the_device_stays_usable(transport: Any) -> None:
    with pytest.raises(DeviceUnreachable):
        transport.run(["sleep", "30"], 0.5)
    assert transport.run(["echo", "alive"], 20.0).stdout == b"alive\n"


def test_environment_of_the_spec_reaches_commands(specs: Any, tmp_path: Path, request: Any) -> None:
    for name in sorted(WITH_A_CABLE):
        if name == "adb" and lab_kit.no_phone():
            continue
        spec = specs(name).model_copy(update={"env": {**specs(name).env, "MY_KNOB": "a b'c"}})
        made = WITH_A_CABLE[name](spec, tmp_path)
        assert made.run(["printenv", "MY_KNOB"], 20.0).stdout == b"a b'c\n"
        made.close()


def test_pushed_files_are_whole_private_and_nothing_else_is_left(transport: Any, there: str, tmp_path: Path) -> None:
    wanted = {"empty": b"", "one": b"1", "large": bytes(range(256)) * 4000, "with a space": b"x", ".hidden": b"h"}
    files = []
    for name, content in wanted.items():
        (tmp_path / name).write_bytes(content)
        files += [(tmp_path / name, f"{there}/deep/er/{name}"), (tmp_path / name, f"{there}/other/{name}")]
    transport.push(files, 60.0)
    for folder in (f"{there}/deep/er", f"{there}/other"):
        listed = transport.run(["ls", "-A", folder], 20.0).stdout.decode().splitlines()
        assert sorted(listed) == sorted(wanted)
        for name, content in wanted.items():
            assert transport.run(["cat", f"{folder}/{name}"], 20.0).stdout == content
            mode = int(transport.run(["stat", "-c", "%a", f"{folder}/{name}"], 20.0).stdout, 8)
            assert stat.S_IMODE(mode) & 0o077 == 0


def test_many_bytes_arrive_like_few(transport: Any, there: str, tmp_path: Path) -> None:
    """Some transports carry them another way. Names are as odd as any, and the last file is large alone."""
    files, wanted = [], {}
    for number, name in enumerate(["-f", "with a space", ".hidden", "it's", "*", "alone/large"]):
        path = tmp_path / str(number)
        path.write_bytes(bytes([number]) * (5 << 20 if "/" in name else 1 << 20))
        path.chmod(0o644)
        files.append((path, f"{there}/new/{name}"))
        wanted[f"{there}/new/{name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    transport.push(files, 60.0)
    lines = transport.run(["sha256sum", "--", *wanted], 20.0).stdout.decode().splitlines()
    assert {line[66:]: line[:64] for line in lines} == wanted
    modes = transport.run(["stat", "-c", "%a", *wanted], 20.0).stdout.decode().split()
    assert modes == ["600"] * len(wanted)
    listed = transport.run(["find", f"{there}/new", "-type", "f"], 20.0).stdout.decode().splitlines()
    assert sorted(listed) == sorted(wanted)
    assert b".part" not in transport.run(["find", there], 20.0).stdout


def test_a_push_replaces_what_was_there(transport: Any, there: str, tmp_path: Path) -> None:
    for content in (b"a much longer text", b"new"):
        (tmp_path / "f").write_bytes(content)
        transport.push([(tmp_path / "f", f"{there}/f")], 60.0)
    assert transport.run(["cat", f"{there}/f"], 20.0).stdout == b"new"


def test_a_push_to_an_impossible_place_says_so(transport: Any, there: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    transport.push([(tmp_path / "f", f"{there}/file")], 60.0)
    with pytest.raises(DeviceError, match="file"):
        transport.push([(tmp_path / "f", f"{there}/file/below")], 60.0)


def test_pushing_nothing_is_nothing(transport: Any) -> None:
    transport.push([], 20.0)


def test_a_device_without_the_python_is_pushed_to_all_the_same(request: Any, specs: Any, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"runtime" * 1000)
    for name in sorted(WITH_A_CABLE):
        if name == "adb" and lab_kit.no_phone():
            continue
        made = WITH_A_CABLE[name](specs(name).model_copy(update={"python": "/no/such/python3"}), tmp_path)
        made.push([(tmp_path / "f", f"/var/tmp/edgefleet-contract-{name}/f")], 60.0)
        assert made.run(["cat", f"/var/tmp/edgefleet-contract-{name}/f"], 20.0).stdout == b"runtime" * 1000
        made.run(["rm", "-rf", f"/var/tmp/edgefleet-contract-{name}"], 20.0)
        made.close()


def test_a_pulled_file_is_whole(transport: Any, there: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "sent").write_bytes(content)
    transport.push([(tmp_path / "sent", f"{there}/f")], 60.0)
    transport.pull(f"{there}/f", tmp_path / "new" / "back", 60.0)
    assert (tmp_path / "new" / "back").read_bytes() == content


def test_a_pull_that_fails_leaves_nothing_here(transport: Any, there: str, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="nothing-here"):
        transport.pull(f"{there}/nothing-here", tmp_path / "back", 60.0)
    assert list(tmp_path.iterdir()) == []


def test_closing_is_safe_at_any_time(transport: Any) -> None:
    transport.close()
    assert transport.run(["echo", "again"], 20.0).stdout == b"again\n"
    transport.close()
    transport.close()
