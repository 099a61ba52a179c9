"""fleet.toml: defaults, groups, selection, and one clear sentence for every mistake."""
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.fleet import FleetSpec, host_only, load_fleet

BENCH = """
[defaults]
python = "python3"
tags = ["bench"]
[groups.hub]
limit = 2
[sites.hub-a]
[devices.host]
[devices.slow]
slowdown = 3
tags = ["bench", "emulated"]
[devices.sim-1]
transport = "simulated"
site = "hub-a"
groups = ["hub"]
simulate = { latency_ms = 4.0 }
"""


def fleet_of(tmp_path: Path, text: str) -> FleetSpec:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    return load_fleet(path)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        fleet_of(tmp_path, text)
    return str(caught.value)


def test_defaults_reach_every_device_and_its_own_keys_win(tmp_path: Path) -> None:
    devices = fleet_of(tmp_path, BENCH).devices
    assert {device.python for device in devices.values()} == {"python3"}
    assert devices["host"].tags == ("bench",)
    assert devices["slow"].tags == ("bench", "emulated")
    assert devices["slow"].name == "slow"


def test_local_devices_share_the_host_unless_told_otherwise(tmp_path: Path) -> None:
    fleet = fleet_of(tmp_path, BENCH)
    assert fleet.devices["host"].groups == ("host",)
    assert fleet.devices["sim-1"].groups == ("hub",)
    assert fleet.groups["host"].limit == 1
    assert fleet.groups["hub"].limit == 2
    assert fleet_of(tmp_path, "[devices.a]\ngroups = []").devices["a"].groups == ()


def test_provenance_follows_from_what_the_device_is(tmp_path: Path) -> None:
    devices = fleet_of(tmp_path, BENCH).devices
    assert [devices[name].provenance for name in ("host", "slow", "sim-1")] == ["measured", "emulated", "simulated"]
    assert host_only().devices["host"].provenance == "measured"


@pytest.mark.parametrize(("patterns", "names"), [
    (["slow", "host"], ["host", "slow"]),
    (["s*"], ["slow", "sim-1"]),
    (["tag:emulated", "slow"], ["slow"]),
    (["*"], ["host", "slow", "sim-1"]),
])
def test_select_keeps_the_order_of_the_file_and_takes_each_once(
        tmp_path: Path, patterns: list[str], names: list[str]) -> None:
    assert [device.name for device in fleet_of(tmp_path, BENCH).select(patterns)] == names


@pytest.mark.parametrize(("pattern", "said"), [
    ("hsot", "unknown device 'hsot' in c.toml (matrix.device). Did you mean 'host'? There is: host, sim-1, slow."),
    ("tag:emulatd", "Did you mean 'emulated'?"),
    ("jetson-*", "unknown device 'jetson-*'"),
])
def test_a_pattern_without_match_is_an_error_with_the_near_miss(tmp_path: Path, pattern: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fleet_of(tmp_path, BENCH).select([pattern], "c.toml (matrix.device)")
    assert said in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [
    ("[devices.a]\ntransprt = 'local'", "unknown key 'devices.a.transprt'. Did you mean 'transport'? Allowed here: "),
    ("[devices.host]\ntransprt = 'local'", "Did you mean 'transport'? Allowed here: "),    # host is a field, too
    ("[defaults]\npyton = 'x'\n[devices.a]", "unknown key 'devices.a.pyton'. Did you mean 'python'?"),
    ("[devices.a]\ntransport = 'locl'", "unknown transport 'locl'"),
    ("[devices.a]\ngroups = ['hbu']", "unknown group 'hbu'"),
    ("[devices.a]\nsite = 'x'", "unknown site 'x'"),
    ("[devices.a]\nslowdown = 0.5", "devices.a.slowdown = 0.5: input should be greater than or equal to 1"),
    ("[devices.a]\nslowdown = '3'", "devices.a.slowdown = '3': a number is needed, without quotes"),
    ("[devices.a]\nport = 99999", "devices.a.port = 99999"),
    ("[devices.a]\nwarm_s = -1", "devices.a.warm_s = -1"),
    ("[devices.'../a']", "is no name: letters, digits"),
    ("[devices.a]\nsimulate = {}", "'simulate' needs transport = \"simulated\""),
    ("[devices.a]\ntransport = 'simulated'\nslowdown = 2", "'slowdown' is for real devices"),
    ("[devices.a]\npower_model = { idle_w = 1 }", "needs the keys idle_w, busy_w and source"),
    ("[devices]\n", "no device; add one"),
    ("[groups.x]\n", "the key 'devices' is missing"),
    ("[devices.a]\n[groups.g]\nlimit = 0", "groups.g.limit = 0"),
    ("groups = ['usb']\n[devices.a]", "groups = ['usb']: a table is needed, as { key = ... }"),
    ("defaults = 1\n[devices.a]", "defaults = 1: a table is needed, as { key = ... }"),
    ("[devices.a\n", "broken TOML: "),
])
def test_every_mistake_is_told_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    message = refusal(tmp_path, text)
    assert said in message
    assert message.startswith(("unknown", str(tmp_path / "fleet.toml")))
    assert "pydantic" not in message


def test_broken_toml_names_line_and_column(tmp_path: Path) -> None:
    assert "(at line 2, column 13)" in refusal(tmp_path, "[devices.a]\ntransport = local\n")


def test_a_missing_file_is_told_with_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(BENCH)
    with pytest.raises(ConfigError, match=r"Did you mean .*fleet\.toml\?"):
        load_fleet(tmp_path / "flet.toml")
    with pytest.raises(ConfigError, match="does not exist"):
        load_fleet(tmp_path / "nowhere" / "fleet.toml")


ADDRESSES = """
[devices.here]
[devices.near]
[devices.board]
transport = "ssh"
host = "10.0.0.2"
[devices.named]
transport = "ssh"
host = "nano.lab"
[devices.stated]
transport = "ssh"
host = "nano.lab"
address = "10.0.0.3"
[devices.phone]
transport = "adb"
serial = "1A2B3C4D"
[devices.port]
transport = "adb"
serial = "usb:1-4"
host = "10.0.0.4"
[devices.unplugged]
transport = "adb"
serial = "10.0.0.5:5555"
[devices.hosted]
transport = "adb"
host = "10.0.0.6"
[devices.wifi]
transport = "adb"
serial = "1A2B3C4D"
address = "10.0.0.7"
[devices.forwarded]
transport = "adb"
serial = "127.0.0.1:5555"
[devices.loop]
transport = "ssh"
host = "127.0.0.1"
"""


@pytest.mark.parametrize(("peer", "device", "address"), [
    ("here", "near", "127.0.0.1"), ("here", "board", None), ("board", "here", "10.0.0.2"),
    ("board", "phone", "10.0.0.2"), ("named", "board", None), ("stated", "board", "10.0.0.3"), ("phone", "board", None),
    ("port", "board", None), ("unplugged", "board", "10.0.0.5"), ("unplugged", "here", "10.0.0.5"),
    ("hosted", "board", "10.0.0.6"), ("wifi", "board", "10.0.0.7"), ("forwarded", "here", None),
    ("loop", "here", "127.0.0.1"), ("loop", "board", None), ("loop", "loop", "127.0.0.1")])
def test_where_a_peer_is_reached(tmp_path: Path, peer: str, device: str, address: str | None) -> None:
    devices = fleet_of(tmp_path, ADDRESSES).devices
    assert devices[peer].address_for(devices[device]) == address


def test_an_address_is_a_number(tmp_path: Path) -> None:
    assert "'address' must be an IPv4 address" in refusal(tmp_path, '[devices.a]\naddress = "nano.lab"')
