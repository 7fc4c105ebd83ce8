"""The library: the user's runs and the shipped examples, as cards and by id. Does not import torch."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from pipelines.data.subject import stored_photos, trigger_words
from pipelines.methods.specs import preset_of
from pipelines.models.inspection import read_header
from pipelines.runs.shipped import EXAMPLE_PREFIX, example_files, sequence_folders, shipped_run
from pipelines.runs.status import Card
from pipelines.runs.store import LIVE_STATES, MIXED, Run, RunStore

Signature = tuple[tuple[int, int], ...]  # (nanoseconds, bytes) of the files that a card is made from


class Library:
    """The runs of a store and the examples; facts read from files are cached until the files change."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self._facts: dict[Path, tuple[Signature, dict[str, Any]]] = {}

    def find(self, run_id: str) -> Run:
        """Return a user's run, or the finished run of an example. Raises ValueError for an unknown id."""
        run_id = str(run_id)
        if run_id.startswith(EXAMPLE_PREFIX):
            return shipped_run(run_id)
        return self.store.get(run_id)

    def own(self, run_id: str) -> Run:
        """Return a run that may be changed. Raises ValueError for a shipped example or an unknown id."""
        if str(run_id).startswith(EXAMPLE_PREFIX):
            raise ValueError("A shipped example cannot be changed; start your own run from it.")
        return self.store.get(str(run_id))

    def id_of(self, run_id: str) -> str:
        """Return the current id of a run: for an example, its example id instead of its original ``run_id``."""
        shipped = {name: path.parent / "run" for name, path in example_files().items()} | sequence_folders()
        for name, folder in shipped.items():
            with suppress(ValueError, KeyError, OSError):
                adapter = folder / "adapter.safetensors"
                if read_header(adapter)["__metadata__"]["run"] == run_id:
                    return EXAMPLE_PREFIX + name
        return run_id

    def examples(self, *, tab: str = "") -> list[dict[str, Any]]:
        """Return the shipped examples; ``run`` is the id of their finished run, ``photos`` are paths.

        With ``tab``, only the examples of that tab (the name of a method's tab; "train" if an example names none).
        """
        found = []
        for name, path in example_files().items():
            told = {"tab": "train"} | json.loads(path.read_text(encoding="utf-8"))
            photos = stored_photos(path.parent / told["run"])
            if tab in ("", told["tab"]):
                found.append(told | {"name": name, "run": EXAMPLE_PREFIX + name, "photos": photos})
        return found

    def shipped_sequences(self) -> dict[str, Run]:
        """Return the last run of each shipped sequence by the name of its run folder, such as "people-4"."""
        last = {name.rpartition("-")[0]: name for name in sequence_folders()}
        return {name: run for name, run in self.shipped_steps().items() if name in last.values()}

    def shipped_steps(self) -> dict[str, Run]:
        """Return every run of the shipped sequences by the name of its folder, such as "people-1"."""
        return {name: shipped_run(EXAMPLE_PREFIX + name) for name in sequence_folders()}

    def cards(self, *, shipped: bool = False) -> list[Card]:
        """Return a card for each of the user's runs, the newest first; with ``shipped`` the examples follow."""
        runs, broken = self.store.survey()
        cards = []
        for run in runs:
            try:
                cards.append(self.card(run))
            except (ValueError, KeyError, TypeError, AttributeError, OSError, OverflowError) as error:
                broken[run.id] = f"The run {run.id} cannot be shown; its folder is damaged ({error!r:.100})."
        cards += [Card(id=name, name=name, state="broken", broken=why) for name, why in broken.items()]
        for example in self.examples() if shipped else ():
            run = self.find(example["run"])
            cards.append(replace(self.card(run), id=example["run"], state="done", shipped=True))
        return cards

    def card(self, run: Run) -> Card:
        """Return the card of one run."""
        words = [str(run.config.get(name, "")) for name in ("identifier", "class_noun")]
        return Card(
            id=run.id,
            name=run.name,
            state=run.state,
            method=run.method,
            preset=preset_of(run.method, str(run.base.get("family", "")), run.config),
            created=run.created,
            identifier=words[0],
            class_noun=words[1],
            trigger=trigger_words(run.path, run.config),
            base=run.base["spec"],
            base_name=str(run.base.get("name") or Path(run.base["spec"]).name.capitalize()),
            notes=run.note,
            source=str(run.config.get("source", "")),
            origin=_origin(run.config),
            **self._facts_of(run),
        )

    def _facts_of(self, run: Run) -> dict[str, Any]:
        signature = _signature(run.path / "events.jsonl", run.path / "adapter.safetensors")
        known = self._facts.get(run.path)
        if known is None or known[0] != signature:
            events = run.events()
            facts = {
                "thumbnail": best_sample(run, events),
                "bytes": run.size(),
                "seconds": seconds_at_work(events),
                "trainable": trained_parameters(run),
                "kind": kind_of(run),
            }
            known = self._facts[run.path] = (signature, facts)
        return known[1]


def _origin(config: dict[str, Any]) -> str:
    """Return what a run that was not trained was made from: the parts of a combination, or the name of a file."""
    if "origin" in config:
        return str(config["origin"])
    told = str(config.get("file") or "")
    return told.partition(": ")[2] or told if config.get("source") == MIXED else told


def best_sample(run: Run, events: list[dict[str, Any]]) -> str | None:
    """Return the path of a run's best sample: from the step most similar to the subject, else the newest; or None."""
    likeness = {
        event["step"]: event["identity"]["value"]
        for event in events
        if event["kind"] == "similarity" and "value" in (event.get("identity") or {})
    }
    samples = [
        event
        for event in events
        if event["kind"] == "sample" and event["files"] and isinstance(event["files"][0], str)
    ]
    learned = [event for event in samples if event["step"] > 0] or samples
    for event in sorted(
        learned, key=lambda event: (likeness.get(event["step"], -1.0), event["t"]), reverse=True
    ):
        first = next(one for one in learned if one["step"] == event["step"])
        if (path := run.file(first["files"][0])).is_file():
            return str(path)
    return None


def seconds_at_work(events: list[dict[str, Any]]) -> float:
    """Return the seconds that a run was running, without interruptions.

    An interval in which the system clock was set back counts as 0.
    """
    total, working, latest = 0.0, False, 0.0
    for event in events:
        ending = event["kind"] == "state" and event["state"] not in LIVE_STATES
        begins = event["kind"] == "state" and not ending
        if working and not begins:  # a start without an end follows a killed process
            total += max(0.0, event["t"] - latest)
        if event["kind"] == "state":
            working = event["state"] == "running"
        latest = event["t"]
    return round(total, 1)


def trained_parameters(run: Run) -> int | None:
    """Return the number of trained values from the header of a run's adapter; None if there is no adapter.

    A sequence of concepts also stores the earlier ones, so its header tells how many values its own run trained.
    """
    try:
        header = read_header(run.file("adapter.safetensors"))
        if own := header.get("__metadata__", {}).get("trained_values"):
            return int(own)
    except (OSError, ValueError):
        return None
    kept = {"coordinates": header["coordinates"]} if "coordinates" in header else header
    return sum(prod(entry["shape"]) for name, entry in kept.items() if name != "__metadata__")


def kind_of(run: Run) -> str:
    """Return the kind of a run's adapter, a key of ``formats.table.KINDS``; "" if there is no adapter."""
    try:
        return str(read_header(run.file("adapter.safetensors")).get("__metadata__", {}).get("kind", ""))
    except (OSError, ValueError):
        return ""


def trained_as(run: Run) -> str:
    """Return the id under which a run was trained, from its adapter's header: a shipped copy has another one."""
    try:
        return str(read_header(run.file("adapter.safetensors"))["__metadata__"]["run"])
    except (OSError, ValueError, KeyError):
        return run.id


def trained_steps(run: Run) -> int | None:
    """Return the training step of a run's adapter; None if it is not in the header."""
    try:
        return int(read_header(run.file("adapter.safetensors"))["__metadata__"]["step"])
    except (OSError, ValueError, KeyError):
        return None


def adapter_hash(run: Run) -> str:
    """Return the sha256 of a run's adapter file, cached until the file changes; "" if there is none."""
    path = run.file("adapter.safetensors")
    try:
        facts = path.stat()
        return _sha256(path, facts.st_mtime_ns, facts.st_size)
    except OSError:
        return ""


@lru_cache(maxsize=256)
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_finished(run: Run) -> None:
    """Raise ValueError if a run has no finished adapter."""
    if not run.file("adapter.safetensors").is_file():
        raise ValueError(
            f"The run {run.name!r} has no finished adapter yet; wait for it, or stop and keep it."
        )


def _signature(*paths: Path) -> Signature:
    return tuple(_stamps(paths))


def _stamps(paths: tuple[Path, ...]) -> Iterator[tuple[int, int]]:
    for path in paths:
        with suppress(OSError):
            stat = path.stat()
            yield stat.st_mtime_ns, stat.st_size
