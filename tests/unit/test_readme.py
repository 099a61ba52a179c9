"""What the README shows may be pasted: its sample of a method is held to the contract of every adapter."""
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_method_that_it_shows_keeps_the_contract(tmp_path: Path) -> None:
    shown = re.search(r"```python\n((?:(?!```).)*\(Adapter\):.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "mine.py").write_text(shown[1])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-qk", "mine", "-p", "no:cacheprovider", "tests/contract/test_adapters.py"],
        cwd=ROOT, env={**os.environ, "EDGEFLEET_PLUGINS": str(tmp_path)}, capture_output=True, text=True, timeout=120,
        check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^[.]{5,} ", done.stdout, re.MULTILINE), "no test was selected"
