"""The simulated twin on which settings are scored: with the device's costs, its peers and link, after lessons."""
from pathlib import Path
from typing import Any

import pytest

from device_agents.clock import VirtualClock
from device_agents.ending import conclude
from device_agents.journal import Journal
from device_agents.wire import Cost, LoadTrace
from harness.device import plugin_files
from harness.errors import AgentFailed
from harness.fleet import DeviceSpec
from harness.home import Home
from harness.tuning import Lesson, Twin
from tests.agent_kit import BRANCHES, IDLE, costs_of, make_home, order_for
from workloads.bundle import BundleFolder

PLUGINS = plugin_files((str(Path(__file__).parents[1] / "plugins"),))
LOADED = LoadTrace("loaded", ("t_s", "cpu_pct"), ((0.0, 90.0),))
QUICK = tuple(Cost(name, "x", ms / 8, ms / 8, 1.0, None, None, "stated") for name, _, ms, _ in BRANCHES)
LESSONS = [Lesson(LOADED, 1.0, seed) for seed in range(3)]


class Scored:
    """A twin of the kit's device (8 ms for the full branch), and what a trial on it scores."""

    def __init__(self, folder: Path, peers: Any) -> None:
        bundle = make_home(str(folder / "made"))
        files = {path.name: path for path in (folder / "made" / "store").iterdir()}
        home = Home(folder / "home")
        for one in (home.cache, home.devices):
            one.mkdir(parents=True)
        self.store = home.device("board.twin") / "store"
        costs = {cost.branch: cost for cost in costs_of("x")}
        self.twin = Twin(home, DeviceSpec(name="board"), BundleFolder(bundle, folder, files, {}), costs, PLUGINS, peers)
        self.trial = order_for(bundle, duration_s=1.0, arrival={"kind": "periodic"}, deadline_ms=11.0).trial

    def score(self, lessons: Any = (), **trial: Any) -> float:
        return self.twin.score(self.trial._replace(**trial), lessons, [LOADED], 12.0, 11.0)


AUTOSCALE: dict[str, Any] = {"method": "autoscale", "peers": ("edge",), "settings": {
    "peers": ["edge"], "exact": ["full"], "threads": [1]}}


def test_a_method_that_offloads_gains_by_a_good_link_and_by_no_bad_one(tmp_path: Path) -> None:
    """Under this load the full branch takes 15 ms here; there 1 ms and the way."""
    scored = Scored(tmp_path, {"edge": QUICK})
    here = scored.score(settings={"branch": "full"})
    good = scored.score(LESSONS, link={"delay_ms": 2.0, "rate_mbps": 40.0}, **AUTOSCALE)
    bad = scored.score(LESSONS, link={"delay_ms": 15.0, "rate_mbps": 40.0}, **AUTOSCALE)
    assert here == bad == 0.0 and good > 85.0
    scored.twin.close()


def test_what_is_scored_has_learned_from_every_lesson_and_leaves_nothing(tmp_path: Path) -> None:
    scored = Scored(tmp_path, {})
    before = set(scored.store.iterdir())
    learner: dict[str, Any] = {"method": "learner", "settings": {"strict": True, "learn": False}}
    with pytest.raises(AgentFailed, match="learner was evaluated before it learned"):
        scored.score(**learner)
    assert scored.score([Lesson(IDLE, 0.2, seed) for seed in range(2)], **learner) >= 0.0
    assert len(set(scored.store.iterdir()) - before) == 2
    scored.twin.close()
    assert set(scored.store.iterdir()) == before


def test_the_same_configuration_scores_the_same(tmp_path: Path) -> None:
    scored = Scored(tmp_path, {"edge": QUICK})
    link = {"delay_ms": 2.0, "jitter_ms": 4.0, "loss_pct": 5.0}
    assert len({scored.score(LESSONS, link=link, **AUTOSCALE) for _ in range(2)}) == 1


def test_what_a_run_left_that_was_killed_here_is_in_nobody_s_way(tmp_path: Path) -> None:
    scored = Scored(tmp_path, {})
    left = scored.store.parent / "trials" / "tuning1.1"
    left.mkdir(parents=True)
    (left / "trial.jsonl").write_text('{"seq":0,"kind":"start"}\n')
    assert scored.score(settings={"branch": "full"}) >= 0.0


def test_ctrl_c_ends_a_simulation_and_is_no_failed_trial(tmp_path: Path) -> None:
    def interrupted() -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conclude(Journal(str(tmp_path / "trial.jsonl"), VirtualClock()), interrupted)
