"""Install everything, then run: ``python3 run.py`` starts the app, ``python3 run.py test`` runs the tests.

Needs only Python 3.11 or newer. Packages are installed into ``.venv`` next to this file, and again only when a
requirements file changes. Further arguments are passed on (``python3 run.py --port 7870``, ``run.py test -k loop``).
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def set_up(requirements: Path) -> None:
    """Install ``requirements`` into ``.venv`` unless it is up to date."""
    wanted = hashlib.sha256()
    for path in sorted(HERE.glob("requirements*.txt")):
        wanted.update(path.read_bytes())
    stamp = ENVIRONMENT / f"{requirements.stem}.stamp"
    if stamp.exists() and stamp.read_text() == wanted.hexdigest():
        return
    if not PYTHON.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    print(f"Installing {requirements.name} into {ENVIRONMENT.name} (once; a few minutes) ...", flush=True)
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
    subprocess.run(pip, check=True)
    stamp.write_text(wanted.hexdigest())


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - the user's Python may be older
        print("Atelier needs Python 3.11 or newer; this is " + sys.version.split()[0] + ".")
        return 1
    testing = sys.argv[1:2] == ["test"]
    set_up(HERE / ("requirements-dev.txt" if testing else "requirements.txt"))
    apart = [
        "-n",
        str(min(os.cpu_count() or 1, 4)),
        "--dist",
        "loadfile",
    ]  # all tests of a file run in one process
    what = ["-m", "pytest", *apart, *sys.argv[2:]] if testing else [HERE / "app.py", *sys.argv[1:]]
    try:
        return subprocess.run([PYTHON, *what], cwd=HERE, check=False).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
