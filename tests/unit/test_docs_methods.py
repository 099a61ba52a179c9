"""docs/methods.md has a section for every method, and names every setting of it with its default."""
import re
from pathlib import Path

import pytest

import device_agents.adapters
import workloads.methods
from device_agents import registry

ROOT = Path(__file__).resolve().parents[2]
NAMES = registry.names("device_agents.adapters")


def section(name: str) -> str:
    text = (ROOT / "docs" / "methods.md").read_text()
    found = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/methods.md has no section for {name}"
    return found.group(1)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_is_published_what_is_ours_and_the_limits(name: str) -> None:
    text = section(name)
    assert "**Published:**" in text and "**Ours:**" in text
    assert "**Limits:**" in text or "does not win" in text


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_told_with_its_default(name: str) -> None:
    online = registry.load_module(device_agents.adapters.__name__, name)
    offline = registry.load_module(workloads.methods.__name__, name)
    rows = {}
    for row in re.findall(r"^\| (`.*?`) \| (.*?) \|", section(name), re.MULTILINE):
        rows.update(zip(re.findall(r"`(\w+)`", row[0]), row[1].split(", ")))
    for setting, default in {**getattr(offline, "DEFAULTS", {}), **getattr(online, "_DEFAULTS", {})}.items():
        assert setting in rows, f"{setting} of {name} is not documented"
        if default is not None:
            assert type(default)(rows[setting].strip("`")) == default, setting
