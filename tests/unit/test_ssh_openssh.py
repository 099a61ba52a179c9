"""What OpenSSH does with a configuration, we do, too: tokens, odd paths, ProxyCommand, agents, damaged known_hosts.

Against a real sshd on loopback and a real ssh-agent. Nobody's own keys, agent or known_hosts take part.
"""
import getpass
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cable import ssh_config
from harness.errors import ConfigError, DeviceRefused, DeviceUnreachable
from harness.fleet import DeviceSpec
from harness.lab import sshd
from harness.transports.ssh import SshTransport
from tests import lab_kit

pytestmark = pytest.mark.skipif(bool(lab_kit.no_sshd()), reason=lab_kit.no_sshd() or "-")


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: Any) -> Any:
    with lab_kit.running(tmp_path_factory.mktemp("ssh") / "lab", 1, 0, loopback=True) as (lab, devices):
        yield lab, devices["loop-a"]


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: Any) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """An ssh-agent's socket."""
    path = tmp_path / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    for _ in range(200):
        if path.exists():
            break
        time.sleep(0.01)
    yield path
    process.terminate()
    process.wait()


def locked_key(loopback: Any, folder: Path) -> Path:
    """A key with a passphrase that the device lets in, and a comment that is not UTF-8."""
    path = folder / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-C", b"J\xfcrgen", "-f", path], check=True)
    with (loopback[0].folder / "authorized_keys").open("ab") as file:
        file.write(path.with_name("locked.pub").read_bytes())
    return path


def add(agent: Path, key: Path, folder: Path) -> None:
    """ssh-add, with a program that knows the passphrase."""
    asks = folder / "asks"
    asks.write_text("#!/bin/sh\necho secret\n")
    asks.chmod(0o700)
    subprocess.run(["ssh-add", "-q", str(key)], check=True, stdin=subprocess.DEVNULL, start_new_session=True,
                   env={**os.environ, "SSH_AUTH_SOCK": str(agent), "SSH_ASKPASS": str(asks), "DISPLAY": ":0",
                        "SSH_ASKPASS_REQUIRE": "force"})


def spec_of(loopback: Any, folder: Path, text: str, **changes: Any) -> DeviceSpec:
    (folder / "ssh_config").write_text(text)
    return DeviceSpec.model_validate({**loopback[1].model_dump(), "ssh_config": str(folder / "ssh_config"), **changes})


def config(loopback: Any, more: str = "", key: Path | None = None, known: Path | None = None) -> str:
    """`more` comes first, so that it counts."""
    rest = sshd.client_config(key or loopback[0].folder / sshd.KEY, known or loopback[0].folder / "known_hosts")
    return f"{more}{rest}"


def echo(spec: DeviceSpec, folder: Path) -> bytes:
    made = SshTransport(spec, folder)
    try:
        return made.run(["echo", "in"], 20.0).stdout
    finally:
        made.close()


def login(folder: Path, text: str, **fields: Any) -> ssh_config.Login:
    (folder / "ssh_config").write_text(text)
    return ssh_config.login_of(DeviceSpec(name="d", transport="ssh", ssh_config=str(folder / "ssh_config"), **fields))


def test_tokens_are_expanded_where_ssh_expands_them_as_it_connects(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SHELF", "/keys")
    found = login(tmp_path, "Host pi\n  HostName 10.0.0.7\n  Port 99\n  User ann\n"
                            "  ProxyCommand nc -x 100%% %h %p %r %n\n"
                            "  IdentityFile ~/.ssh/%h_%u\n  IdentityFile ${SHELF}/%r\n  IdentityAgent %d/agent-%h\n",
                  host="pi")
    assert found.proxy_command == "nc -x 100% 10.0.0.7 99 ann pi"
    assert found.key_files == (f"{Path.home()}/.ssh/10.0.0.7_{getpass.getuser()}", "/keys/ann")
    assert found.agent == f"{Path.home()}/agent-10.0.0.7"


def test_a_token_or_a_variable_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="%Q"):
        login(tmp_path, "Host pi\n  IdentityFile ~/%Q\n", host="pi")
    with pytest.raises(ConfigError, match="NO_SUCH_VARIABLE"):
        login(tmp_path, "Host pi\n  IdentityFile ${NO_SUCH_VARIABLE}/key\n", host="pi")


def test_none_is_no_default(tmp_path: Path) -> None:
    found = login(tmp_path, "Host pi\n  IdentityAgent none\n  IdentityFile none\n  ProxyCommand none\n", host="pi")
    assert (found.agent, found.key_files, found.proxy_command) == ("none", (), "")


def test_known_hosts_may_lie_in_a_folder_with_a_space(loopback: Any, tmp_path: Path) -> None:
    folder = tmp_path / "my lab"
    folder.mkdir()
    known = folder / "known hosts"
    spec = spec_of(loopback, tmp_path, config(loopback, known=known))
    with pytest.raises(DeviceRefused, match=f"add this line to {known}:"):
        echo(spec, tmp_path)
    known.write_text((loopback[0].folder / "known_hosts").read_text())
    assert echo(spec, tmp_path) == b"in\n"
    found = login(tmp_path, f'Host pi\n  UserKnownHostsFile "{known}" ~/other\n', host="pi")
    assert found.known_hosts[:2] == (known, Path.home() / "other")


@pytest.mark.parametrize("others", [False, True])
def test_a_host_key_that_was_taken_back_is_refused(loopback: Any, tmp_path: Path, others: bool) -> None:
    """Whether or not another key of the host is known; a key of somebody else that was taken back is no matter."""
    known = (loopback[0].folder / "known_hosts").read_text()
    kind, key = known.split()[1:3]
    file = tmp_path / "known"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "else"], check=True)
    elsewhere = (tmp_path / "else.pub").read_text()
    spec = spec_of(loopback, tmp_path, config(loopback, known=file))
    file.write_text(f"{known}@revoked * {elsewhere}")
    assert echo(spec, tmp_path) == b"in\n"
    more = f"{known.split()[0]} {elsewhere}" if others else ""
    file.write_text(f"{known}{more}@revoked\t* {kind} {key}\n")
    with pytest.raises(DeviceRefused, match="a line @revoked of known_hosts takes back") as told:
        echo(spec, tmp_path)
    assert "add this line" not in str(told.value)


def test_a_damaged_known_hosts_line_is_skipped(loopback: Any, tmp_path: Path) -> None:
    good = (loopback[0].folder / "known_hosts").read_text()
    known = tmp_path / "known_hosts"
    for bad in ("127.0.0.1 ssh-ed25519 AAAAC3NzaC1lZDI1\n", "127.0.0.1 ssh-ed25519 AAAA=B\n",
                "x ssh-rsa AAAA\n", "\xff \n"):
        known.write_text(bad + good, encoding="latin-1")
        assert echo(spec_of(loopback, tmp_path, config(loopback, known=known)), tmp_path) == b"in\n", bad
    known.write_text(good.strip()[:-30])
    with pytest.raises(DeviceRefused, match="not known"):
        echo(spec_of(loopback, tmp_path, config(loopback, known=known)), tmp_path)


def test_of_two_keys_of_one_kind_the_first_counts(loopback: Any, tmp_path: Path) -> None:
    good = (loopback[0].folder / "known_hosts").read_text()
    other = sshd.known_hosts_line(_with_host_key(tmp_path), loopback[1].host, loopback[1].port)
    known = tmp_path / "known_hosts"
    known.write_text(good + other)
    assert echo(spec_of(loopback, tmp_path, config(loopback, known=known)), tmp_path) == b"in\n"
    known.write_text(other + good)
    with pytest.raises(DeviceRefused, match="HAS CHANGED"):
        echo(spec_of(loopback, tmp_path, config(loopback, known=known)), tmp_path)


def _with_host_key(folder: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / sshd.HOST_KEY)], check=True)
    return folder


#: a ProxyCommand of Python alone: connects what it is told and copies both ways; the shell has to take the quotes off
RELAY = """\
import os, select, socket, sys, time
link = socket.create_connection((sys.argv[1], int(sys.argv[2])))
open(sys.argv[3], "w").write(str(os.getpid()))
while True:
    ready, _, _ = select.select([0, link], [], [])
    for end in ready:
        data = os.read(0, 65536) if end == 0 else link.recv(65536)
        if not data:
            time.sleep(60)                      # it does not end by itself
        link.sendall(data) if end == 0 else os.write(1, data)
"""


def test_a_proxy_command_is_run_by_the_shell_and_ends_with_the_connection(loopback: Any, tmp_path: Path,
                                                                                 monkeypatch: Any) -> None:
    (tmp_path / "relay.py").write_text(RELAY)
    monkeypatch.setenv("RELAY", str(tmp_path))
    more = "Host *\n  ProxyCommand python3 $RELAY/relay.py %h %p \"$RELAY\"/pid\n"
    made = SshTransport(spec_of(loopback, tmp_path, config(loopback, more)), tmp_path)
    assert made.run(["echo", "in"], 20.0).stdout == b"in\n"
    number = int((tmp_path / "pid").read_text())
    os.kill(number, 0)
    made.close()
    for _ in range(500):
        if not Path(f"/proc/{number}").exists():
            break
        time.sleep(0.01)
    assert not Path(f"/proc/{number}").exists()


@pytest.mark.parametrize(("command", "error", "said"), [
    ("no-such-program %h", DeviceRefused, "no-such-program"),
    ("sh -c 'echo the gate is shut >&2; exit 3'", DeviceUnreachable, "the gate is shut"),
])
def test_a_proxy_command_that_fails_says_why(loopback: Any, tmp_path: Path, monkeypatch: Any, command: str,
                                             error: type[Exception], said: str) -> None:
    monkeypatch.setattr("harness.cable.ssh_login.PATIENCE_S", 1.0)
    began = time.monotonic()
    with pytest.raises(error, match=said):
        echo(spec_of(loopback, tmp_path, config(loopback, f"Host *\n  ProxyCommand {command}\n")), tmp_path)
    assert time.monotonic() - began < 8.0


def test_a_proxy_command_that_ends_because_we_let_go_is_not_blamed(loopback: Any, tmp_path: Path,
                                                                   monkeypatch: Any, interruptible: None) -> None:
    """`cat` ends well as soon as its stdin does; a Ctrl-C meanwhile is one, and no trouble of the connection."""
    monkeypatch.setattr("harness.cable.ssh_login.CONNECT_S", 0.3)
    monkeypatch.setattr("harness.cable.ssh_login.PATIENCE_S", 2.0)
    spec = spec_of(loopback, tmp_path, config(loopback, "Host *\n  ProxyCommand cat > /dev/null\n"))
    with pytest.raises(DeviceUnreachable, match="drops the connection") as told:
        echo(spec, tmp_path)
    assert "ProxyCommand" not in str(told.value)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        echo(spec, tmp_path)


def test_a_configuration_that_does_not_end_is_the_trouble_of_its_device(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(ssh_config, "CONFIG_S", 0.3)
    with pytest.raises(DeviceRefused, match="Match exec"):
        login(tmp_path, 'Match exec "sleep 3"\n  User x\n', host="pi")


def test_a_server_that_hangs_up_at_once_is_unreachable(loopback: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("harness.cable.ssh_login.PATIENCE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        def hang_up() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(DeviceUnreachable, match="drops the connection"):
            echo(spec_of(loopback, tmp_path, config(loopback), port=server.getsockname()[1]), tmp_path)
        jump = config(loopback, f"Host far\n  ProxyJump 127.0.0.1:{server.getsockname()[1]}\n")
        with pytest.raises(DeviceUnreachable, match=r"127\.0\.0\.1, on the way there"):
            echo(spec_of(loopback, tmp_path, jump, host="far"), tmp_path)
        server.shutdown(socket.SHUT_RDWR)


def test_identities_only_takes_the_key_from_the_agent(loopback: Any, tmp_path: Path, agent: Path,
                                                     monkeypatch: Any) -> None:
    key = locked_key(loopback, tmp_path)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    spec = spec_of(loopback, tmp_path, config(loopback, key=key))
    with pytest.raises(DeviceRefused, match=f"has a passphrase .* type: ssh-add {key}$"):
        echo(spec, tmp_path)
    add(agent, key, tmp_path)
    assert echo(spec, tmp_path) == b"in\n"
    key.with_name("locked.pub").unlink()        # the public half is in the private key's file, too
    assert echo(spec, tmp_path) == b"in\n"
    stranger = sshd.make_login_key(tmp_path)
    with pytest.raises(DeviceRefused, match="ssh-copy-id") as told:
        echo(spec_of(loopback, tmp_path, config(loopback, key=stranger)), tmp_path)
    assert "agent" not in str(told.value)       # its key would have been let in


def test_an_agent_of_the_configuration_s_own_is_asked(loopback: Any, tmp_path: Path, agent: Path) -> None:
    key = locked_key(loopback, tmp_path)
    spec = spec_of(loopback, tmp_path, config(loopback, f"Host *\n  IdentityAgent {agent}\n", key=key))
    with pytest.raises(DeviceRefused, match=f"type: SSH_AUTH_SOCK={agent} ssh-add {key}$"):
        echo(spec, tmp_path)
    add(agent, key, tmp_path)
    assert echo(spec, tmp_path) == b"in\n"
    only_the_public_half = tmp_path / "token"
    only_the_public_half.write_bytes(key.with_name("locked.pub").read_bytes())
    text = config(loopback, f"Host *\n  IdentityAgent {agent}\n", key=only_the_public_half)
    assert echo(spec_of(loopback, tmp_path, text), tmp_path) == b"in\n"


def test_no_agent_is_asked_where_the_configuration_says_none(loopback: Any, tmp_path: Path, agent: Path,
                                                            monkeypatch: Any) -> None:
    key = locked_key(loopback, tmp_path)
    add(agent, key, tmp_path)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    with pytest.raises(DeviceRefused, match="IdentityAgent none"):
        echo(spec_of(loopback, tmp_path, config(loopback, "Host *\n  IdentityAgent none\n", key=key)), tmp_path)


def test_other_keys_of_the_agent_serve_without_identities_only(loopback: Any, tmp_path: Path, agent: Path,
                                                              monkeypatch: Any) -> None:
    key = locked_key(loopback, tmp_path)
    add(agent, key, tmp_path)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    stranger = sshd.make_login_key(tmp_path)
    text = config(loopback, "Host *\n  IdentitiesOnly no\n", key=stranger)
    assert echo(spec_of(loopback, tmp_path, text), tmp_path) == b"in\n"


def test_a_key_file_that_cannot_be_read_is_named(loopback: Any, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_text("no key\n")
    with pytest.raises(DeviceRefused, match=f"not readable: {garbage}"):
        echo(spec_of(loopback, tmp_path, config(loopback, key=garbage)), tmp_path)
