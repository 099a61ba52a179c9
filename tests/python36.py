"""Runs the agent's own tests on a real Python 3.6, the oldest that a device may have. `make check` calls it.

A test file takes part when it imports device_agents and otherwise only the standard library, pytest and agent_kit.py;
it must then be written in Python 3.6 itself, and use no fixture of tests/conftest.py. The interpreter is found as
tests/conftest.py says; pytest and onnxruntime 1.10, the last of theirs for 3.6, go into .venv36 on first use. Without
an interpreter, or without a way to install, it says so and passes: the 3.6 floor is then held by vermin alone.
"""
import ast
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from conftest import find_python36

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv36"
STAMP = VENV / ".installed"
# pip 18, which Python 3.6 ships, ignores what Python a release asks for
PACKAGES = (("pip==21.3.1",), ("pytest==7.0.1", "onnxruntime==1.10.0", "numpy==1.19.5"))
ALLOWED = {"device_agents", "pytest", "numpy", "onnxruntime", "tests.agent_kit"}


def main() -> int:
    python36 = find_python36()
    if python36 is None:
        print("python3.6: none found (set EDGEFLEET_PYTHON36 to one); the agent's tests did not run on it")
        return 0
    if not STAMP.exists() and not install(python36):
        print("python3.6: could not install pytest 7.0.1 and onnxruntime 1.10; the agent's tests did not run on it")
        return 0
    files = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").rglob("test_*.py")) if is_agents(path)]
    if not files:
        print("python3.6: no test imports device_agents alone")
        return 1
    print("python3.6:", *files)
    command = [str(VENV / "bin/python"), "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(ROOT), "--noconftest",
               "-p", "no:cacheprovider", "--import-mode=prepend", *files]     # pytest 7.0.1's importlib hides tests/
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode


def install(python36: Path) -> bool:
    subprocess.run([python36, "-m", "venv", VENV], check=True)
    for packages in PACKAGES:
        pip = [VENV / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        done = subprocess.run(pip, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            print(done.stderr.strip())
            return False
    STAMP.touch()
    return True


def is_agents(path: Path) -> bool:
    """Whether a test file is about device_agents and imports only what a device with Python 3.6 can have."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            rooms.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            rooms.add(module if module.startswith("tests.") else module.partition(".")[0])
    return "device_agents" in rooms and rooms <= ALLOWED | sys.stdlib_module_names


if __name__ == "__main__":
    sys.exit(main())
