"""Where the shards of a population are trained: in this process, or on Ray's workers.

Both call ``train_shard`` with the same inputs and write the result here, so they give the same files. Ray is optional
(``requirements-cluster.txt``); its workers need the same version of Atelier and the same base, and no common disk.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from pipelines.models.base import load_base
from pipelines.weightspace.shards import Population, ShardInputs, train_shard

if TYPE_CHECKING:
    from pipelines.models.base import Base

ENGINES = ("process", "ray")
RETRIES = 5  # a worker may be killed this often before the shard fails

log = logging.getLogger(__name__)
OnShard = Callable[[int, int, int], None]  # (shard, shards done, shards in total)


def train_population(
    population: Population,
    *,
    engine: str = "process",
    base: "Base | None" = None,
    on_shard: OnShard | None = None,
) -> list[int]:
    """Train every pending shard; return their numbers in the order in which they were finished.

    ``base`` saves loading it again for the engine "process". ``on_shard`` is called after each shard is written.
    """
    pending = population.pending()
    if engine == "process":
        finished = _in_process(population, pending, base or load_base(population.base))
    elif engine == "ray":
        finished = _on_ray(population, pending)
    else:
        raise ValueError(f"There is no engine {engine!r}; choose one of {', '.join(ENGINES)}.")
    done = []
    for shard, theta in finished:
        population.write_weights(shard, theta)
        done.append(shard)
        log.info("shard %d: %d of %d", shard, len(done), len(pending))
        if on_shard is not None:
            on_shard(shard, len(done), len(pending))
    return done


def _in_process(
    population: Population, pending: Sequence[int], base: "Base"
) -> Iterator[tuple[int, torch.Tensor]]:
    for shard in pending:
        yield shard, train_shard(base, population.inputs(shard))


def _on_ray(population: Population, pending: Sequence[int]) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield shards as Ray's workers finish them; a task whose worker dies is run again by Ray."""
    try:
        import ray  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError(
            "The engine 'ray' needs Ray; install it with pip install -r requirements-cluster.txt, or use the engine "
            "'process'."
        ) from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    work = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_work)
    waiting, tasks = list(pending), {}
    most = 2 * int(
        ray.cluster_resources().get("GPU" if gpus else "CPU", 1)
    )  # bounds what the object store holds
    while waiting or tasks:
        while waiting and len(tasks) < most:
            shard = waiting.pop(0)
            tasks[work.remote(population.base, population.inputs(shard))] = shard
        (finished,), _ = ray.wait(list(tasks), num_returns=1)
        yield tasks.pop(finished), torch.from_numpy(ray.get(finished).copy())


def _work(spec: str, inputs: ShardInputs) -> Any:
    """Train one shard in a worker of Ray; return θ as a NumPy array, which Ray moves without copying."""
    return train_shard(_base_of_worker(spec), inputs).numpy()


@functools.cache
def _base_of_worker(spec: str) -> "Base":
    return load_base(spec, dtype=torch.float32)
