"""The worker: order, short jobs between training steps, stopping, and stored errors."""

import threading
import weakref
from collections.abc import Iterator

import pytest

from pipelines.jobs.worker import Job, JobQueue, Worker

PATIENCE_S = 10


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("test")
    yield worker
    worker.close(PATIENCE_S)


def test_long_jobs_run_in_order(worker: Worker) -> None:
    seen: list[int] = []
    jobs = [worker.submit(f"job {i}", lambda job, i=i: seen.append(i)) for i in range(5)]
    for job in jobs:
        assert job.wait(PATIENCE_S)
    assert seen == [0, 1, 2, 3, 4]
    assert {job.state for job in jobs} == {"done"}


def test_a_short_job_runs_inside_the_long_one_and_before_the_next(worker: Worker) -> None:
    seen: list[str] = []
    started, release = threading.Event(), threading.Event()

    def long_work(job: Job) -> None:
        seen.append("step 1")
        started.set()
        release.wait(PATIENCE_S)
        worker.serve()
        seen.append("step 2")

    first = worker.submit("long", long_work)
    second = worker.submit("next long", lambda job: seen.append("next"))
    started.wait(PATIENCE_S)
    picture = worker.submit("picture", lambda job: seen.append("picture") or "a cat", short=True)
    assert [job.name for job in worker.jobs()] == ["long", "picture", "next long"]
    release.set()
    assert picture.outcome(PATIENCE_S) == "a cat"
    assert first.wait(PATIENCE_S)
    assert second.wait(PATIENCE_S)
    assert seen == ["step 1", "picture", "step 2", "next"]


def test_a_failing_short_job_leaves_the_long_one_alone(worker: Worker) -> None:
    started, release = threading.Event(), threading.Event()

    def long_work(job: Job) -> str:
        started.set()
        release.wait(PATIENCE_S)
        worker.serve()
        return "whole"

    def bad(job: Job) -> None:
        raise ValueError("The prompt is empty; type one.")

    long = worker.submit("long", long_work)
    started.wait(PATIENCE_S)
    short = worker.submit("bad", bad, short=True)
    release.set()
    with pytest.raises(ValueError, match="prompt is empty"):
        short.outcome(PATIENCE_S)
    assert short.state == "failed"
    assert long.outcome(PATIENCE_S) == "whole"


def test_stop_is_seen_and_ends_in_stopped(worker: Worker) -> None:
    started = threading.Event()

    def long_work(job: Job) -> int:
        started.set()
        steps = 0
        while not job.stop_requested:
            steps += 1
        return steps

    job = worker.submit("long", long_work)
    started.wait(PATIENCE_S)
    assert job.state == "running"
    worker.cancel(job, keep=False)
    assert job.wait(PATIENCE_S)
    assert job.state == "stopped"
    assert job.keep is False
    assert job.result > 0


def test_cancelling_a_queued_job_never_runs_it(worker: Worker) -> None:
    release = threading.Event()
    seen: list[str] = []
    first = worker.submit("first", lambda job: release.wait(PATIENCE_S))
    second = worker.submit("second", lambda job: seen.append("ran"))
    worker.cancel(second)
    assert second.state == "stopped"
    with pytest.raises(ValueError, match="“second” was cancelled"):
        second.outcome(PATIENCE_S)
    release.set()
    assert first.wait(PATIENCE_S)
    assert seen == []


def test_an_unexpected_error_is_kept_and_the_worker_goes_on(worker: Worker) -> None:
    broken = worker.submit("broken", lambda job: {}["missing"])
    with pytest.raises(KeyError):
        broken.outcome(PATIENCE_S)
    assert broken.state == "failed"
    assert broken.error
    assert worker.submit("next", lambda job: 7).outcome(PATIENCE_S) == 7


def test_a_job_starts_when_those_before_it_are_done_and_others_overtake_it(worker: Worker) -> None:
    order: list[str] = []
    release = threading.Event()

    def logged(job: Job) -> None:
        release.wait(PATIENCE_S)
        order.append(job.name)

    first = worker.submit("first", logged)
    last = worker.submit("last", logged, after=[first])
    middle = worker.submit("middle", logged)
    worker.queue.move(last, 0)
    assert [job.name for job in last.waits_for()] == ["first"]
    release.set()
    assert last.wait(PATIENCE_S)
    assert middle.wait(PATIENCE_S)
    assert order in (["first", "last", "middle"], ["first", "middle", "last"])
    assert last.waits_for() == []


@pytest.mark.parametrize("ending", ["failed", "stopped", "cancelled"])
def test_when_a_job_does_not_finish_those_after_it_fail_in_a_sentence(worker: Worker, ending: str) -> None:
    started, release = threading.Event(), threading.Event()

    def early(job: Job) -> None:
        started.set()
        release.wait(PATIENCE_S)
        if ending == "failed":
            raise ValueError("The photographs are gone.")

    busy = worker.submit("busy", early)
    started.wait(PATIENCE_S)
    before = worker.submit("before", lambda job: None) if ending == "cancelled" else busy
    seen: list[str] = []
    after = worker.submit(
        "after", lambda job: seen.append("ran"), after=[before], then=lambda job: seen.append(job.state)
    )
    much_later = worker.submit("much later", lambda job: seen.append("ran"), after=[after])
    if ending != "failed":
        worker.cancel(before)
    release.set()
    with pytest.raises(
        ValueError, match=f"“before” was stopped|“busy” {'failed' if ending == 'failed' else 'was stopped'}"
    ):
        after.outcome(PATIENCE_S)
    with pytest.raises(ValueError, match="“after” failed, and “much later” was to start when it was done"):
        much_later.outcome(PATIENCE_S)
    assert seen == ["failed"]


def test_workers_of_one_queue_wait_for_each_others_jobs() -> None:
    queue, release, begun = JobQueue(), threading.Event(), threading.Event()
    workers = [Worker(name, queue) for name in "ab"]

    def long(job: Job) -> None:
        begun.set()
        release.wait(PATIENCE_S)

    try:
        first = workers[0].submit("first", long)
        begun.wait(PATIENCE_S)
        second = workers[0].submit("second", lambda job: first.state, after=[first])
        free = workers[0].submit("free", lambda job: second.state)
        assert free.outcome(PATIENCE_S) == "queued", "the free worker takes what waits for nobody"
        release.set()
        assert second.outcome(PATIENCE_S) == "done"
    finally:
        for worker in workers:
            worker.close()


class Tensors:
    """Stands for the tensors that a failed training held on the device."""


def test_a_kept_error_keeps_nothing_of_what_failed_alive(worker: Worker) -> None:
    held: list[weakref.ref] = []

    def training(job: Job) -> None:
        activations = Tensors()
        held.append(weakref.ref(activations))
        try:
            raise MemoryError("no room for more")
        except MemoryError as error:
            raise ValueError("take a smaller batch") from error

    job = worker.submit("training", training)
    with pytest.raises(ValueError, match="smaller batch") as caught:
        job.outcome(PATIENCE_S)
    assert isinstance(caught.value.__cause__, MemoryError)
    assert held[0]() is None


def test_then_sees_the_final_state_before_anyone_who_waits(worker: Worker) -> None:
    seen: list[str] = []
    release = threading.Event()
    done = worker.submit(
        "done", lambda job: release.wait(PATIENCE_S), then=lambda job: seen.append(job.state)
    )
    dropped = worker.submit("dropped", lambda job: None, then=lambda job: seen.append("dropped " + job.state))
    worker.cancel(dropped)
    assert seen == ["dropped stopped"]
    release.set()
    assert done.wait(PATIENCE_S)
    failed = worker.submit("failed", lambda job: {}["missing"], then=lambda job: seen.append(job.state))
    assert failed.wait(PATIENCE_S)
    assert seen == ["dropped stopped", "done", "failed"]


def test_outcome_times_out_and_serve_belongs_to_the_worker(worker: Worker) -> None:
    release = threading.Event()
    job = worker.submit("slow", lambda job: release.wait(PATIENCE_S))
    with pytest.raises(TimeoutError):
        job.outcome(0.01)
    with pytest.raises(RuntimeError):
        worker.serve()
    release.set()


def test_closing_does_not_keep_what_somebody_threw_away() -> None:
    worker = Worker("closing")
    started, asked = threading.Event(), threading.Event()

    def work(job: Job) -> None:
        started.set()
        asked.wait(PATIENCE_S)

    job = worker.submit("thrown away", work)
    started.wait(PATIENCE_S)
    worker.cancel(job, keep=False)
    worker.close(timeout=0.0)
    asked.set()
    assert job.wait(PATIENCE_S)
    assert job.keep is False


def test_closing_drops_what_waits_and_refuses_more() -> None:
    worker = Worker("closing")
    started = threading.Event()

    def until_stopped(job: Job) -> None:
        started.set()
        while not job.stop_requested:
            threading.Event().wait(0.001)

    running = worker.submit("running", until_stopped)
    waiting = worker.submit("waiting", lambda job: None)
    started.wait(PATIENCE_S)
    worker.close(PATIENCE_S)
    assert (running.state, waiting.state) == ("stopped", "stopped")
    with pytest.raises(ValueError, match="shutting down"):
        worker.submit("late", lambda job: None)
