"""Campaign files: what a good one means, and one clear sentence for every mistake in a bad one."""
from pathlib import Path
from typing import Any

import pytest

from harness.config import CampaignSpec, load_campaign
from harness.errors import ConfigError

GOOD = """
name = "mine"
seed = 7
repeats = 2
plugins = "plugins"
preflight = { above_idle_c = 5, min_battery_pct = 40 }
exclude = [{ device = "sim-*", method = "still", reason = "no need" }]
[matrix]
device = ["host"]
task = ["toy"]
model = ["net"]
method = ["still-full", "mover"]
trace = ["flat", "made"]
[trial]
engine = "paper"
arrival = { kind = "poisson", rate = { hz = 10 } }
deadline = { ms = 80 }
residency = "cache:3"
duration_s = 12
[methods.still-full]
adapter = "still"
branch = "full"
"""

ENGINE = """'An engine of a processor that no controller needs to have.'
from device_agents.seams import Engine
class Paper(Engine):
    processor = "%s"
"""

ADAPTER = """from device_agents.seams import Adapter
class Still(Adapter):
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with plug-in files whose names the campaign may use; but for the engine only names matter here."""
    for name in ("adapters/still.py", "adapters/mover.py", "engines/paper.py", "tasks/toy.py", "models/net.py",
                 "traces/flat.csv", "traces/made.py"):
        path = tmp_path / "plugins" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "plugins/engines/paper.py").write_text(ENGINE % "gpu")
    for name in ("still", "mover"):
        (tmp_path / f"plugins/adapters/{name}.py").write_text(ADAPTER)
    return tmp_path


def load(folder: Path, text: str) -> CampaignSpec:
    path = folder / "c.toml"
    path.write_text(text)
    return load_campaign(path)


def knobs_of(spec: CampaignSpec, label: str) -> dict[str, Any]:
    return spec.knobs(spec.engine(label))


def test_results_carry_the_processor_of_their_engine(folder: Path) -> None:
    """Without a word in the campaign; where it says the same, nothing changes; the default engine adds nothing."""
    threads = '[trial.knobs]\nprocessor = "gpu"\nthreads = 2\n'
    assert knobs_of(load(folder, GOOD), "mover") == {"processor": "gpu"}
    assert knobs_of(load(folder, GOOD + threads), "mover") == {"processor": "gpu", "threads": 2}
    assert knobs_of(load(folder, GOOD.replace('"paper"', '"onnxruntime_cpu"')), "mover") == {}
    stated = GOOD.replace('"paper"', '"replay"') + '[trial.knobs]\nprocessor = "npu"\n'
    assert knobs_of(load(folder, stated), "mover") == {"processor": "npu"}


def test_a_method_with_an_engine_of_its_own_runs_on_that_one_s_processor(folder: Path) -> None:
    on_cpu, on_gpu = 'engine = "onnxruntime_cpu"\n', 'engine = "paper"\n'
    for knobs in ("", '[trial.knobs]\nprocessor = "gpu"\n'):
        spec = load(folder, GOOD + on_cpu + knobs)
        assert (knobs_of(spec, "still-full"), knobs_of(spec, "mover")) == ({}, {"processor": "gpu"})
    spec = load(folder, GOOD.replace(on_gpu, on_cpu) + on_gpu + "[trial.knobs]\nthreads = 2\n")
    assert knobs_of(spec, "still-full") == {"processor": "gpu", "threads": 2}
    assert knobs_of(spec, "mover") == {"threads": 2}
    spec = load(folder, GOOD.replace(on_gpu, on_cpu) + '[trial.knobs]\nprocessor = "cpu"\n')
    assert knobs_of(spec, "mover") == {"processor": "cpu"}      # as it always was: the id covers it
    (folder / "plugins/engines/paper.py").write_text(ENGINE % "tpu")
    with pytest.raises(ConfigError, match="'tpu'"):
        load(folder, GOOD.replace(on_gpu, on_cpu) + on_gpu)


@pytest.mark.parametrize(("knob", "own", "words"), [
    ("cpu", "gpu", "runs on gpu, not on cpu"), ("gpus", "gpu", "unknown processor 'gpus'"), ("gpu", "tpu", "'tpu'")])
def test_a_wrong_processor_is_refused(folder: Path, knob: str, own: str, words: str) -> None:
    (folder / "plugins/engines/paper.py").write_text(ENGINE % own)
    with pytest.raises(ConfigError, match=words):
        load(folder, GOOD + f'[trial.knobs]\nprocessor = "{knob}"\n')


def test_a_good_file(folder: Path) -> None:
    spec = load(folder, GOOD)
    assert spec.matrix.training_seed == (0,)
    assert spec.trial.arrival.model_dump(exclude_none=True) == {"kind": "poisson", "rate": {"hz": 10.0}}
    assert spec.trial.deadline.model_dump(exclude_none=True) == {"ms": 80.0}
    assert spec.method("still-full").adapter == "still"
    assert spec.method("still-full").settings == {"branch": "full"}
    assert (spec.method("mover").adapter, spec.method("mover").settings) == ("mover", {})
    assert spec.plugin_dirs == (str(folder / "plugins"),)
    assert spec.preflight.max_co_cpu_pct is None


def test_a_mark_of_unicode_at_the_start_is_no_mistake(folder: Path) -> None:
    assert load(folder, "\ufeff" + GOOD).name == "mine"


def test_the_defaults_are_relative_to_the_device(folder: Path) -> None:
    text = GOOD.replace('arrival = { kind = "poisson", rate = { hz = 10 } }\n', "")
    trial = load(folder, text.replace("deadline = { ms = 80 }", "")).trial
    assert trial.arrival.model_dump(exclude_none=True) == {"kind": "periodic", "rate": {"utilisation": 0.8}}
    assert trial.deadline.model_dump(exclude_none=True) == {"x_full": 1.3}


def test_fleet_is_relative_to_the_campaign_file(folder: Path) -> None:
    assert load(folder, 'fleet = "bench/fleet.toml"\n' + GOOD).fleet == folder / "bench" / "fleet.toml"


@pytest.mark.parametrize(("old", "new", "said"), [
    ("repeats", "repeat", "unknown key 'repeat'. Did you mean 'repeats'? Allowed here: exclude, fleet, matrix, method"),
    ("residency", "residancy", "unknown key 'trial.residancy'. Did you mean 'residency'? Allowed here: accuracy_floor"),
    ("above_idle_c", "above_idle", "unknown key 'preflight.above_idle'. Did you mean 'above_idle_c'?"),
    ('reason = "no need"', 'resaon = "x"', "unknown key 'exclude.0.resaon'. Did you mean 'reason'?"),
    ("hz = 10", "herz = 10", "unknown key 'trial.arrival.rate.herz'. Did you mean 'hz'?"),
    ('name = "mine"\n', "", "the key 'name' is missing"),
    ('name = "mine"', 'name = "../mine"', "name = '../mine' is no name: letters, digits"),
    ('name = "mine"', 'name = "mine.part"', "must not end in '.' or '.part'"),
    ("duration_s = 12", "duration_s = -12", "trial.duration_s = -12: input should be greater than 0"),
    ("duration_s = 12", 'duration_s = "12"', "trial.duration_s = '12': a number is needed, without quotes"),
    ("duration_s = 12", "duration_s = nan", "trial.duration_s = nan is not a finite number"),
    ('branch = "full"', "branch = 2026-01-01", "methods.still-full.branch = 2026-01-01 is a date"),
    ("repeats = 2", "repeats = 0", "repeats = 0"),
    ("repeats = 2", "repeats = true", "repeats = True"),
    ("seed = 7", "seed = -1", "seed = -1"),
    ('"cache:3"', '"cache:0"', "trial.residency: 'cache:0' is none of: all, one, cache:K"),
    ('"cache:3"', '"some"', "trial.residency: 'some' is none of"),
    ('kind = "poisson"', 'kind = "posson"', "trial.arrival.kind = 'posson'"),
    ('kind = "poisson"', 'kind = "closed"', "trial.arrival: a closed loop has no rate"),
    (", rate = { hz = 10 }", "", "trial.arrival: poisson arrivals need a rate"),
    ("hz = 10", "hz = 10, utilisation = 0.5", "trial.arrival.rate: state one of"),
    ("hz = 10", "hz = 0", "trial.arrival.rate.hz = 0"),
    ("{ ms = 80 }", "{ ms = 80, x_full = 2 }", "trial.deadline: state one of"),
    ('device = "sim-*", method = "still", ', "", "exclude.0: state at least one of device, task"),
    ('adapter = "still"', "", "the key 'methods.still-full.adapter' is missing"),
    ('["still-full", "mover"]', '["still-full", "movr"]', "unknown method 'movr'"),
    ('adapter = "still"', 'adapter = "stil"', "unknown adapter 'stil'"),
    ('engine = "paper"', 'engine = "papr"', "unknown engine 'papr'"),
    ('task = ["toy"]', 'task = ["toi"]', "unknown task 'toi'"),
    ('model = ["net"]', 'model = ["nte"]', "unknown model 'nte'"),
    ('trace = ["flat", "made"]', 'trace = ["flat", "mode"]', "unknown trace 'mode'"),
    ('trace = ["flat", "made"]', 'trace = "flat"', "matrix.trace = 'flat': a list is needed, in brackets"),
    ("seed = 7", "seed = '7'", "seed = '7': a whole number is needed, without quotes"),
    ("repeats = 2", "repeats = 2.5", "repeats = 2.5: a whole number is needed"),
    ('name = "mine"', "name = 3", "name = 3: text is needed, in quotes"),
    ('plugins = "plugins"', "plugins = 3", "plugins = 3: a path is needed, in quotes"),
    ("{ ms = 80 }", "80", "trial.deadline = 80: a table is needed, as { key = ... }"),
    ('plugins = "plugins"', 'plugins = "plugin"', "is no folder (it is relative to the campaign file)"),
    ("seed = 7", "seed = ", "broken TOML: Invalid value (at line 3, column 8)"),
])
def test_every_mistake_is_told_in_one_sentence(folder: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        load(folder, GOOD.replace(old, new))
    assert said in str(caught.value)
    assert str(folder / "c.toml") in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("old", "new", "said"), [
    ('branch = "full"', "brunch = 1", "fixed has no setting 'brunch'; there is: branch"),
    ('"still"\nbranch = "full"', '"adascale"\npatience = 0', "adascale: patience must be a whole number within 1..1e"),
    ('"still"\nbranch = "full"', '"adaspring"\nform = "x"', "adaspring: form must be select or evolve, is 'x'"),
    ('"still"\nbranch = "full"', '"autoscale"\nthreads = [0]', "autoscale: threads must be whole numbers from 1 to 64"),
    ('"still"\nbranch = "full"', '"adadeep"\nfinetune = 3', "adadeep has no setting 'finetune'; there is: branch, bud"),
    ('"still"\nbranch = "full"', '"random"\nevery = true', "random: every must be a whole number within 1..1e+09"),
    ('"still"\nbranch = "full"', '"greedy"\nheadroom = "x"', "greedy: headroom must be a number within 0..10, is 'x'"),
])
def test_a_setting_that_makes_no_sense_is_told_before_anything_is_built(
        folder: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder, GOOD.replace(old, new).replace('adapter = "still"', 'adapter = "fixed"'))
    assert str(caught.value).startswith(f"{folder / 'c.toml'} (methods.still-full): {said}")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("engine", ["onnxruntime_cpu", "remote"])
@pytest.mark.parametrize(("knobs", "said"), [
    ("thread = 2", "engine onnxruntime_cpu has no knob thread; there is: threads, cpus, processor"),
    ("threads = true", "knob threads must be a whole number >= 1, is True"),
    ('cpus = "0-3"', "knob cpus must be a list of core numbers, as [0, 1], is '0-3'"),
])
def test_a_knob_that_makes_no_sense_is_told_before_anything_is_built(
        folder: Path, engine: str, knobs: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder, GOOD.replace('engine = "paper"', f'engine = "{engine}"\nknobs = {{ {knobs} }}'))
    assert str(caught.value) == f"{folder / 'c.toml'} (trial.knobs): {said}"


@pytest.mark.parametrize("name", ["adapters/fixed.py", "sensors/cpu.py", "methods/adascale.py", "traces/ramp.py",
                                  "traces/idle.csv", "traces/ramp.csv"])
def test_a_file_that_one_of_ours_would_be_taken_for_is_refused(folder: Path, name: str) -> None:
    file = folder / "plugins" / name
    file.parent.mkdir(exist_ok=True)
    load(folder, GOOD)
    file.touch()
    with pytest.raises(ConfigError, match=f"{file} has the name of one of edgefleet's own {file.parent.name}"):
        load(folder, GOOD)


@pytest.mark.parametrize(("old", "new", "near"), [
    ('"movr"', "matrix.method", "'mover'"), ('"mode"', "matrix.trace", "'made'")])
def test_a_misspelt_plugin_says_where_and_what_is_near(folder: Path, old: str, new: str, near: str) -> None:
    text = GOOD.replace('"mover"]', '"movr"]') if "movr" in old else GOOD.replace('"made"]', '"mode"]')
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    assert f"({new}). Did you mean {near}? There is: " in str(caught.value)


def test_all_mistakes_of_a_file_are_told_at_once(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder, GOOD.replace("repeats", "repeat").replace("residency", "residancy"))
    assert len(str(caught.value).splitlines()) == 2
