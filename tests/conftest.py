"""Shared fixtures. One thread is set before torch is imported: OpenMP can spin for minutes on a busy machine."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
# A server that stops deletes its copies; servers of parallel processes would share copies of the same content.
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="atelier-tests-")
atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)

if TYPE_CHECKING:
    from pipelines.models.base import Base


@pytest.fixture(autouse=True)
def atelier_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test its own data folder."""
    home = tmp_path / "atelier-home"
    monkeypatch.setenv("ATELIER_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def base() -> "Base":
    """The embedded base, loaded once per session. A test that changes it must restore it."""
    import torch

    from pipelines.models.base import load_base

    torch.set_num_threads(1)
    return load_base("embedded", device="cpu")
