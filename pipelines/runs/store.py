"""Run folders: everything about one result in one place, readable without torch.

A run is a folder ``runs/<id>`` with ``run.json`` (the settings), ``events.jsonl`` (everything that happened, one
line each) and files. The page is drawn from the events alone. A lock that the operating system drops when a
process dies distinguishes a live run from an interrupted one, even after ``kill -9``.
"""

import errno
import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock, FileLock, Timeout

from pipelines.config import clean_text
from pipelines.files import disk_sentences, folder_bytes, write_atomic, write_json

if TYPE_CHECKING:
    from pipelines.adapters.core import Adapter
    from pipelines.models.base import Base

log = logging.getLogger(__name__)

FORMAT = 1  # of run.json and events.jsonl
RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{12}")
IMPORTED = "import"  # the method of a run that was not trained here but loaded from a file
MIXED = "mixed"  # the source of such a run that was combined from others
LIVE_STATES = ("queued", "running", "stopping")
LIBRARIES = ("torch", "diffusers", "transformers", "peft", "safetensors")
DEFAULT_QUOTA_MB = 20_000
FINISHED = "finished"  # of a run that is trained further: what it was before
SNAPSHOTS = "snapshots"  # of a run: its adapter after earlier steps
DRAFT = ".draft-"  # of a folder's name while a run is filled
DELETED = ".deleted-"  # ... and while one is removed
LEFTOVER_S = 24 * 3600.0  # after which either is taken for what a crash left
FIELDS: dict[str, Any] = {
    "name": str,
    "method": str,
    "config": dict,
    "base": dict,
    "created": (int, float),
    "note": str,
    "versions": dict,
    "parents": list,
    "owner": str,
}  # of run.json, and what each must be
EVENT_FIELDS: dict[str, dict[str, Any]] = {
    "state": {"state": str},
    "step": {"step": int},
    "sample": {"step": int, "files": list},
    "similarity": {"step": int},
}  # without which an event is taken for a torn line
TAIL_BYTES = 2**16  # of the events, enough to hold the newest state of a run that has ended
_STATE_MARK = b'"kind": "state"'


def snapshot_name(step: int) -> str:
    """Return the file, within a run's folder, of its adapter after an earlier step."""
    return f"{SNAPSHOTS}/{step:06d}.safetensors"


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide a result, without importing them."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


@dataclass
class Run:
    """One run folder; ``config`` and ``base`` (spec, family, hash) are plain dicts as in run.json."""

    path: Path
    name: str
    method: str
    config: dict[str, Any]
    base: dict[str, Any]
    created: float  # unix seconds
    note: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    parents: list[str] = field(default_factory=list)  # ids of the runs that this one was built on
    owner: str = ""  # on a hosted copy; "" is the single owner of a local installation
    _whole: bool = field(default=False, repr=False)

    @property
    def id(self) -> str:
        """The folder's name, unguessable."""
        return self.path.name.removeprefix(DRAFT)

    @property
    def state(self) -> str:
        """The last recorded state; "interrupted" when that says alive but no process holds the run."""
        recorded = self.last_state().get("state", "queued")
        return "interrupted" if recorded in LIVE_STATES and not self.held() else recorded

    def last_state(self) -> dict[str, Any]:
        """Return the newest ``state`` event, or an empty dict."""
        for tail_bytes in (TAIL_BYTES, 0):
            for line in reversed(self._lines(tail_bytes)):
                if _STATE_MARK in line and (event := _parse(line)):
                    return event
        return {}

    @disk_sentences()
    def append(self, kind: str, **fields: Any) -> None:
        """Add one event line: ``{"t": unix seconds, "kind": kind, ...}``, in one write.

        Kinds: "created" (method, base, config, photos), "state" (state, message), "stage" (name, done, total), "step",
        "resumed" and "checkpoint" (step), "snapshot" (step, file), "sample" (step, prompt, seed, files, label, seconds),
        "similarity", "metrics", "leakage" (step, subjects, matrix, own: of methods with several subjects), "distance" (step,
        value, nearest, cosine: of inversion into a weight space), and "note" (text: a sentence for the user, shown once
        per run).

        Raises DiskError when the disk is full; a line that was cut short is no event.
        """
        line = json.dumps({"t": round(time.time(), 3), "kind": kind, **fields}, ensure_ascii=False) + "\n"
        descriptor = os.open(self.path / "events.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if not self._whole:
                line = _newline_if_torn(descriptor) + line
            content = line.encode()
            self._whole = False
            if os.write(descriptor, content) < len(content):
                raise OSError(errno.ENOSPC, "the disk is full", str(self.path / "events.jsonl"))
            self._whole = True
        finally:
            os.close(descriptor)

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """Return the events from number ``since`` on; a line torn by a crash is not an event. Do not change them."""
        return _LOGS.read(self.path / "events.jsonl")[since:]

    def file(self, name: str) -> Path:
        """Return the path of a file of this run; raises ValueError for a name that leads out of it."""
        path = (self.path / name).resolve()
        if not path.is_relative_to(self.path.resolve()):
            raise ValueError(f"{name!r} is not a file of this run.")
        return path

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of this run, atomically."""
        write_json(self.file(name), value)

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file of this run, or None when it does not exist."""
        path = self.file(name)
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def copy_out(self, name: str, to_dir: Path) -> Path:
        """Copy a file of this run into ``to_dir`` and return the copy; a browser never gets the original."""
        source = self.file(name)
        if not source.is_file():
            raise ValueError(f"This run has no file {name!r} yet.")
        to_dir.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy2(source, to_dir / f"{self.id}-{source.name}"))

    def keep_sample(self, picture: Path, *, prompt: str, seed: int) -> None:
        """Copy a picture as the sample of a run that was not trained here, which the Library then shows."""
        name = "samples/000000-0.png"
        self.file(name).parent.mkdir(exist_ok=True)
        write_atomic(self.file(name), picture.read_bytes())
        self.append("sample", step=0, prompt=prompt, seed=seed, files=[name], label="", seconds=0.0)

    @property
    def extended(self) -> bool:
        """Whether the run was finished before and is trained further, so that it can go back to that."""
        return self.file(FINISHED).is_dir()

    def set_aside(self) -> None:
        """Keep what the run is now, for :meth:`go_back`; its pictures stay where they are."""
        if self.extended:
            return
        unfinished = self.file(f"{FINISHED}.tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for path in self._own_files():
            _clone(path, unfinished / path.name)
        os.replace(unfinished, self.file(FINISHED))

    def go_back(self) -> None:
        """Restore what :meth:`set_aside` saved, with the run's current name and note."""
        now, kept = read_run(self.path), self.file(FINISHED)
        names = {path.name for path in kept.iterdir()}
        for path in self._own_files():
            if path.name not in names:
                path.unlink()
        for name in sorted(
            names, key=lambda name: name == "events.jsonl"
        ):  # the last one: they say that all is back
            _clone(kept / name, self.file(name))
        before = read_run(self.path)
        self.config, self.base, self.name, self.note = before.config, before.base, now.name, now.note
        self.save()
        known = {name for event in self.events() for name in (*event.get("files", ()), event.get("file", ""))}
        for folder in ("samples", SNAPSHOTS):
            for path in self.file(folder).glob("*"):
                if f"{folder}/{path.name}" not in known:
                    path.unlink()
        self.keep_extension()

    def keep_extension(self) -> None:
        """Delete what :meth:`set_aside` saved."""
        if self.extended:
            unneeded = self.file(f"{FINISHED}.tmp")
            os.replace(self.file(FINISHED), unneeded)
            shutil.rmtree(unneeded)

    def _own_files(self) -> list[Path]:
        return [path for path in self.path.iterdir() if path.is_file() and path.name != "lock"]

    def size(self) -> int:
        """Return the bytes on disk."""
        return folder_bytes(self.path)

    def save(self) -> None:
        """Write run.json."""
        self.write_json(
            "run.json",
            {
                "format": FORMAT,
                "name": self.name,
                "method": self.method,
                "config": self.config,
                "base": self.base,
                "created": self.created,
                "seed": self.config.get("seed", 0),
                "note": self.note,
                "versions": self.versions,
                "parents": self.parents,
                "owner": self.owner,
            },
        )

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Mark the run as alive while the block runs; raises ValueError when somebody else holds it."""
        lock = self.acquire()
        try:
            yield
        finally:
            lock.release()

    def acquire(self) -> BaseFileLock:
        """Take the run's lock and return it; releasing it (or the death of this process) lets go."""
        lock = _lock_of(self.path)
        try:
            return lock.acquire(timeout=2.0, poll_interval=0.02).lock  # held() takes it for an instant, too
        except Timeout:
            raise ValueError(
                f"The run {self.name!r} is already running; wait for it or stop it first."
            ) from None

    def held(self) -> bool:
        """Return whether a living process, this one included, holds the run."""
        return _held(self.path)

    def _lines(self, tail_bytes: int = 0) -> list[bytes]:
        """Return the whole lines of the events, or those in the last ``tail_bytes`` alone."""
        try:
            with (self.path / "events.jsonl").open("rb") as stream:
                skipped = max(0, stream.seek(0, os.SEEK_END) - tail_bytes) if tail_bytes else 0
                stream.seek(skipped)
                content = stream.read()
        except FileNotFoundError:
            return []
        lines = content[: content.rfind(b"\n") + 1].splitlines()
        return lines[1:] if skipped else lines


class RunStore:
    """All runs of an ``owner`` (None: of everybody) below one folder, which a web server must not serve.

    Another owner's run is treated as if it did not exist.
    """

    def __init__(self, root: Path, *, owner: str | None = "") -> None:
        self.root = root
        self.owner = owner
        self.folder = root / "runs"
        self._warned: set[str] = set()

    def create(self, method: str, config: dict[str, Any], base: dict[str, Any], *, name: str = "") -> Run:
        """Make a run folder. Raises ValueError when the disk or the quota has no room."""
        with self.draft(method, config, base, name=name) as run:
            pass
        return run

    @contextmanager
    def draft(
        self, method: str, config: dict[str, Any], base: dict[str, Any], *, name: str = ""
    ) -> Iterator[Run]:
        """Fill a new run inside the block: it appears whole when the block ends, and not at all when it raises.

        Raises ValueError when the disk or the quota has no room.
        """
        with disk_sentences():
            self.check_space()
            self._sweep()
            now = time.time()
            run_id = time.strftime("%Y%m%d-%H%M%S-", time.gmtime(now)) + secrets.token_hex(6)
            path = self.folder / f"{DRAFT}{run_id}"
            path.mkdir(parents=True, mode=0o700)
            run = Run(
                path=path,
                name=clean_text(name) or f"{method} {time.strftime('%Y-%m-%d %H:%M', time.localtime(now))}",
                method=method,
                config=config,
                base=base,
                created=now,
                versions=library_versions(),
                owner=self.owner or "",
            )
            try:
                run.save()
                yield run
                os.replace(path, self.folder / run_id)
                run.path = self.folder / run_id
            finally:
                shutil.rmtree(path, ignore_errors=True)

    def keep_adapter(self, adapter: "Adapter", base: "Base", *, config: dict[str, Any], name: str) -> str:
        """Make a finished run of an adapter that no training here has made, and return its id."""
        from pipelines.adapters.core import save_adapter

        about = {"spec": base.spec, "family": base.family, "hash": base.hash, "name": base.name}
        with self.draft(IMPORTED, config, about, name=name) as run:
            facts = {"name": run.name, "method": IMPORTED, "config": config, "base": about}
            save_adapter(run.file("adapter.safetensors"), adapter, extra=facts)
            run.append("created", method=IMPORTED, base=about, config=config, photos=0)
            run.append("state", state="done", message="")
        return run.id

    def get(self, run_id: str) -> Run:
        """Return a run. Raises ValueError when this owner has none of that id."""
        if RUN_ID.fullmatch(run_id) and (self.folder / run_id / "run.json").is_file():
            run = read_run(self.folder / run_id)
            if self._owns(run):
                return run
        raise ValueError(f"There is no run {run_id[:60]!r}; it may have been deleted.")

    def _owns(self, run: Run) -> bool:
        return self.owner is None or run.owner == self.owner

    def list(self) -> list[Run]:
        """Return all runs that can be read, the newest first; the log names any other, once."""
        return self.survey()[0]

    def survey(self) -> tuple["list[Run]", dict[str, str]]:
        """Return the runs as :meth:`list` does, and {folder's name: why it cannot be read} of all others."""
        found, broken = [], {}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if not RUN_ID.fullmatch(path.name) or not (path / "run.json").is_file():
                continue
            try:
                found.append(read_run(path))
            except (ValueError, RecursionError, OverflowError) as error:
                broken[path.name] = str(error)
                if path.name not in self._warned:
                    self._warned.add(path.name)
                    log.warning("A run is left out: %s", error)
        runs = sorted(filter(self._owns, found), key=lambda run: run.created, reverse=True)
        return runs, {} if self.owner else broken  # the owner of a broken run is unknown

    def rename(self, run_id: str, name: str) -> None:
        """Give a run another display name; its id stays."""
        run = self.get(run_id)
        run.name = clean_text(name) or run.name
        run.save()

    def note(self, run_id: str, text: str) -> None:
        """Keep a short note with a run."""
        run = self.get(run_id)
        run.note = clean_text(text)
        run.save()

    def delete(self, run_id: str) -> None:
        """Delete a run and all its files, even if it cannot be read. Raises ValueError while it is running."""
        folder, name = self.folder / run_id, run_id
        if run_id not in self.survey()[1]:
            name = self.get(run_id).name
        if _held(folder):
            raise ValueError(f"The run {name!r} is still running; stop it before deleting it.")
        doomed = folder.with_name(f"{DELETED}{run_id}")
        os.replace(folder, doomed)
        shutil.rmtree(doomed)

    def _sweep(self) -> None:
        """Remove what a crash has left of runs that were being made or deleted."""
        for folder in self.folder.glob(".*"):
            with suppress(FileNotFoundError):
                if (
                    folder.name.startswith((DRAFT, DELETED))
                    and time.time() - folder.stat().st_mtime > LEFTOVER_S
                ):
                    shutil.rmtree(folder, ignore_errors=True)

    def size(self) -> int:
        """Return the bytes of everything below the root."""
        return folder_bytes(self.root) if self.root.is_dir() else 0

    @disk_sentences()
    def check_space(self, needed_mb: float = 50.0) -> None:
        """Raise ValueError when the quota (ATELIER_QUOTA_MB) or the disk has no room for ``needed_mb``."""
        quota_mb = float(os.environ.get("ATELIER_QUOTA_MB") or DEFAULT_QUOTA_MB)
        used_mb = self.size() / 1e6
        if used_mb + needed_mb > quota_mb:
            raise ValueError(
                f"The data folder holds {used_mb:,.0f} MB of its {quota_mb:,.0f} MB and this needs "
                f"{needed_mb:,.0f} MB more; delete a run, or raise ATELIER_QUOTA_MB."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        free_mb = shutil.disk_usage(self.folder).free / 1e6
        if free_mb < needed_mb:
            raise ValueError(
                f"The disk has {free_mb:,.0f} MB left and this needs {needed_mb:,.0f} MB; free some first."
            )


def read_run(path: Path) -> Run:
    """Read a run folder at any location (examples ship some). Raises ValueError for an unknown format or damage."""
    try:
        data = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"There is no run {path.name!r}; it may have been deleted.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"The run {path.name} cannot be read; its run.json is damaged ({error}).") from None
    if not isinstance(data, dict):
        raise ValueError(f"The run {path.name} cannot be read; its run.json holds no table.")
    if data.get("format") != FORMAT:
        raise ValueError(
            f"The run {path.name} has format {str(data.get('format'))[:20]}; this program reads {FORMAT}."
        )
    told = {"note": "", "versions": {}, "parents": [], "owner": ""} | data
    for name, kind in FIELDS.items():
        if not isinstance(told.get(name), kind) or isinstance(told.get(name), bool):
            raise ValueError(f"The run {path.name} cannot be read; its run.json has no usable {name!r}.")
    if not isinstance(told["base"].get("spec"), str) or not isfinite(told["created"]):
        raise ValueError(
            f"The run {path.name} cannot be read; its run.json does not say its base or its time."
        )
    return Run(path=path, **{name: told[name] for name in FIELDS})


class _Logs:
    """The event logs read last, parsed: pages ask every second, and a long run has tens of thousands of lines.

    A log only grows, so what was read stays read; a file that is another one, or shorter, is read anew.
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self._lock = threading.Lock()
        self._read: dict[Path, tuple[int, int, list[dict[str, Any]]]] = {}  # inode, bytes, events

    def read(self, path: Path) -> list[dict[str, Any]]:
        """Return every event of a log; an absent one has none."""
        with self._lock:
            inode, position, events = self._read.pop(path, (0, 0, []))
            try:
                with path.open("rb") as stream:
                    facts = os.fstat(stream.fileno())
                    if facts.st_ino != inode or facts.st_size < position:
                        position, events = 0, []
                    stream.seek(position)
                    content = stream.read()
            except FileNotFoundError:
                return []
            whole = content[: content.rfind(b"\n") + 1]
            events = [*events, *filter(None, map(_parse, whole.splitlines()))] if whole else events
            while len(self._read) >= self.kept:
                del self._read[next(iter(self._read))]
            self._read[path] = (facts.st_ino, position + len(whole), events)
            return events


_LOGS = _Logs(kept=8)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    known = isinstance(event, dict) and isinstance(event.get("kind"), str) and _is_number(event.get("t"))
    if not known:
        return None
    for name, kind in EVENT_FIELDS.get(event["kind"], {}).items():
        value = event.get(name)
        if not isinstance(value, kind) or (
            kind is not str and isinstance(value, float) and not isfinite(value)
        ):
            return None
    return event


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _clone(source: Path, target: Path) -> None:
    """Make ``target`` the same as ``source``; tensors, which are only ever written anew, take no further space."""
    if target.exists() and target.samefile(source):  # which a rename would leave under both names
        return
    unfinished = target.with_name(f".{target.name}.part")
    unfinished.unlink(missing_ok=True)
    if source.suffix == ".safetensors":
        with suppress(OSError):  # a file system without links
            os.link(source, unfinished)
    if not unfinished.exists():
        shutil.copy2(source, unfinished)
    os.replace(unfinished, target)


def _newline_if_torn(descriptor: int) -> str:
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size == 0:
        return ""
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return "" if os.read(descriptor, 1) == b"\n" else "\n"


def _lock_of(folder: Path) -> BaseFileLock:
    """A lock that the operating system drops when the process dies; any thread may release it."""
    return FileLock(folder / "lock", thread_local=False)


def _held(folder: Path) -> bool:
    if not (folder / "lock").is_file():
        return False
    lock = _lock_of(folder)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False
