"""Shared fixtures. One thread is pinned before torch starts: OpenMP spins for minutes on a contended machine."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pipelines.models.base import Base


@pytest.fixture(autouse=True)
def atelier_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a data folder of its own."""
    home = tmp_path / "atelier-home"
    monkeypatch.setenv("ATELIER_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def base() -> "Base":
    """The embedded base, loaded once; a test that changes it must leave it as it was."""
    import torch

    from pipelines.models.base import load_base

    torch.set_num_threads(1)
    return load_base("embedded", device="cpu")
