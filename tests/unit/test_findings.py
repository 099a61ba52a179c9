"""Doctor's findings: errors where nothing can run, and a fix at the end of every one."""
from typing import Any

import pytest

from harness.findings import examine, on_device, runs
from harness.fleet import DeviceSpec
from harness.portrait import clocks, details, measures, what

NOW_NS = 1_790_000_000_000_000_000
GOOD: dict[str, Any] = {
    "wall_ns": NOW_NS, "answered_ns": NOW_NS, "disk_free_mb": 9000.0, "mem_total_mb": 4000.0,
    "engines": {"onnxruntime_cpu": {"runtime": "onnxruntime 1.31.1", "reason": ""}, "replay": {"runtime": "replay"}},
    "sensors": {"temp_c": {"value": 41.0, "source": "thermal"}, "freq_mhz": {"value": 1500.0, "source": "frequency"},
                "rssi_dbm": {"value": None, "source": "network"}},
    "energy": {"rapl": {"scope": "soc", "provenance": "measured"}},
}
HOST = DeviceSpec(name="host")


def levels(facts: dict[str, Any] | None, spec: DeviceSpec = HOST) -> list[str]:
    return [one.level for one in examine(spec, facts, "no answer in 60 s")]


def test_a_device_that_lacks_nothing_has_no_findings() -> None:
    assert levels(GOOD) == []
    assert runs(GOOD) == "onnxruntime 1.31.1"
    assert measures(HOST, GOOD) == "freq_mhz, temp_c, joules by rapl (scope soc) (measured)"


def test_silence_is_an_error_that_carries_the_reason() -> None:
    finding, = examine(HOST, None, "no answer in 60 s")
    assert (finding.level, finding.text) == ("error", "no answer in 60 s")
    assert "`python`" in finding.fix and "`home`" in finding.fix    # either keeps a local agent from being put there


def test_a_missing_runtime_is_an_error_and_replay_does_not_count_as_one() -> None:
    lacking = {"onnxruntime_cpu": {"runtime": None, "reason": "no module named onnxruntime"},
               "replay": {"runtime": "r"}}
    finding, = examine(HOST, {**GOOD, "engines": lacking}, None)
    assert finding.level == "error"
    assert "no module named onnxruntime" in finding.text
    assert finding.fix.endswith("edgefleet device provision host")
    simulated = DeviceSpec(name="s", transport="simulated")
    assert levels({**GOOD, "engines": lacking, "energy": {}, "sensors": {}}, simulated) == []


def test_a_device_whose_agent_does_not_start_is_not_said_to_lack_what_nobody_asked_for() -> None:
    nothing = {"engines": {"onnxruntime_cpu": {"runtime": None, "reason": "there is no python3"}}}
    assert [one.text for one in examine(HOST, nothing, None)] == [
        "no inference runtime (onnxruntime_cpu: there is no python3)"]


@pytest.mark.parametrize(("change", "level", "said"), [
    ({"sensors": {"freq_mhz": {"value": 1.0}}}, "note", "no temperature sensor"),
    ({"sensors": {"temp_c": {"value": 1.0}}}, "note", "no CPU frequency"),
    ({"energy": {}}, "note", "no energy source"),
    ({"disk_free_mb": 20.0}, "warning", "only 20 MiB are free"),
    ({"mem_total_mb": 100.0}, "warning", "only 100 MiB of memory"),
    ({"wall_ns": NOW_NS - 3600 * 10**9}, "warning", "differs by 3600 s"),
])
def test_what_makes_results_poorer_is_told_with_its_fix(change: dict[str, Any], level: str, said: str) -> None:
    finding, = examine(HOST, {**GOOD, **change}, None)
    assert finding.level == level
    assert said in finding.text
    assert finding.fix


def test_modelled_joules_are_not_taken_for_measured_ones() -> None:
    spec = DeviceSpec(name="host", power_model={"idle_w": 2.0, "busy_w": 5.0, "source": "data sheet"})
    finding, = examine(spec, {**GOOD, "energy": {"modelled": {"scope": "modelled", "provenance": "modelled"}}}, None)
    assert "modelled" in finding.text


def test_a_phone_says_that_its_inference_is_unproven() -> None:
    finding, = examine(DeviceSpec(name="p", transport="adb", serial="1"), GOOD, None)
    assert (finding.level, "phone inference unproven" in finding.text) == ("note", True)


def test_a_phone_that_has_run_a_trial_is_proven_and_one_of_the_lab_never() -> None:
    phone, lab = DeviceSpec(name="p", transport="adb", serial="1"), {"source": "synthetic: thermal", "value": 1.0}
    assert examine(phone, GOOD, None, proven=True) == []
    finding, = examine(phone, {**GOOD, "sensors": {**GOOD["sensors"], "temp_c": lab}}, None, proven=True)
    assert "phone inference unproven" in finding.text


NANO = DeviceSpec(name="nano", transport="ssh", host="nano.local", user="me", port=2222)
CLOCKS = {"clocks": [{"policy": "policy0", "cpus": "0 1", "governor": "ondemand", "min_mhz": 600.0, "max_mhz": 1500.0,
                      "limit_mhz": 1800.0}], "governors": ["ondemand", "performance"]}


@pytest.mark.parametrize(("change", "level", "text", "fix"), [
    ({"sensors": {**GOOD["sensors"], "throttled": {"value": 1.0}}}, "warning", "throttles now (41 C, throttled)",
     "type: edgefleet doctor nano"),
    ({"hardware": CLOCKS}, "note", "governor ondemand",
     "me ALL=(root) NOPASSWD: /usr/bin/tee /sys/devices/system/cpu/cpufreq/policy0/scaling_governor; then"),
    ({"board": "NVIDIA Jetson Nano Developer Kit", "hardware": {**CLOCKS, "power_mode": "pmode:0001"}}, "note",
     "power mode pmode:0001", "'sudo nvpmodel -m 0 && sudo jetson_clocks'"),
    ({"hardware": {"shut": ["/sys/class/powercap/intel-rapl:0/energy_uj"]}, "energy": {}}, "note", "joules by RAPL",
     "/bin/chmod o+r /sys/class/powercap/intel-rapl\\:0/energy_uj; then, after each boot, type: ssh -t -l me -p 2222"),
    ({"board": "Raspberry Pi 4 Model B Rev 1.5"}, "note", "group video", "sudo usermod -aG video $USER'"),
    ({"link": {"rtt_ms": 250.0, "push_mb_s": 9.0}}, "note", "takes 250 ms", "type: edgefleet doctor nano"),
    ({"link": {"rtt_ms": 2.0, "push_mb_s": 0.2}}, "note", "0.20 MB/s: 50 MB take 4 min", "type: edgefleet doctor nano"),
    ({"link": {"reason": "a trial runs on it"}}, "note", "a trial runs on it", "type: edgefleet doctor nano"),
])
def test_heat_clocks_joules_and_the_cable(change: dict[str, Any], level: str, text: str, fix: str) -> None:
    finding, = examine(NANO, {**GOOD, **change}, None)
    assert (finding.level, text in finding.text, fix in finding.fix) == (level, True, True), finding


def test_a_steady_governor_and_a_phone_s_own_are_no_findings() -> None:
    steady = {**CLOCKS, "clocks": [{**CLOCKS["clocks"][0], "governor": "performance"}]}
    assert levels({**GOOD, "hardware": steady}) == []
    phone = DeviceSpec(name="p", transport="adb", serial="1")
    assert [one.text[:15] for one in examine(phone, {**GOOD, "hardware": CLOCKS}, None)] == ["phone inference"]


def test_a_command_is_one_that_a_person_may_type_here() -> None:
    assert on_device(NANO, "ls /x y") == "ssh -l me -p 2222 nano.local 'ls /x y'"
    assert on_device(DeviceSpec(name="p", transport="adb", serial="1A"), "ls /x") == "adb -s 1A shell 'ls /x'"
    assert on_device(HOST, "ls /x") == "ls /x"
    far = DeviceSpec(name="p", transport="adb", host="10.0.0.9", env={"ANDROID_ADB_SERVER_PORT": "5038", "X": "1"})
    assert on_device(far, "ls") == "ANDROID_ADB_SERVER_PORT=5038 adb -s 10.0.0.9:5555 shell ls"
    assert "type: ANDROID_ADB_SERVER_PORT=5038 adb devices -l && " in examine(far, None, None)[0].fix


def test_a_portrait_says_what_is_known_and_nothing_else() -> None:
    assert (what({"hardware": {}}), clocks({}), details({})) == ("generic Linux", "not known", "")
    assert (what({}), what({"machine": "simulated"})) == ("not known", "simulated")
    pixel = {"hardware": {"model": "Google Pixel 6", "soc": "gs101", "system": "Android 13", **CLOCKS},
             "wall_ns": 3_000_000_000, "answered_ns": 1_000_000_000}
    assert what(pixel) == "Google Pixel 6 (gs101)"
    assert details(pixel) == "Android 13, clock +2.0 s"
    assert clocks(pixel) == "cores 0 1: 600-1500 of 1800 MHz by ondemand"
    mixed = {"sensors": {"temp_c": {"value": 1.0, "source": "synthetic: thermal"}, "net_rtt_ms": {"value": 1.0}}}
    assert measures(NANO, mixed) == "net_rtt_ms (measured); temp_c (synthetic)"


def test_commands_name_the_fleet_file_that_nobody_would_find() -> None:
    phone, lacking = DeviceSpec(name="p", transport="adb", serial="1"), {"engines": {}}
    silent, = examine(phone, None, "full; type: edgefleet device gc p", "my lab/fleet.toml")
    assert silent.text.endswith("edgefleet device gc p --fleet 'my lab/fleet.toml'")
    assert silent.fix.endswith("edgefleet doctor p --fleet 'my lab/fleet.toml'")
    runtime, unproven = (one.fix for one in examine(phone, lacking, None, "x.toml"))
    assert runtime.endswith("edgefleet device provision p --fleet x.toml")
    assert unproven.endswith("edgefleet run workloads/campaigns/fleet-smoke.toml --fleet x.toml && "
                             "edgefleet status fleet-smoke --block")
    assert examine(phone, lacking, None)[0].fix.endswith("provision p")


def test_every_fix_ends_in_a_command() -> None:
    worst = {**GOOD, "sensors": {}, "energy": {}, "engines": {}, "disk_free_mb": 1.0, "mem_total_mb": 1.0, "wall_ns": 0,
             "link": {"rtt_ms": 900.0, "push_mb_s": 0.01}, "hardware": CLOCKS}
    devices = [NANO, HOST, DeviceSpec(name="p", transport="adb", serial="1"),
               HOST.model_copy(update={"power_model": {"idle_w": 1.0, "busy_w": 2.0, "source": "x"}})]
    fixes = [one.fix for spec in devices for facts in (None, worst) for one in examine(spec, facts, None)]
    assert len(fixes) > 25
    for fix in fixes:
        command = fix.rpartition("type: ")[2] if "type: " in fix else fix.rpartition("after: ")[2]
        assert command.split()[0] in ("edgefleet", "ssh", "adb", "ls", "sudo", "echo"), fix
