"""Bad input, one line of the promise a test: one clear message, the right exit code, no traceback, nothing lost.

Each test says what the user did wrong, runs the real command, and looks at what was said and what is on disk after.
"""
import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from db.store import Store
from tests.e2e.spine import PLUGINS, dump, edgefleet, query, start, wait_for, write_campaign

ROOT = Path(__file__).resolve().parents[2]
TABLES = ("trial", "attempt", "inference", "decision", "measurement", "event", "summary")


@pytest.fixture
def campaign(tmp_path, tiny_model):
    return write_campaign(tmp_path, tiny_model, "[devices.host]\n", repeats=1)


def refused(done, code, *said):
    """The command said what it should, with this exit code, on stderr alone, and without a traceback."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for words in said:
        assert words in done.stderr
    message = [line for line in done.stderr.splitlines() if line.startswith("edgefleet: ")]
    assert len(message) == 1, done.stderr


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def misspell(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def with_plugins_beside(campaign):
    """The campaign's plug-ins come from plugins/ beside it, where the test puts its own."""
    shutil.copytree(PLUGINS, campaign.parent / "plugins", dirs_exist_ok=True)
    misspell(campaign, str(PLUGINS), "plugins")


@pytest.mark.parametrize(("old", "new", "said"), [
    ("repeats", "repeat", "unknown key 'repeat'. Did you mean 'repeats'? Allowed here: exclude, fleet, matrix"),
    ("duration_s", "duration", "unknown key 'trial.duration'. Did you mean 'duration_s'?"),
    ('"adascale"', '"adascal"', "unknown method 'adascal' in"),
    ('"idle"', '"idel"', "Did you mean 'idle'?"),
    ('["digits"]', '["digist"]', "Did you mean 'digits'?"),
    ('device = ["*"]', 'device = ["hots"]', "unknown device 'hots'"),
    ('device = ["*"]', "device = []", "matrix.device is empty, so the campaign selects nothing"),
    ("[matrix]", 'exclude = [{ task = "digits", reason = "because" }]\n[matrix]',
     "'exclude' leaves nothing of 3 cells (because), so the campaign selects nothing"),
    ("seed = 3", "seed = three", "broken TOML: Invalid value (at line 3, column 8)"),
    ("duration_s = 0.6", "duration_s = -1", "trial.duration_s = -1: input should be greater than 0"),
], ids=["key", "nested key", "method", "trace", "task", "device", "no device", "all excluded", "TOML", "negative"])
def test_a_bad_campaign_file(campaign, tmp_path, old, new, said):
    misspell(campaign, old, new)
    home = tmp_path / "home"
    done = edgefleet("run", campaign, home=home)
    refused(done, 2, said, str(campaign))
    assert files_of(home) == []


@pytest.mark.parametrize("verb", ["plan", "build", "status"])
def test_every_verb_that_reads_a_campaign_says_the_same(campaign, tiny_home, verb):
    Store.open(tiny_home / "results.sqlite").close()
    misspell(campaign, "repeats", "repeat")
    refused(edgefleet(verb, campaign, home=tiny_home), 2, "unknown key 'repeat'. Did you mean 'repeats'?")


@pytest.mark.parametrize(("fleet", "said"), [
    ("[devices.host]\ntransprt = 'local'\n", "unknown key 'devices.host.transprt'. Did you mean 'transport'?"),
    ("[devices.host]\ntransport = 'locale'\n", "unknown transport 'locale'"),
    ("[devices.host\n", "broken TOML: "),
    ("", "the key 'devices' is missing"),
])
def test_a_bad_fleet_file(campaign, tmp_path, fleet, said):
    (tmp_path / "fleet.toml").write_text(fleet)
    refused(edgefleet("plan", campaign, home=tmp_path / "home"), 2, said, str(tmp_path / "fleet.toml"))
    refused(edgefleet("doctor", "--fleet", tmp_path / "fleet.toml", home=tmp_path / "home"), 2, said)


def test_a_file_that_is_not_there(campaign, tmp_path):
    done = edgefleet("run", campaign.with_name("spin.toml"), home=tmp_path / "home")
    refused(done, 2, "there is no campaign file", f"Did you mean {campaign}?")


def test_a_missing_data_set(campaign, tmp_path):
    plugins = tmp_path / "plugins" / "tasks"
    plugins.mkdir(parents=True)
    (plugins / "absent.py").write_text((ROOT / "tests" / "e2e" / "absent_task.py").read_text())
    with_plugins_beside(campaign)
    misspell(campaign, '["digits"]', '["absent"]')
    home = tmp_path / "home"
    for verb in ("plan", "build", "run"):
        refused(edgefleet(verb, campaign, home=home), 2, "the data set 'absent' is not in", "EDGEFLEET_DATA")
    assert files_of(home) == []


def test_a_trace_that_cannot_be_played(campaign, tmp_path):
    (tmp_path / "plugins" / "traces").mkdir(parents=True)
    (tmp_path / "plugins" / "traces" / "steep.csv").write_text("t_s,cpu_pct\n0,20\n1,120\n")
    with_plugins_beside(campaign)
    misspell(campaign, '"idle"', '"steep"')
    refused(edgefleet("plan", campaign, home=tmp_path / "home"), 2, "steep.csv: row 2: cpu_pct = 120")


def test_a_database_of_a_newer_schema(campaign, tiny_home):
    Store.open(tiny_home / "results.sqlite").close()
    database = tiny_home / "results.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
        connection.commit()
        connection.execute("pragma wal_checkpoint(truncate)")
    before = database.read_bytes()
    for words in (("plan", campaign), ("run", campaign), ("status",), ("show", "1"), ("ingest",), ("report",)):
        refused(edgefleet(*words, home=tiny_home), 2, str(database), "newer")
    assert database.read_bytes() == before


def test_a_file_that_is_no_database(campaign, tiny_home):
    (tiny_home / "results.sqlite").write_text("these are my notes, not a database " * 100)
    for words in (("run", campaign), ("status",)):
        refused(edgefleet(*words, home=tiny_home), 2, str(tiny_home / "results.sqlite"))
    assert (tiny_home / "results.sqlite").read_text().startswith("these are my notes")


def test_an_empty_database_is_none(campaign, tiny_home):
    """A disk that filled up while the database was made leaves such a file; it must not stop the next run."""
    (tiny_home / "results.sqlite").touch()
    planned = edgefleet("plan", campaign, "--json", home=tiny_home)
    assert planned.returncode == 0, planned.stderr
    ran = edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home)
    assert ran.returncode == 0, ran.stderr


def broken_runtime(tmp_path):
    """A folder that hides the installed onnxruntime from a Python that finds it first."""
    (tmp_path / "hide" / "onnxruntime").mkdir(parents=True)
    (tmp_path / "hide" / "onnxruntime" / "__init__.py").write_text("raise ImportError('no onnxruntime here')\n")
    return f"[devices.host]\nenv = {{ PYTHONPATH = '{tmp_path / 'hide'}' }}\n"


@pytest.mark.parametrize(("lacks", "said", "fix"), [
    ("python", "cannot start '/nowhere/python3'", "Python >= 3.6"), ("runtime", "onnxruntime", "pip install")])
def test_a_device_without_python_or_runtime(campaign, tmp_path, tiny_home, lacks, said, fix):
    lame = "[devices.host]\npython = '/nowhere/python3'\n" if lacks == "python" else broken_runtime(tmp_path)
    (tmp_path / "fleet.toml").write_text(lame + "[devices.well]\n")
    doctor = edgefleet("doctor", "--fleet", tmp_path / "fleet.toml", home=tiny_home)
    assert doctor.returncode == 3
    assert "host: error: " in doctor.stdout and said in doctor.stdout and fix in doctor.stdout
    done = edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in doctor.stderr + done.stderr
    states = query(tiny_home, "select device, state, count(*), max(error), max(blame) from trial group by 1, 2")
    assert sorted(states) == [("host", "skipped", 3, "DeviceUnsupported", "device"), ("well", "done", 3, None, None)]
    [(reason,)] = query(tiny_home, "select distinct reason from trial where device = 'host'")
    assert said in reason
    assert reason in edgefleet("status", campaign, home=tiny_home).stdout


def test_a_journal_cut_in_the_middle(campaign, tiny_home):
    assert edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home).returncode == 0
    before = dump(tiny_home, TABLES)
    journal = sorted((tiny_home / "journals").iterdir())[0]
    whole = journal.read_bytes()
    journal.write_bytes(gzip.compress(gzip.decompress(whole)[:-60]))
    cut = edgefleet("ingest", "--json", home=tiny_home)
    assert "Traceback" not in cut.stderr
    told = {one["journal"]: one for one in json.loads(cut.stdout)["journals"]}
    assert told[journal.name]["state"] == "crashed"
    assert {one["state"] for name, one in told.items() if name != journal.name} == {"done"}
    journal.write_bytes(whole[: len(whole) // 2])       # the gzip stream itself ends early
    assert edgefleet("ingest", journal, home=tiny_home).returncode == 0
    journal.write_bytes(whole)
    assert edgefleet("ingest", home=tiny_home).returncode == 0
    assert dump(tiny_home, TABLES) == before


def test_a_plugin_that_does_not_parse(campaign, tmp_path, tiny_home):
    (tmp_path / "plugins" / "adapters").mkdir(parents=True)
    (tmp_path / "plugins" / "adapters" / "mine.py").write_text('"""Mine."""\nclass Mine(\n')
    with_plugins_beside(campaign)
    misspell(campaign, '"adascale"', '"mine"')
    done = edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home)
    refused(done, 2, "mine.py")


HUNG = """from device_agents.seams import Adapter
from device_agents.wire import Decision
class Hung(Adapter):
    def start(self, view, learned):
        return Decision(view.branches[0].id)
    def decide(self, context, last):
        while True:
            pass
"""


def test_an_adapter_that_hangs_is_named_and_not_tried_again(campaign, tmp_path, tiny_home):
    (tmp_path / "plugins" / "adapters").mkdir(parents=True)
    (tmp_path / "plugins" / "adapters" / "hung.py").write_text(HUNG)
    with_plugins_beside(campaign)
    misspell(campaign, '"fixed-full", "fixed-smallest", "adascale"', '"hung"')
    impatient = "import sys\nfrom harness import runner\nfrom harness.cli import main\nrunner.SETUP_S = 3.0\nmain()"
    done = subprocess.run([sys.executable, "-c", impatient, "run", str(campaign), "--scheduler", "inline"], cwd=ROOT,
                          env={**os.environ, "EDGEFLEET_HOME": str(tiny_home)}, capture_output=True, text=True,
                          timeout=120, check=False)
    [(state, error, blame, message)] = query(tiny_home, "select state, error, blame, message from attempt")
    assert (state, error, blame) == ("failed", "AgentFailed", "user"), done.stderr
    assert "not done 3 s after its time: it was in adapters/hung.py, line 7, and was stopped there" in message


def test_a_second_run_at_the_same_time(campaign, tiny_home):
    misspell(campaign, "duration_s = 0.6", "duration_s = 3.0")
    first = start("run", campaign, "--scheduler", "inline", home=tiny_home)
    wait_for(tiny_home, "select count(*) from attempt", 1, first)
    refused(edgefleet("run", campaign, "--scheduler", "inline", home=tiny_home), 3, "in use by another `edgefleet run`")
    assert first.wait(timeout=120) == 0


FULL_DISK = r"""
set -e
mount -t tmpfs -o size="$6" tmpfs "$2"
cp -r "$1"/. "$2"
head -c "$6" /dev/zero > "$2/filler" 2>/dev/null || true
EDGEFLEET_HOME="$2" "$3" -m harness.cli run "$4" --scheduler inline > "$5/full.out" 2> "$5/full.err" \
    && code=0 || code=$?
rm "$2/filler"
EDGEFLEET_HOME="$2" "$3" -m harness.cli run "$4" --scheduler inline > "$5/free.out" 2> "$5/free.err" \
    && free=0 || free=$?
EDGEFLEET_HOME="$2" "$3" -m harness.cli plan "$4" --json > "$5/plan.json" 2> /dev/null
echo "$code $free"
"""


def test_a_full_disk(campaign, tmp_path, tiny_home):
    """In a mount namespace of its own, the home lies on a small file system that is filled to the last byte."""
    try:
        subprocess.run(["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", tmp_path],
                       check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs unshare(1) and leave to mount in a user namespace")
    home, out = tmp_path / "small", tmp_path / "out"
    home.mkdir()
    out.mkdir()
    size_b = 64 * 2**20 + 3 * sum(path.stat().st_size for path in tiny_home.rglob("*") if path.is_file())
    done = subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", FULL_DISK, "sh", tiny_home, home,
                           sys.executable, campaign, out, str(size_b)], capture_output=True, text=True, timeout=240,
                          cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, check=False)
    assert done.returncode == 0, done.stderr
    full, free = done.stdout.split()
    said = (out / "full.err").read_text()
    assert full in ("2", "3"), said
    assert "Traceback" not in said
    assert "space" in said or "full" in said
    assert free == "0", (out / "free.err").read_text()
    plan = json.loads((out / "plan.json").read_text())
    assert (plan["done"], plan["remaining"]) == (3, 0)
    shutil.rmtree(home)
