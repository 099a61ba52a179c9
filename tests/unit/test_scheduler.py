"""Retries by class, benching, and what is reported: with a Work of the test's own and no device."""
import pytest

from device_agents.seams import UserError
from harness.collected import Collected
from harness.config import PreflightSpec
from harness.errors import (
    AgentCrashed,
    AgentFailed,
    ConfigError,
    DeviceNotReady,
    DeviceRefused,
    DeviceUnreachable,
    DeviceUnsupported,
)
from harness.fleet import DeviceSpec, FleetSpec
from harness.health import LOOPING_AFTER, Health
from harness.runner import Bench
from harness.scheduler import Site, attempts, make_scheduler
from harness.seams import TrialResult
from tests.fakes import sample_trial


def play(script, trials=None, first=None, cooldown_s=0.0):
    """Run trials against `script`: per trial id, what each attempt raises (None: it is done)."""
    trials = trials or [sample_trial(id="t1", device="pi")]
    left = {name: list(steps) for name, steps in script.items()}
    reports, pauses = [], []

    def work(trial, attempt, report):
        report(TrialResult(trial.id, trial.device, attempt, "running", False))
        error = left[trial.id].pop(0)
        if error is not None:
            raise error
        return TrialResult(trial.id, trial.device, attempt, "done", True)

    def stopped(seconds):
        pauses.append(seconds)
        return False

    health = {name: Health(name) for name in ("pi", "edge")}
    attempts(trials, first or {}, work, reports.append, health, cooldown_s, stopped)
    ended = [(one.trial_id, one.attempt, one.state, one.final, one.error) for one in reports if one.state != "running"]
    return ended, [pause for pause in pauses if pause]


def test_a_crash_is_tried_once_more():
    ended, _ = play({"t1": [AgentCrashed("x"), None]})
    assert ended == [("t1", 1, "failed", False, "AgentCrashed"), ("t1", 2, "done", True, "")]


def test_a_second_crash_is_final():
    ended, _ = play({"t1": [AgentCrashed("x"), AgentCrashed("y")]})
    assert [one[3] for one in ended] == [False, True]


def test_what_the_agent_itself_says_is_never_tried_again():
    ended, _ = play({"t1": [AgentFailed("bad plug-in", blame="user")]})
    assert ended == [("t1", 1, "failed", True, "AgentFailed")]


def test_unsupported_is_skipped_with_its_reason():
    ended, _ = play({"t1": [DeviceUnsupported("no onnxruntime")]})
    assert ended == [("t1", 1, "skipped", True, "DeviceUnsupported")]


def test_not_ready_waits_for_the_cooldown_before_each_retry():
    ended, pauses = play({"t1": [DeviceNotReady("hot")] * 2 + [None]}, cooldown_s=60.0)
    assert [one[2] for one in ended] == ["failed", "failed", "done"]
    assert pauses == [60.0, 60.0]


def test_an_unreachable_device_is_benched_and_its_other_trials_stay_pending():
    trials = [sample_trial(id=name, device="pi") for name in ("t1", "t2", "t3")]
    ended, pauses = play({"t1": [DeviceUnreachable("gone")] * 4}, trials)
    assert [one[:3] for one in ended] == [("t1", 1, "failed"), ("t1", 2, "failed"), ("t1", 3, "failed"),
                                          ("t1", 4, "pending"), ("t2", 0, "pending"), ("t3", 0, "pending")]
    assert pauses == sorted(pauses) and len(set(pauses)) == 3, "each pause is longer than the last"


def test_an_unreachable_peer_is_benched_and_the_device_goes_on_without_it():
    gone = [DeviceUnreachable("edge: gone") for _ in range(4)]
    for error in gone:
        error.peer = "edge"
    trials = [sample_trial(id=name, device="pi", peers=peers)
              for name, peers in (("t1", ("edge",)), ("t2", ("edge",)), ("t3", ()))]
    ended, _ = play({"t1": gone, "t3": [None]}, trials)
    assert [one[:3] for one in ended[3:]] == [("t1", 4, "pending"), ("t2", 0, "pending"), ("t3", 1, "done")]


def test_a_device_that_keeps_crashing_is_benched():
    trials = [sample_trial(id=f"t{n}", device="pi") for n in range(LOOPING_AFTER + 1)]
    ended, _ = play({trial.id: [AgentCrashed("x")] * 2 for trial in trials}, trials)
    assert ended[-1][:3] == (f"t{LOOPING_AFTER}", 0, "pending")


@pytest.mark.parametrize(("error", "blame"), [(DeviceUnreachable("gone"), "link"), (DeviceRefused("a key"), "user"),
                                               (DeviceNotReady("hot"), "device")])
def test_what_is_left_to_a_benched_device_keeps_the_class_and_the_blame(error, blame):
    health = Health("pi")
    for _ in range(LOOPING_AFTER):
        health.failed(error)
    reports = []
    attempts([sample_trial(id="t1", device="pi")], {}, None, reports.append, {"pi": health}, 0.0, lambda _s: False)
    assert [(one.attempt, one.state, one.error, one.blame) for one in reports] == [
        (0, "pending", type(error).__name__, blame)]
    assert str(error) in reports[0].message


def test_the_users_mistakes_do_not_bench_a_device():
    trials = [sample_trial(id=f"t{n}", device="pi") for n in range(LOOPING_AFTER + 2)]
    ended, _ = play({trial.id: [AgentFailed("x", blame="user")] for trial in trials}, trials)
    assert all(one[2] == "failed" for one in ended)


def test_a_bug_of_ours_is_a_row_with_its_traceback_and_blame():
    reports = []

    def work(trial, attempt, report):
        raise ZeroDivisionError("oops")

    trial = sample_trial(id="t1", device="pi")
    attempts([trial], {}, work, reports.append, {"pi": Health("pi")}, 0.0, lambda _s: False)
    [result] = reports
    assert (result.state, result.final, result.blame) == ("failed", True, "harness")
    assert "ZeroDivisionError: oops" in result.message and "in work" in result.message


def test_a_users_mistake_on_the_way_is_blamed_on_the_user():
    ended, _ = play({"t1": [UserError("the bundle was changed")]})
    assert ended == [("t1", 1, "failed", True, "AgentFailed")]


def test_attempts_are_numbered_from_where_the_store_is():
    ended, _ = play({"t1": [AgentCrashed("x"), None]}, first={"t1": 5})
    assert [one[1] for one in ended] == [5, 6]


def test_each_class_of_error_has_its_own_retries():
    """A device that reboots is out of reach first; that its agent died is tried once more all the same."""
    steps = [DeviceUnreachable("x"), DeviceUnreachable("x"), AgentCrashed("x"), DeviceUnreachable("x"), None]
    ended, pauses = play({"t1": steps})
    assert [one[2] for one in ended] == ["failed"] * 4 + ["done"]
    assert pauses == [2.0, 4.0, 8.0]


def test_an_attempt_that_the_device_held_takes_no_number_again():
    """Attempts 3 and 4 got nowhere; then the device turned out to hold attempt 1, which had crashed."""
    reports, steps = [], [(3, DeviceUnreachable("x")), (4, DeviceUnreachable("x")), (1, AgentCrashed("x")), (5, None)]

    def work(trial, attempt, report):
        held, error = steps.pop(0)
        assert attempt == max(held, 5 if held == 1 else held)
        report(TrialResult(trial.id, trial.device, held, "running", False))
        if error is not None:
            raise error
        return TrialResult(trial.id, trial.device, held, "done", True)

    attempts([sample_trial(id="t1", device="pi")], {"t1": 3}, work, reports.append, {"pi": Health("pi")}, 0.0,
             lambda _s: False)
    assert [one.attempt for one in reports if one.state != "running"] == [3, 4, 1, 5]


def test_a_folder_goes_when_its_journal_is_stored_and_not_when_its_loss_is(tmp_path):
    """Attempt 1 is lost; while that is being stored, the retry brings its journal."""
    fleet = FleetSpec(devices={"pi": DeviceSpec(name="pi")})
    site = Site(Bench(str(tmp_path), fleet, {}, {}, {"pi": 1}, PreflightSpec(), ()))
    collected = site._runner._collected["pi"]
    lost = TrialResult("t1", "pi", 1, "failed", False, "DeviceUnreachable", "link", "gone")

    def may_go():
        with collected.leaving() as gone:
            return gone

    site.report(lost)
    assert site.next() == [lost]
    collected.add(("t1", 1))
    done = TrialResult("t1", "pi", 1, "done", True, journal=b"its")
    site.report(done)
    assert site.next() == [done] and may_go() == []
    assert site.next() is None and may_go() == [("t1", 1)]


def test_a_folder_that_could_not_be_removed_is_offered_again():
    collected = Collected([])
    collected.add(("t1", 1))
    collected.stored(("t1", 1))
    with pytest.raises(DeviceUnreachable), collected.leaving() as gone:
        collected.stored(("t2", 1))             # the driver, in the meantime
        raise DeviceUnreachable("pi: gone")
    assert gone == [("t1", 1)]
    with collected.leaving() as gone:
        assert sorted(gone) == [("t1", 1), ("t2", 1)]


def test_an_unknown_scheduler_names_its_near_miss():
    with pytest.raises(ConfigError, match="Did you mean 'inline'"):
        make_scheduler("inlin", None)
