"""The rate of a link as a device knows it: what a sample takes longer than a small frame, whatever delays either."""
import random

import pytest

from device_agents.peer import Known


@pytest.mark.parametrize("mbps", [5.0, 40.0, 200.0])
def test_jitter_and_a_busy_device_do_not_hide_the_rate(mbps: float) -> None:
    """A sample of 4.6 kB takes a millisecond at 40 Mbit/s, a fifth of its trip; a reading in three is late."""
    rng, known, size_b = random.Random(5), Known(), 4624
    read: list[float] = []
    for _ in range(200):
        small, large, work = (4.0 + extra + rng.uniform(0.0, 0.1) + (rng.random() < 0.33) * rng.uniform(0.0, 3.0)
                              for extra in (0.0, size_b * 8e-3 / mbps, size_b * 8e-3 / mbps))
        known.probed(small, large, size_b)
        known.worked(work, size_b)
        read.append(known.read()["net_mbps"] or 0.0)
    within = [one for one in read if 0.6 * mbps <= one <= 1.7 * mbps]
    assert len(within) >= 0.9 * len(read)


def test_a_frame_of_another_size_says_nothing_of_the_rate_and_what_is_forgotten_is_unknown() -> None:
    known = Known()
    assert known.read() == {"rtt_ms": None, "net_mbps": None}
    known.probed(2.0, 3.0, 5000)
    known.worked(2.1, 100)
    assert known.read() == {"rtt_ms": 2.0, "net_mbps": pytest.approx(40.0)}
    known.forget()
    assert known.read() == {"rtt_ms": None, "net_mbps": None}
