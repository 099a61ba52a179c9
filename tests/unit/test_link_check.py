"""The cable to a device, timed over a real sshd, and doctor's words about it."""
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.cli import build_app
from harness.cli._exit import guarded
from harness.link_check import check_links
from tests import lab_kit

pytestmark = pytest.mark.skipif(bool(lab_kit.no_sshd()), reason=lab_kit.no_sshd() or "-")


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: Any) -> Any:
    with lab_kit.running(tmp_path_factory.mktemp("ssh") / "lab", 2, 0, loopback=True) as (lab, devices):
        yield lab, devices


def test_a_link_is_timed_and_nothing_stays_there(loopback: Any, tmp_path: Path) -> None:
    there = tmp_path / "there"
    spec = loopback[1]["loop-a"].model_copy(update={"home": str(there)})
    link = check_links([spec], {spec.name: {}})[spec.name]
    assert link["reason"] is None and link["rtt_ms"] > 0 and link["push_mb_s"] > 0
    assert not list(there.glob("*"))


def test_a_device_that_measures_is_left_in_peace_and_one_that_fails_says_why(loopback: Any) -> None:
    spec = loopback[1]["loop-a"]
    busy = {"trials": [{"id": "t", "attempt": 1, "state": "running"}]}
    lost = spec.model_copy(update={"name": "lost", "port": 1})
    links = check_links([spec, lost], {spec.name: busy, "lost": {}})
    assert links[spec.name] == {"rtt_ms": None, "push_mb_s": None, "reason": "a trial runs on it"}
    assert links["lost"]["rtt_ms"] is None and "no SSH at" in links["lost"]["reason"]
    assert check_links([spec], {}) == {}


def test_doctor_tells_the_link_and_every_field_as_json(loopback: Any, capsys: Any) -> None:
    fleet = str(loopback[0].fleet)
    guarded(build_app(), ["doctor", "loop-a", "--fleet", fleet, "--json"])
    device, = json.loads(capsys.readouterr().out)["devices"]
    facts = device["facts"]
    assert facts["link"]["rtt_ms"] > 0 and abs(facts["answered_ns"] - facts["wall_ns"]) < 60e9
    assert {"model", "soc", "system", "clocks", "governors", "power_mode", "shut"} == set(facts["hardware"])
    guarded(build_app(), ["doctor", "loop-a", "--fleet", fleet])
    text = capsys.readouterr().out
    assert re.search(r"loop-a +ssh .* ms, .* MB/s", text) and "    clocks: " in text and "    can read: " in text
