"""What the end-to-end tests share: a small campaign on disk, the command line as a process, and a database as text."""
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

PLUGINS = Path(__file__).parents[1] / "plugins"
FLEET = """
[devices.host]
[devices.slow]
slowdown = 2.0
"""
SIMULATED_FLEET = """
[devices.sim-a]
transport = "simulated"
simulate = { full_ms = 20.0 }
[devices.sim-b]
transport = "simulated"
simulate = { full_ms = 35.0, contention = 2.0 }
"""
CAMPAIGN = """
name = "spine"
seed = 3
repeats = %(repeats)d
fleet = "fleet.toml"
plugins = "%(plugins)s"
[matrix]
device = ["*"]
task = ["digits"]
model = ["%(model)s"]
method = ["fixed-full", "fixed-smallest", "adascale"]
trace = [%(traces)s]
[methods.fixed-full]
adapter = "fixed"
branch = "full"
[methods.fixed-smallest]
adapter = "fixed"
branch = "smallest"
[trial]
engine = "%(engine)s"
duration_s = %(duration_s)s
warmup_s = 0.05
[training]
epochs = 1
"""
#: Columns that hold the controller's wall clock, a path or a process: they differ between two runs of the same thing.
VARYING = {"first_run_s", "last_run_s", "probed_s", "measured_s", "started_s", "ended_s", "token"}


def write_campaign(folder: Path, model: str, fleet: str = FLEET, engine: str = "onnxruntime_cpu", repeats: int = 2,
                   duration_s: float = 0.6, traces: str = '"idle"') -> Path:
    (folder / "fleet.toml").write_text(fleet)
    path = folder / "spine.toml"
    path.write_text(CAMPAIGN % {"model": model, "engine": engine, "repeats": repeats, "duration_s": duration_s,
                                "plugins": PLUGINS, "traces": traces})
    return path


_WORDS: dict[int, Path] = {}                     # of processes that were started: their stderr


def edgefleet(*words: object, home: Path, timeout_s: float = 180.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "harness.cli", *map(str, words)], capture_output=True, text=True,
                          timeout=timeout_s, env={**os.environ, "EDGEFLEET_HOME": str(home)}, check=False)


def start(*words: object, home: Path) -> subprocess.Popen[bytes]:
    """In the background; said() has its words."""
    path = home.with_name(f"{home.name}.stderr")
    with path.open("ab") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "harness.cli", *map(str, words)], stdout=subprocess.DEVNULL,
                                   stderr=stderr, env={**os.environ, "EDGEFLEET_HOME": str(home)},
                                   preexec_fn=_heed_ctrl_c)
    _WORDS[process.pid] = path
    return process


def said(process: "subprocess.Popen[bytes]") -> str:
    """The last of what it, and any that was started before it in its home, wrote to stderr."""
    return _WORDS[process.pid].read_text(errors="replace")[-2000:]


def _heed_ctrl_c() -> None:
    """Tests that were themselves started in the background inherit that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def planned(campaign: Path, home: Path) -> list[str]:
    done = edgefleet("plan", campaign, "--json", home=home)
    assert done.returncode == 0, done.stderr
    return [one["id"] for one in json.loads(done.stdout)["trials"]]


def query(home: Path, sql: str, *values: object) -> list[tuple]:
    with closing(sqlite3.connect(f"file:{home / 'results.sqlite'}?mode=ro", uri=True, timeout=30)) as database:
        return database.execute(sql, values).fetchall()


def wait_for(home: Path, sql: str, least: int, process: subprocess.Popen[bytes], timeout_s: float = 120.0) -> None:
    """Until `sql` counts at least so many rows, while the process lives."""
    give_up = time.monotonic() + timeout_s
    while time.monotonic() < give_up:
        if (home / "results.sqlite").is_file():
            try:
                if query(home, sql)[0][0] >= least:
                    return
            except sqlite3.OperationalError:            # its tables are being made
                pass
        assert process.poll() is None, "the run ended before it was killed; make the campaign longer"
        time.sleep(0.02)
    raise AssertionError(f"never: {sql}")


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)


def dump(home: Path, tables: tuple[str, ...]) -> dict[str, list[dict]]:
    """Rows of the tables without the columns that vary, in order of their keys."""
    found = {}
    with closing(sqlite3.connect(f"file:{home / 'results.sqlite'}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        for table in tables:
            rows = [{key: row[key] for key in row.keys() if key not in VARYING}  # noqa: SIM118  a Row iterates over values
                    for row in database.execute(f"select * from {table}")]
            found[table] = sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))
    return found
