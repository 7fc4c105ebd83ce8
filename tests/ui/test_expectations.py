"""The tests and pictures that docs/expectations.md names exist."""

import re
from pathlib import Path

from screens import VISITS

ROOT = Path(__file__).resolve().parent.parent.parent
TOLD = (ROOT / "docs" / "expectations.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TOLD)
    assert len(named) > 40
    missing = [
        f"{file}::{name}"
        for file, name in named
        if f"def {name}(" not in (ROOT / "tests" / file).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_every_picture_that_is_named_is_taken() -> None:
    named = set(re.findall(r"picture `([\w-]+)`", TOLD))
    assert named <= set(VISITS)


def test_every_row_tells_what_shows_it() -> None:
    rows = [line for line in TOLD.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) >= 40
    assert all("::" in row or "picture `" in row for row in rows)
