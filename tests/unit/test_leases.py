"""Device locks hold between processes, tokens only grow, and groups limit measured windows."""
import json
import subprocess
import sys
import threading
import time

import pytest

from harness.errors import DeviceNotReady
from harness.fleet import DeviceSpec, GroupSpec
from harness.leases import DeviceLock, Windows, lock_devices


def test_a_second_holder_is_refused_and_told_who_holds(tmp_path):
    with DeviceLock(tmp_path, "pi"), pytest.raises(DeviceNotReady, match=r"pi: in use by another .*process \d+"):
        DeviceLock(tmp_path, "pi").__enter__()


def test_the_token_grows_with_every_holder(tmp_path):
    tokens = []
    for _ in range(3):
        with DeviceLock(tmp_path, "pi") as lock:
            tokens.append(lock.token)
    assert tokens == sorted(set(tokens))


def test_a_token_grows_where_the_clock_was_set_back(tmp_path):
    ahead = time.time_ns() // 10**6 + 10**9
    (tmp_path / "pi.lock").write_text(json.dumps({"token": ahead}))
    with DeviceLock(tmp_path, "pi") as lock:
        assert lock.token == ahead + 1


def test_a_second_home_is_not_behind_the_first(tmp_path):
    """A device remembers the highest token, and a colleague's home has never heard of it."""
    for _ in range(3):
        with DeviceLock(tmp_path / "first", "pi") as first:
            time.sleep(0.002)
    with DeviceLock(tmp_path / "second", "pi") as second:
        assert second.token > first.token


def test_a_killed_holder_leaves_no_lock_and_its_token_counts(tmp_path):
    code = ("import sys, time, pathlib; from harness.leases import DeviceLock\n"
            f"lock = DeviceLock(pathlib.Path({str(tmp_path)!r}), 'pi').__enter__(); print(lock.token, flush=True)\n"
            "time.sleep(60)")
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    held = int(holder.stdout.readline())
    with pytest.raises(DeviceNotReady, match=str(holder.pid)):
        DeviceLock(tmp_path, "pi").__enter__()
    holder.kill()
    holder.wait()
    with DeviceLock(tmp_path, "pi") as lock:
        assert lock.token > held


def test_all_devices_or_none(tmp_path):
    with DeviceLock(tmp_path, "b") as b:
        with pytest.raises(DeviceNotReady), lock_devices(tmp_path, ["c", "a", "b"]):
            pass
        with lock_devices(tmp_path, ["c", "a"]) as tokens:      # a was let go
            assert sorted(tokens) == ["a", "c"] and min(tokens.values()) > b.token


def test_a_group_of_limit_one_never_measures_two_at_once():
    windows = Windows({"host": GroupSpec(limit=1), "hub": GroupSpec(limit=2)})
    together, most = 0, 0
    guard = threading.Lock()

    def measure(name, groups):
        nonlocal together, most
        with windows.measured(DeviceSpec(name=name, groups=groups)):
            with guard:
                together += 1
                most = max(most, together)
            time.sleep(0.02)
            with guard:
                together -= 1

    threads = [threading.Thread(target=measure, args=(f"d{n}", order)) for n in range(6)
               for order in [("host", "hub") if n % 2 else ("hub", "host")]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads), "groups taken in two orders wait for each other"
    assert most == 1


def test_turns_go_round_instead_of_to_the_one_that_just_ended():
    windows, order = Windows({"host": GroupSpec(limit=1)}), []
    ready = threading.Barrier(2)

    def lane(name):
        ready.wait()
        for _ in range(5):
            with windows.measured(DeviceSpec(name=name, groups=("host",))):
                order.append(name)
                time.sleep(0.02)

    threads = [threading.Thread(target=lane, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert "".join(order) in ("ababababab", "bababababa")


def test_a_trial_with_a_peer_holds_both_devices():
    windows, order = Windows({}), []
    ready = threading.Barrier(3)

    def lane(names, hold_s):
        ready.wait()
        with windows.measured(*(DeviceSpec(name=name, transport="ssh") for name in names)):
            order.append(("+", *names))
            time.sleep(hold_s)
            order.append(("-", *names))

    threads = [threading.Thread(target=lane, args=(names, 0.05)) for names in (("a", "b"), ("b", "a"), ("b",))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert [mark for mark, *_ in order] == ["+", "-"] * 3, "they share b, so they take turns"
