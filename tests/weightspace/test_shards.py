"""Shards of a population: independent, resumable, idempotent; Ray gives the same bits, also when a worker is killed."""

import importlib.util
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.config import LoopConfig
from pipelines.models.base import Base, load_base
from pipelines.weightspace import engines
from pipelines.weightspace.engines import train_population
from pipelines.weightspace.population import PopulationConfig, initial_weights
from pipelines.weightspace.shards import Population, ShardInputs, train_shard
from tests.tiny import same_tensors
from tests.weightspace.test_population import PROMPTS, random_moments

TINY = PopulationConfig(
    loop=LoopConfig(steps=2, learning_rate=1e-3), targets="attention", prior_weight=0.5, identities_at_once=2
)


def begin(folder: Path, base: Base, *, shards: int = 2, config: PopulationConfig = TINY) -> Population:
    """Write a population of two identities per shard with random pictures."""
    population = Population.create(folder, base, config, prompts=PROMPTS, attributes=("glasses",))
    population.write_class_images(random_moments(2, seed=99))
    for shard in range(shards):
        names = [f"p{2 * shard}", f"p{2 * shard + 1}"]
        population.write_people(shard, random_moments(4, seed=shard), np.asarray([[0.0], [1.0]]), names)
    return population


@pytest.fixture(scope="module")
def finished(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Population:
    population = begin(tmp_path_factory.mktemp("population") / "whole", base)
    assert train_population(population, base=base) == [0, 1]
    return population


def same_weights(one: Population, other: Population) -> bool:
    return all(same_tensors(one.weights_path(shard), other.weights_path(shard)) for shard in one.shards())


def test_the_rows_of_all_shards(finished: Population, base: Base) -> None:
    rows = finished.weights()
    assert (len(rows), rows.size) == (4, finished.size)
    whole = torch.cat(list(rows.blocks()))
    assert rows.columns(10, 30).equal(whole[:, 10:30])
    assert finished.names() == ("p0", "p1", "p2", "p3")
    assert finished.labels().flatten().tolist() == [0, 1, 0, 1]
    start = initial_weights(finished.keys, finished.config)
    assert all(not row.equal(start) for row in whole)
    assert len({tuple(row.tolist()) for row in whole}) == 4


def test_a_finished_population_is_not_trained_again(finished: Population, base: Base) -> None:
    times = [finished.weights_path(shard).stat().st_mtime_ns for shard in finished.shards()]
    again = Population.open(finished.folder)
    assert again == finished
    assert again.pending() == []
    assert train_population(again, base=base) == []
    assert [finished.weights_path(shard).stat().st_mtime_ns for shard in finished.shards()] == times


def test_an_interrupted_run_continues_with_the_same_result(
    finished: Population, base: Base, tmp_path: Path
) -> None:
    population = begin(tmp_path / "interrupted", base)

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_population(population, base=base, on_shard=stop)
    assert population.pending() == [1]
    with pytest.raises(ValueError, match="1 of 2 shards of the population have no weights yet"):
        population.weights()
    assert train_population(population, base=base) == [1]
    assert same_weights(finished, population)


def test_a_damaged_or_outdated_shard_is_trained_again(base: Base, tmp_path: Path) -> None:
    population = begin(tmp_path, base, shards=1)
    train_population(population, base=base)
    whole = population.weights_path(0).read_bytes()
    population.weights_path(0).write_bytes(whole[:40])
    assert population.pending() == [0]
    population.weights_path(0).write_bytes(whole)
    assert population.pending() == []
    population.write_people(0, random_moments(4, seed=50), np.asarray([[0.0], [1.0]]), ["p0", "p1"])
    assert population.pending() == [0]


def test_other_settings_are_refused(finished: Population, base: Base) -> None:
    with pytest.raises(ValueError, match=r"begun with other settings \(config\)"):
        Population.create(
            finished.folder, base, replace(TINY, alpha=3.0), prompts=PROMPTS, attributes=("glasses",)
        )


def test_another_base_is_refused(finished: Population, base: Base, tmp_path: Path) -> None:
    other = replace(begin(tmp_path, base, shards=1), base_hash="0" * 64)
    with pytest.raises(ValueError, match="belongs to the base 000000000000"):
        train_population(other, base=base)


@pytest.mark.parametrize(
    ("content", "sentence"), [(None, "There is no population"), ("{}", "does not describe a population")]
)
def test_a_folder_without_a_population(tmp_path: Path, content: str | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "population.json").write_text(content)
    with pytest.raises(ValueError, match=sentence):
        Population.open(tmp_path)


def test_an_unknown_engine_is_refused(finished: Population, base: Base) -> None:
    with pytest.raises(ValueError, match="no engine 'slurm'; choose one of process, ray"):
        train_population(finished, engine="slurm", base=base)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_ray_is_optional(base: Base, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"needs Ray; install it with pip install -r requirements-cluster\.txt"
    ):
        train_population(begin(tmp_path, base, shards=1), engine="ray")


@pytest.mark.slow  # starting a Ray cluster and two workers
@pytest.mark.filterwarnings("ignore")  # Ray's own warnings about the machine
def test_ray_with_a_worker_killed_in_the_middle_gives_the_same_bits(
    finished: Population, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed (requirements-cluster.txt)")
    population, mark = begin(tmp_path / "ray", base), tmp_path / "worker"

    def killed_once(spec: str, inputs: ShardInputs) -> np.ndarray:
        """Train a shard; the first worker writes its process number after one step and waits there to be killed."""

        def wait(step: int, _: int) -> None:
            if step == 1 and not mark.exists():
                mark.write_text(str(os.getpid()))
                time.sleep(600)

        return train_shard(load_base(spec, dtype=torch.float32), inputs, on_step=wait).numpy()

    def kill() -> None:
        while not (mark.exists() and mark.read_text()):
            time.sleep(0.1)
        os.kill(int(mark.read_text()), signal.SIGKILL)

    monkeypatch.setenv("RAY_worker_niceness", "0")  # at Ray's 15, a busy machine does not get to the worker
    monkeypatch.setattr(engines, "_work", killed_once)
    killer = threading.Thread(target=kill, daemon=True)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        killer.start()
        assert sorted(train_population(population, engine="ray")) == [0, 1]
        killer.join(5)
        assert not killer.is_alive(), "no worker was killed"
    finally:
        ray.shutdown()
    assert same_weights(finished, population)
