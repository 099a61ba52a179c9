"""What adb says about phones that are not ready, as messages with a fix; and whom to believe about an exit code.

The lab's adbd lets everybody in and hangs on no USB, so a scripted stand-in plays the program `adb` here: its words are
those of adb 29.0.6 (sources: client/commandline.cpp, transport.cpp, adb.cpp).
"""
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.cable.adb_program import AdbProgram
from harness.errors import ConfigError, DeviceNotReady, DeviceRefused, DeviceUnreachable, EdgefleetError
from harness.fleet import DeviceSpec
from harness.transports.adb import AdbTransport

SCRIPT = """\
#!/bin/sh
# $PLAY says which state the phone is in. A phone that is ready runs the line with this machine's shell.
case "$1" in
version) echo "Android Debug Bridge version 1.0.41"; exit 0;;
start-server|disconnect) exit 0;;
connect) cat "$PLAY/connect" 2>/dev/null || echo "connected to $2"; exit 0;;
devices) cat "$PLAY/devices"; exit 0;;
esac
[ -e "$PLAY/error" ] && { cat "$PLAY/error" >&2; exit 1; }
if [ "$1 $3" = "-s push" ]; then
    shift 3
    for there; do :; done
    mkdir -p "$(dirname "$there")"
    exec cp "$@"
fi
[ "$1 $3 $4" = "-s shell -T" ] || { echo "unexpected: $*" >&2; exit 1; }
[ "$5" != "${5#( true;}" ] || [ ! -e "$PLAY/dies" ] || { echo half; exit 0; }
exec sh -c "$5"
"""
PUSH_THAT_IS_CUT = 'head -c 5000000 "$1" > "$2"; echo "adb: error: failed to copy: No space left on device"; exit 1'


@pytest.fixture
def play(tmp_path: Path, monkeypatch: Any) -> Path:
    """The stand-in's folder, in front of PATH, with a server port on which nobody listens."""
    script = tmp_path / "bin" / "adb"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PLAY", str(tmp_path))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(probe.getsockname()[1]))
    return tmp_path


def phone(serial: str = "1A2B3C", **fields: Any) -> AdbTransport:
    return AdbTransport(DeviceSpec(name="pixel", transport="adb", serial=serial, **fields), Path("/nowhere"))


def told(made: AdbTransport) -> EdgefleetError:
    with pytest.raises(EdgefleetError) as error:
        made.run(["echo", "hi"], 10.0)
    assert "pixel" in str(error.value)
    return error.value


@pytest.mark.parametrize("said, expected, fix", [
    ("error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\nTry 'adb kill-server' if that seems "
     "wrong.\nOtherwise check for a confirmation dialog on your device.", DeviceRefused, "Allow USB debugging"),
    ("error: device still authorizing", DeviceRefused, "Allow USB debugging"),
    ("error: device offline", DeviceUnreachable, "adb reconnect offline"),
    ("error: insufficient permissions for device: user in plugdev group; are your udev rules wrong?", DeviceRefused,
     "usermod -aG plugdev"),
    ("error: device '1A2B3C' not found", DeviceUnreachable, "USB debugging is on"),
    ("error: more than one device/emulator", DeviceRefused, "usb:"),
])
def test_each_state_has_its_fix(play: Path, said: str, expected: type, fix: str) -> None:
    (play / "error").write_text(said + "\n")
    error = told(phone())
    assert isinstance(error, expected) and fix in str(error)


@pytest.mark.parametrize("said, fix", [
    ("failed to authenticate to 10.0.0.9:5555", "Allow USB debugging"),
    ("failed to connect to '10.0.0.9:5555': Connection refused", "adb tcpip 5555"),
    ("failed to connect to '10.0.0.9:5555': No route to host", "Is it on"),
])
def test_a_network_phone_that_does_not_let_us_in_has_its_fix(play: Path, said: str, fix: str) -> None:
    (play / "connect").write_text(said + "\n")
    assert fix in str(told(phone("10.0.0.9:5555")))


def test_exit_code_0_without_the_sentinel_is_a_lost_phone(play: Path) -> None:
    """adb ends with 0 when the phone dies in mid-command."""
    made = phone()
    assert made.run(["echo", "hi"], 10.0).stdout == b"hi\n"
    (play / "dies").touch()
    with pytest.raises(DeviceUnreachable, match="lost"):
        made.run(["echo", "hi"], 10.0)


def test_a_command_that_prints_something_like_a_sentinel_fools_nobody(play: Path) -> None:
    done = phone().run(["printf", "\\036%s:0\\036", "0123456789abcdef"], 10.0)
    assert done.stdout == b"\x1e0123456789abcdef:0\x1e" and done.rc == 0


def test_exit_codes_and_output_pass_through_the_sentinel(play: Path) -> None:
    for code in (0, 1, 3, 255):
        done = phone().run(["sh", "-c", f"printf no-line-feed; exit {code}"], 10.0)
        assert (done.rc, done.stdout) == (code, b"no-line-feed")


def test_a_server_of_another_version_is_left_alone(play: Path, monkeypatch: Any) -> None:
    """Any adb client would kill it, and with it whoever uses it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.getsockname()[1]))

        def answer() -> None:
            link, _ = server.accept()
            assert link.recv(100) == b"000chost:version"
            link.sendall(b"OKAY00040027")
            link.close()

        thread = threading.Thread(target=answer)
        thread.start()
        error = told(phone())
        thread.join()
    assert isinstance(error, DeviceRefused) and "version 39" in str(error) and "ANDROID_ADB_SERVER_PORT" in str(error)


def test_devices_are_listed_with_state_and_port(play: Path) -> None:
    (play / "devices").write_text(
        "* daemon not running; starting now at tcp:5037\nList of devices attached\n"
        "1A2B3C                 device usb:1-4.2 product:oriole model:Pixel_6 device:oriole transport_id:3\n"
        "emulator-5554          offline transport_id:1\n"
        "????????????           no permissions (user in plugdev group; are your udev rules wrong?); see "
        "[http://developer.android.com/tools/device.html] usb:1-5 transport_id:4\n"
        "99XYZ                  unauthorized usb:1-6 transport_id:5\n")
    found = AdbProgram({}).devices()
    assert [(one.serial, one.state) for one in found] == [
        ("1A2B3C", "device"), ("emulator-5554", "offline"), ("????????????", "no permissions"),
        ("99XYZ", "unauthorized")]
    assert found[0].details["usb"] == "1-4.2" and found[0].details["model"] == "Pixel_6"
    assert found[2].details["usb"] == "1-5"


def test_settings_of_adb_and_of_the_phone_are_told_apart(play: Path) -> None:
    made = AdbProgram({"ANDROID_ADB_SERVER_PORT": "5999", "HOME": "/keys", "OMP_NUM_THREADS": "1"})
    assert made.for_device == {"OMP_NUM_THREADS": "1"}
    assert made._environment["HOME"] == "/keys" and "OMP_NUM_THREADS" not in set(made._environment) - set(os.environ)


def test_a_spec_without_a_serial_says_how_to_find_it(play: Path) -> None:
    with pytest.raises(ConfigError, match="adb devices -l"):
        AdbTransport(DeviceSpec(name="pixel", transport="adb"), Path("/nowhere"))


def test_without_the_program_the_message_names_the_package(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="apt-get install adb"):
        phone()


def test_files_travel_through_it(play: Path) -> None:
    for name, size_b in (("small", 1000), ("large", 9_000_000)):
        (play / name).write_bytes(os.urandom(size_b))
    made = phone()
    made.push([(play / name, f"{play}/there/{name}") for name in ("small", "large")], 30.0)
    assert sorted(path.name for path in (play / "there").iterdir()) == ["large", "small"]
    for name in ("small", "large"):
        made.pull(f"{play}/there/{name}", play / "back", 30.0)
        assert (play / "back").read_bytes() == (play / name).read_bytes()


def test_a_large_file_that_did_not_arrive_whole_never_has_its_name(play: Path) -> None:
    script = play / "bin" / "adb"
    script.write_text(SCRIPT.replace('exec cp "$@"', PUSH_THAT_IS_CUT))
    (play / "large").write_bytes(bytes(9_000_000))
    with pytest.raises(DeviceNotReady, match="No space left"):
        phone().push([(play / "large", f"{play}/there/large")], 30.0)
    assert list((play / "there").iterdir()) == []
