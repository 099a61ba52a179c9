"""What ssh's configuration means to us, and what a person is told when a host key or a login is not in order.

Against a real sshd on loopback. Nobody's own keys, agent or known_hosts take part.
"""
import os
import signal
import threading
from pathlib import Path
from typing import Any

import paramiko
import psutil
import pytest

from harness.cable import ssh_config, ssh_login
from harness.errors import ConfigError, DeviceRefused, DeviceUnreachable
from harness.fleet import DeviceSpec
from harness.lab import sshd
from harness.transports.ssh import SshTransport
from tests import lab_kit

pytestmark = pytest.mark.skipif(bool(lab_kit.no_sshd()), reason=lab_kit.no_sshd() or "-")


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: Any) -> Any:
    with lab_kit.running(tmp_path_factory.mktemp("ssh") / "lab", 2, 0, loopback=True) as (lab, devices):
        yield lab, devices


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: Any) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def config(folder: Path, text: str) -> str:
    (folder / "ssh_config").write_text(text)
    return str(folder / "ssh_config")


def spec_of(loopback: Any, ssh_config: str, **changes: Any) -> DeviceSpec:
    return loopback[1]["loop-a"].model_copy(update={"ssh_config": ssh_config, **changes})


def lab_config(loopback: Any, known_hosts: Path, more: str = "") -> str:
    return sshd.client_config(loopback[0].folder / sshd.KEY, known_hosts) + more


def login(folder: Path, text: str, **fields: Any) -> ssh_config.Login:
    return ssh_config.login_of(DeviceSpec(name="d", transport="ssh", ssh_config=config(folder, text), **fields))


def test_the_users_configuration_is_what_ssh_makes_of_it(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Host pi\n Port 2222\n User ann\n ProxyJump bob@gate:2200\n IdentitiesOnly yes\n")
    text = f"Include {tmp_path}/more\nHost pi\n  HostName 10.0.0.7\n  User nobody\nHost *\n  User x\n"
    found = login(tmp_path, text, host="pi")
    assert (found.host, found.port, found.user, found.jumps) == ("10.0.0.7", 2222, "ann", ("bob@gate:2200",))
    assert found.known_as == "[10.0.0.7]:2222" and found.identities_only


def test_fleet_toml_comes_before_the_configuration(tmp_path: Path) -> None:
    found = login(tmp_path, "Host pi\n  Port 2222\n  User ann\n", host="pi", port=22, user="eve")
    assert (found.port, found.user, found.known_as) == (22, "eve", "pi")


def test_an_alias_names_the_key(tmp_path: Path) -> None:
    assert login(tmp_path, "Host pi\n  HostKeyAlias shelf-3\n  Port 99\n", host="pi").known_as == "shelf-3"


def test_a_broken_configuration_is_told_in_ssh_s_own_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?i)prt"):
        login(tmp_path, "Host pi\n  Prt 22\n", host="pi")


def test_jumps_in_a_circle_end(tmp_path: Path) -> None:
    found = login(tmp_path, "Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n", host="a")
    with pytest.raises(ConfigError, match=r"d, by way of b, by way of a.*circle.*ssh -G"):
        ssh_login.connect(found, "d", 30.0)


def test_no_host_is_a_mistake_in_fleet_toml() -> None:
    with pytest.raises(ConfigError, match="needs `host`"):
        ssh_config.login_of(DeviceSpec(name="d", transport="ssh"))


def test_an_unknown_host_key_is_refused_with_the_line_to_add(loopback: Any, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    spec = spec_of(loopback, config(tmp_path, lab_config(loopback, known, "  StrictHostKeyChecking no\n")))
    with pytest.raises(DeviceRefused, match="not known") as told:
        SshTransport(spec, tmp_path).run(["true"], 20.0)
    assert "SHA256:" in str(told.value) and str(known) in str(told.value)
    known.write_text(str(told.value).splitlines()[-1] + "\n")
    made = SshTransport(spec, tmp_path)
    assert made.run(["true"], 20.0).rc == 0
    made.close()


def test_a_changed_host_key_is_refused_and_what_it_says_mends_it(loopback: Any, tmp_path: Path) -> None:
    lab = loopback[0]
    known = tmp_path / "known_hosts"
    a, b = (next(member for member in lab.members if member.name == name) for name in ("loop-a", "loop-b"))
    known.write_text(sshd.known_hosts_line(lab.folder / "devices" / "loop-b", a.address, a.port))
    spec = spec_of(loopback, config(tmp_path, lab_config(loopback, known)))
    with pytest.raises(DeviceRefused, match="HAS CHANGED") as told:
        SshTransport(spec, tmp_path).run(["true"], 20.0)
    command = str(told.value).splitlines()[0].split("type: ")[1]
    assert os.system(f"{command} >{os.devnull} 2>&1") == 0
    with known.open("a") as file:
        file.write(str(told.value).splitlines()[-1] + "\n")
    made = SshTransport(spec, tmp_path)
    assert made.run(["true"], 20.0).rc == 0
    made.close()
    assert b.port != a.port


def test_a_refused_login_names_the_keys_and_the_fix(loopback: Any, tmp_path: Path) -> None:
    stranger = sshd.make_login_key(tmp_path)
    spec = spec_of(loopback, config(tmp_path, sshd.client_config(stranger, loopback[0].folder / "known_hosts")))
    with pytest.raises(DeviceRefused, match="ssh-copy-id") as told:
        SshTransport(spec, tmp_path).run(["true"], 20.0)
    assert str(stranger) in str(told.value)


def test_a_jump_host_is_gone_through(loopback: Any, tmp_path: Path) -> None:
    lab, devices = loopback
    first = devices["loop-b"]
    text = lab_config(loopback, lab.folder / "known_hosts") + (
        f"Host target\n  HostName 127.0.0.1\n  Port {devices['loop-a'].port}\n  ProxyJump 127.0.0.1:{first.port}\n")
    made = SshTransport(spec_of(loopback, config(tmp_path, text), host="target", port=None), tmp_path)
    words = made.run(["sh", "-c", "echo $SSH_CONNECTION"], 20.0).stdout.split()
    assert words[3].decode() == str(devices["loop-a"].port)
    hop = lab.folder / "devices" / "loop-b" / "sshd.pid"
    assert len(psutil.Process(int(hop.read_text())).children()) == 1
    made.close()


def test_a_closed_port_and_a_wrong_name_say_what_to_check(loopback: Any, tmp_path: Path) -> None:
    text = lab_config(loopback, loopback[0].folder / "known_hosts")
    for changes in ({"port": 1}, {"host": "no-such-host.invalid"}):
        with pytest.raises(DeviceUnreachable, match="Is it on"):
            SshTransport(spec_of(loopback, config(tmp_path, text), **changes), tmp_path).run(["true"], 20.0)


def test_many_at_once_get_through_a_default_sshd(loopback: Any, tmp_path: Path) -> None:
    """MaxStartups 10:30:100 drops connections at random beyond ten that are not through yet."""
    answers: list[int] = []

    def one() -> None:
        made = SshTransport(loopback[1]["loop-a"], tmp_path)
        answers.append(made.run(["true"], 60.0).rc)
        made.close()

    threads = [threading.Thread(target=one) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [0] * 24


def test_a_session_too_many_waits_for_its_turn(loopback: Any, tmp_path: Path) -> None:
    """MaxSessions is 10: the eleventh is refused until another ends."""
    made = SshTransport(loopback[1]["loop-a"], tmp_path)
    made.run(["true"], 20.0)
    assert made._connection is not None
    taken = [made._connection.transport.open_session() for _ in range(10)]
    with pytest.raises(paramiko.ChannelException):
        made._connection.transport.open_session()
    threading.Timer(0.5, taken[0].close).start()
    assert made.run(["echo", "in"], 20.0).stdout == b"in\n"
    made.close()


def test_a_connection_that_dies_in_mid_command_is_lost_not_done(loopback: Any, tmp_path: Path) -> None:
    made = SshTransport(loopback[1]["loop-a"], tmp_path)
    made.run(["true"], 20.0)
    listener = psutil.Process(int((loopback[0].folder / "devices" / "loop-a" / "sshd.pid").read_text()))

    def kill() -> None:
        for child in listener.children():
            os.kill(child.pid, signal.SIGKILL)

    threading.Timer(0.5, kill).start()
    with pytest.raises(DeviceUnreachable, match="lost"):
        made.run(["sleep", "20"], 20.0)
    assert made.run(["echo", "anew"], 20.0).stdout == b"anew\n"
    made.close()


def test_a_connection_that_died_between_two_calls_is_not_noticed(loopback: Any, tmp_path: Path) -> None:
    made = SshTransport(loopback[1]["loop-a"], tmp_path)
    made.run(["true"], 20.0)
    for child in psutil.Process(int((loopback[0].folder / "devices" / "loop-a" / "sshd.pid").read_text())).children():
        os.kill(child.pid, signal.SIGKILL)
    assert made.run(["echo", "anew"], 20.0).stdout == b"anew\n"
    made.close()


def test_a_push_cut_by_a_dead_connection_leaves_no_torn_file(loopback: Any, tmp_path: Path) -> None:
    """What was complete before the cut stays, so that the next push need not bring it."""
    big = tmp_path / "big"
    big.write_bytes(os.urandom(1 << 20) * 200)
    small = tmp_path / "small"
    small.write_bytes(b"s" * 1000)
    made = SshTransport(loopback[1]["loop-a"], tmp_path)
    made.run(["true"], 20.0)
    there = tmp_path / "there"
    listener = psutil.Process(int((loopback[0].folder / "devices" / "loop-a" / "sshd.pid").read_text()))

    def kill_when_it_travels() -> None:
        while not list(there.glob("big*.part")):
            pass
        for child in listener.children():
            os.kill(child.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_when_it_travels)
    thread.start()
    with pytest.raises(DeviceUnreachable):
        made.push([(small, f"{there}/small"), (big, f"{there}/big")], 60.0)
    thread.join()
    for _ in range(500):                        # the receiver sees the end of its stream a little later
        if not list(there.glob("*.part")):
            break
        threading.Event().wait(0.02)
    assert [path.name for path in there.iterdir()] == ["small"]
    made.close()
