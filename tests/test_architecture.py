"""The house rules that a machine can check. DESIGN.md says why they are what they are."""
import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.agent_zip import build_agent
from harness.config import (
    ArrivalSpec,
    CampaignSpec,
    DeadlineSpec,
    ExcludeSpec,
    MatrixSpec,
    PreflightSpec,
    RateSpec,
    TrialSpec,
)
from harness.fleet import DeviceSpec, FleetSpec, GroupSpec
from harness.spec_file import Spec

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("device_agents", "workloads", "harness", "db", "reports")
PLUGIN_FOLDERS = (
    "device_agents/adapters", "device_agents/engines", "device_agents/sensors", "device_agents/energy",
    "workloads/methods", "workloads/models", "workloads/tasks", "workloads/traces", "reports/tables",
    "reports/figures", "harness/transports",
)
AGENT_MAX_BYTES = 150 * 1024
LINES_MAX = 400
#: file -> why it may be longer than LINES_MAX
LONG_FOR_A_REASON: dict[str, str] = {}
VAGUE_FILES = ("utils.py", "util.py", "helpers.py", "common.py", "base.py", "manager.py", "misc.py")
#: a quantity without its unit
VAGUE_NAMES = ("time", "energy", "memory", "latency", "power", "duration", "temperature", "timeout", "interval")
HEAVY = ("torch", "ray", "sqlalchemy", "alembic", "matplotlib", "scipy", "sklearn", "paramiko", "onnx", "onnxruntime")


def tracked() -> list[Path]:
    """Files in git, or, outside a checkout, every file that is not hidden and not built."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode == 0 and done.stdout:
        paths = [ROOT / name for name in done.stdout.decode().split("\0") if name]
        return [path for path in paths if path.is_file()]
    built = {"build", "dist", "__pycache__"}
    return [path for path in ROOT.rglob("*") if path.is_file()
            and not any(part.startswith(".") or part in built for part in path.relative_to(ROOT).parts)]


def python(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *argv], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def sources(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def plugin_files(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py")


def modules(room: str) -> list[str]:
    """Dotted names of a room's modules, without __main__, which would run."""
    return [named(path)[:-3].replace("/", ".").removesuffix(".__init__") for path in sources(room)
            if path.name != "__main__.py"]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def test_agent_stays_small(tmp_path: Path) -> None:
    assert build_agent(tmp_path).path.stat().st_size <= AGENT_MAX_BYTES


def test_agent_imports_nothing_but_the_standard_library() -> None:
    """Every module of the agent, imported by an interpreter that cannot see site-packages."""
    code = (f"import sys, importlib\nsys.path.insert(0, {str(ROOT)!r})\n"
            "for name in sys.argv[1:]: importlib.import_module(name)")
    done = python("-I", "-S", "-c", code, *modules("device_agents"))
    assert done.returncode == 0, done.stderr


def test_command_line_imports_nothing_heavy() -> None:
    """`edgefleet --help` must be instant: verbs import what they need when they run."""
    code = ("import sys, importlib\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
            f"print(*[name for name in {HEAVY!r} if name in sys.modules])")
    done = python("-c", code, *modules("harness/cli"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_import_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", PLUGIN_FOLDERS)
def test_every_plugin_says_what_it_is(folder: str) -> None:
    silent = [named(path) for path in plugin_files(folder) if len(docstring(path)) < 20]
    assert not silent, "no module docstring"


@pytest.mark.parametrize("folder", ["workloads/methods", "device_agents/adapters"])
def test_method_files_open_with_the_paper(folder: str) -> None:
    """The first paragraph names the paper and its year, or says that this is a baseline and no paper's."""
    def opening(path: Path) -> str:
        return docstring(path).split("\n\n")[0]

    anonymous = [named(path) for path in plugin_files(folder)
                 if not re.search(r"\b(19|20)\d\d\b|\bbaseline\b", opening(path))]
    assert not anonymous


def test_init_files_are_empty() -> None:
    full = [named(path) for path in sources(*ROOMS) if path.name == "__init__.py" and path.read_text().strip()]
    assert set(full) <= {"harness/cli/__init__.py"}


def test_every_file_has_a_name_that_says_something() -> None:
    assert not [named(path) for path in sources(*ROOMS, "tests") if path.name in VAGUE_FILES]


def test_every_module_has_a_docstring() -> None:
    assert not [named(path) for path in sources(*ROOMS, "tests") if path.name != "__init__.py" and not docstring(path)]


def test_no_file_grows_without_a_reason() -> None:
    long = {named(path) for path in sources(*ROOMS, "tests") if len(path.read_text().splitlines()) > LINES_MAX}
    assert long == set(LONG_FOR_A_REASON)


def annotated_names(path: Path) -> Iterator[str]:
    """Names of fields, variables and arguments that are declared with a type of number."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name, annotation = node.target.id, node.annotation
        elif isinstance(node, ast.arg) and node.annotation is not None:
            name, annotation = node.arg, node.annotation
        else:
            continue
        if re.search(r"\b(float|int)\b", ast.unparse(annotation)):
            yield name


def test_quantities_carry_their_unit() -> None:
    assert not [f"{named(path)}: {name}" for path in sources(*ROOMS) for name in annotated_names(path)
                if name in VAGUE_NAMES]


def test_our_own_code_is_never_mocked() -> None:
    word = "mo" + "ck"
    pattern = re.compile(rf"unittest.*\b{word}\b|\b{word}\.patch")
    assert not [named(path) for path in sources("tests") if pattern.search(path.read_text())]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "DESIGN.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands_in(document: Path) -> list[str]:
    """Lines of fenced blocks and inline code: what a reader would type."""
    text = document.read_text()
    blocks = re.findall(r"```(?:sh|console|bash)?\n(.*?)```", text, re.DOTALL)
    fenced = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return fenced + re.findall(r"`([^`\n]+)`", text)


def test_links_between_documents_lead_somewhere() -> None:
    broken = [f"{named(document)}: {target}" for document in documents()
              for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
              if not (document.parent / target).exists()]
    assert broken == []


def test_documented_make_commands_exist() -> None:
    typed = {match for document in documents() for line in commands_in(document)
             for match in re.findall(r"^make ([a-z]+)\b", line)}
    assert {"run", "test"} <= typed <= make_targets()


def test_documented_verbs_exist_and_every_verb_is_documented() -> None:
    """docs/cli.md has a heading a verb, and no document tells the reader to type a verb that is not there."""
    verbs = {path.stem for path in sources("harness/cli") if not path.name.startswith("_")}
    headings = re.findall(r"^#+ `?edgefleet ([a-z]+)", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE)
    typed = {match for document in documents() for line in commands_in(document)
             for match in re.findall(r"^(?:\.venv/bin/)?edgefleet ([a-z]+)\b", line)}
    assert sorted(verbs - set(headings)) == []
    assert sorted(typed - verbs) == []


def test_help_lists_every_verb() -> None:
    edgefleet = Path(sys.executable).with_name("edgefleet")
    done = subprocess.run([edgefleet, "--help"], capture_output=True, text=True, timeout=60, check=True)
    for path in sources("harness/cli"):
        assert path.name.startswith("_") or re.search(rf"^\W+{path.stem}\b", done.stdout, re.MULTILINE), path.stem


@pytest.mark.parametrize("model", [
    CampaignSpec, MatrixSpec, TrialSpec, PreflightSpec, ExcludeSpec, ArrivalSpec, RateSpec, DeadlineSpec, FleetSpec,
    DeviceSpec, GroupSpec], ids=lambda model: model.__name__)
def test_every_key_of_campaign_and_fleet_is_documented(model: type[Spec]) -> None:
    """Each key is named in code font or in an example of docs/campaigns.md."""
    code = " ".join(commands_in(ROOT / "docs" / "campaigns.md"))
    assert not [key for key in model.model_fields if key != "name" and not re.search(rf"\b{key}\b", code)]


def test_constraints_pin_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = {re.split("[=<>!~ ]", line)[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert not [name for name in wanted if re.split("[=<>!~ ;[]", name)[0].lower() not in pinned]


def test_nothing_tells_where_it_was_made() -> None:
    """No path of a developer's machine and no host of a package registry: both rot, and neither is the reader's."""
    dot, slash = re.escape("."), "/"
    words = [slash + "work" + slash, slash + "root" + slash, slash + "tmp" + slash + "bash", "pypi" + dot + "org",
             "python" + "hosted", "registry" + dot + "npm", "deb" + dot + "debian" + dot]
    pattern = re.compile("|".join(words).encode())
    found = {named(path): pattern.search(path.read_bytes()) for path in tracked()}
    assert not {name: match.group().decode() for name, match in found.items() if match}
