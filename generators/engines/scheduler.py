"""One scheduler for every engine that answers from elsewhere: requests go out as others come back, with no batch to wait for.

An asyncio loop on a thread of its own sends; a thread per run pulls the run's input, which may stay open while answers come out.
"""

from __future__ import annotations

import asyncio
import queue
import random
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from data.errors import SynthError
from data.records import Completion, Request
from generators.engines.congestion import Congestion
from generators.engines.lanes import Lanes
from generators.engines.sending import Busy, Failed, Scheduling, Send, Together, Traffic, unanswered

T = TypeVar("T")

__all__ = ["Busy", "Failed", "Scheduler", "Scheduling", "Send", "Together", "Traffic", "unanswered"]


class Scheduler:
    """Safe to use from several threads: every `run` has its own window, all share the slots by priority and weight."""

    def __init__(self, settings: Scheduling | None = None) -> None:
        self.settings = settings or Scheduling()
        self.traffic = Traffic()
        self.congestion = Congestion(self.settings.concurrency, slow=self.settings.slow)
        self.in_flight = 0
        self._lanes: Lanes[_Job] = Lanes(self.settings.weights)
        self._runs: set[_Run] = set()
        self._random = random.Random()  # waits only; no answer depends on it
        self._latencies: deque[float] = deque(maxlen=256)
        self._heard = 0.0  # when the endpoint last gave any answer
        self._loop = asyncio.new_event_loop()
        self._closed = False
        self._thread = threading.Thread(target=self._turn, name="synth-scheduler", daemon=True)
        self._thread.start()

    # -- from any thread ---------------------------------------------------------------------------------------------

    def run(self, requests: Iterable[Request], send: Send, *, together: Together | None = None) -> Iterator[Completion]:
        """Completions in the order they arrive, each of `requests` exactly once; closing the iterator cancels what is left of it."""
        if self._closed:
            raise SynthError("the scheduler is closed")
        run = _Run(self, send, together)
        self._loop.call_soon_threadsafe(self._runs.add, run)
        threading.Thread(target=run.feed, args=(iter(requests),), name="synth-scheduler-input", daemon=True).start()
        try:
            yield from run.answers()
        finally:
            run.leave()
            if not self._closed:
                self._loop.call_soon_threadsafe(self._abandon, run)

    def cancel(self, keys: Iterable[str]) -> None:
        """These end as completions with finish "cancelled", waiting, on their way or still to be pulled; what is answered already stays answered."""
        wanted = frozenset(keys)
        if wanted and not self._closed:
            self._loop.call_soon_threadsafe(self._cancel, wanted)

    def call(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Runs a coroutine on the scheduler's loop and waits for its value."""
        if self._closed:
            work.close()
            raise SynthError("the scheduler is closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def close(self, last: Callable[[], Awaitable[None]] | None = None) -> None:
        """Cancels what is under way, then runs `last` on the loop (to close connections) and ends the loop. Harmless twice."""
        if self._closed:
            return
        self._closed = True

        async def end() -> None:
            for run in list(self._runs):
                run.broken(SynthError("the engine was closed while requests were under way"))
                self._abandon(run)
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if last is not None:
                await last()
            self._loop.stop()

        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(end()))
        self._thread.join(timeout=10)

    def _turn(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    # -- on the loop's thread ----------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Sends while there is room."""
        while self.in_flight < int(self.congestion.limit) and self._lanes:
            jobs = self._next()
            self.in_flight += 1
            self.traffic.most_in_flight = max(self.traffic.most_in_flight, self.in_flight)
            task = self._loop.create_task(self._try(jobs))
            for job in jobs:
                job.task, job.call = task, jobs
                job.deadline = job.deadline or self._loop.time() + self.settings.deadline_s

    def _next(self) -> list[_Job]:
        job = self._lanes.pop()
        together = job.run.together
        if together is None or (group := together.alike(job.request)) is None:
            return [job]

        def like(other: _Job) -> bool:
            return other.run is job.run and together.alike(other.request) == group

        return [job, *self._lanes.siblings(like, together.most - 1, priority=job.request.priority, stream=_stream(job.request))]

    def _arrived(self, run: _Run) -> None:
        """What the run's thread has pulled since the last time joins the waiting."""
        run.woken = False
        while run.inbox:
            request = run.inbox.popleft()
            if not run.open:
                continue
            job = _Job(request, run)
            run.jobs.add(job)
            if request.key in run.unwanted:
                run.unwanted.discard(request.key)
                self._end(job, unanswered(request, "cancelled", ""))
                continue
            self._lanes.push(job, priority=request.priority, stream=_stream(request))
        self._pump()

    async def _try(self, jobs: list[_Job]) -> None:
        """One call, mostly for one request."""
        first, sent_at = jobs[0], self._loop.time()
        run = first.run
        self.traffic.sent += 1
        for job in jobs:
            job.tries += 1
        try:
            async with asyncio.timeout_at(min(sent_at + self.settings.timeout_s, first.deadline)):
                completions = await self._asked(jobs)
        except Busy as busy:
            self._again(jobs, busy, sent_at)
        except TimeoutError:
            self._again(jobs, Busy(f"no answer within {self._loop.time() - sent_at:.3g} s", load=True), sent_at)
        except Failed as failed:
            self._heard = self._loop.time()
            for job in jobs:
                self._end(job, unanswered(job.request, "error", failed.reason))
        except asyncio.CancelledError:
            for job in jobs:
                self._end(job, unanswered(job.request, "cancelled", ""))
        except Exception as error:  # noqa: BLE001  carried to the consumer's thread and raised there
            for job in jobs:
                job.task = None
            run.broken(error)
            self._abandon(run)
        else:
            now = self._heard = self._loop.time()
            self._latencies.append(now - sent_at)
            self.congestion.answered(sent_at, now, sum(len(c.tokens) for c in completions))
            for job, completion in zip(jobs, completions):
                self._end(job, completion)
            if len(completions) < len(jobs):
                self._again(jobs[len(completions) :], Busy(f"{len(completions)} answers to a call for {len(jobs)}"), sent_at)
        finally:
            for job in jobs:
                job.task, job.call = None, ()
            self.in_flight -= 1
            self._pump()

    async def _asked(self, jobs: list[_Job]) -> Sequence[Completion]:
        run = jobs[0].run
        if len(jobs) > 1 and run.together is not None:
            return await run.together.send([job.request for job in jobs])
        return [await (self._hedged(jobs[0]) if self.settings.hedge else run.send(jobs[0].request))]

    async def _hedged(self, job: _Job) -> Completion:
        """The first of two copies, where the first takes unusually long and no other request is waiting for the slot. Never a third."""
        first = self._loop.create_task(_awaited(job.run.send(job.request)))
        copies = {first}
        try:
            if len(self._latencies) >= 20:
                usual = sorted(self._latencies)[int(0.95 * len(self._latencies))]
                await asyncio.wait(copies, timeout=self.settings.hedge * usual)
                if not first.done() and not self._lanes and not job.copied and self.in_flight < int(self.congestion.limit):
                    job.copied = True
                    self.in_flight += 1
                    self.traffic.hedged += 1
                    self.traffic.sent += 1
                    copies.add(self._loop.create_task(_awaited(job.run.send(job.request))))
            running = copies
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for copy in done:
                    if copy.exception() is None or not running:
                        return copy.result()
            raise AssertionError("unreachable")
        finally:
            self.in_flight -= len(copies) - 1
            for copy in copies:
                copy.cancel()

    def _again(self, jobs: list[_Job], busy: Busy, sent_at: float) -> None:
        now, run = self._loop.time(), jobs[0].run
        if busy.load:
            self.traffic.refused += 1
            self.congestion.refused(sent_at, now)
        if busy.counts or busy.load:
            self._heard = now
        elif now - max(self._heard, run.began) > self.settings.dead_after_s:
            run.broken(SynthError(f"{busy.reason}; nothing was answered for {self.settings.dead_after_s:g} s"))
            return self._abandon(run)
        for job in jobs:
            self._wait(job, busy, now)

    def _wait(self, job: _Job, busy: Busy, now: float) -> None:
        """Another try after a wait with full jitter (AWS, "Exponential backoff and jitter", 2015), never before what the endpoint asked for."""
        if not job.run.open or job.unwanted:
            return self._end(job, unanswered(job.request, "cancelled", ""))
        if busy.counts:
            job.wrong += 1
            if job.wrong >= self.settings.tries:
                return self._end(job, unanswered(job.request, "error", f"{busy.reason}; asked {job.tries} times"))
        most = min(self.settings.backoff_most_s, self.settings.backoff_s * 2 ** min(job.tries - 1, 30))
        wait = self._random.uniform(0, most) + (busy.retry_after or 0.0)
        if now + wait >= job.deadline:
            reason = f"{busy.reason}; no answer within {self.settings.deadline_s:g} s, asked {job.tries} times"
            return self._end(job, unanswered(job.request, "error", reason))
        self.traffic.retried += 1
        job.timer = self._loop.call_later(wait, self._waited, job)

    def _waited(self, job: _Job) -> None:
        job.timer = None
        self._lanes.push(job, priority=job.request.priority, stream=_stream(job.request), front=True)
        self._pump()

    def _end(self, job: _Job, completion: Completion) -> None:
        if job not in job.run.jobs:
            return  # cancelled while others of its call went on
        job.run.jobs.discard(job)
        counted = {"error": "failed", "cancelled": "cancelled"}.get(completion.finish, "answered")
        setattr(self.traffic, counted, getattr(self.traffic, counted) + 1)
        job.run.answer(completion)

    def _cancel(self, keys: frozenset[str]) -> None:
        for run in self._runs:
            self._arrived(run)
        found = [job for run in self._runs for job in run.jobs if job.request.key in keys]
        for run in self._runs:  # what is nowhere yet may still be pulled
            run.unwanted |= keys - {job.request.key for job in found}
        self._stop(found)

    def _abandon(self, run: _Run) -> None:
        run.leave()
        self._stop(list(run.jobs))
        self._runs.discard(run)

    def _stop(self, jobs: list[_Job]) -> None:
        waiting = set()
        for job in jobs:
            job.unwanted = True
            if job.task is not None:
                if all(mate.unwanted for mate in job.call):
                    job.task.cancel()
                else:
                    self._end(job, unanswered(job.request, "cancelled", ""))
            elif job.timer is not None:
                job.timer.cancel()
                self._end(job, unanswered(job.request, "cancelled", ""))
            else:
                waiting.add(job)
        if waiting:
            for job in self._lanes.drop(waiting.__contains__):
                self._end(job, unanswered(job.request, "cancelled", ""))
        self._pump()


class _Job:
    """One request on its way to its answer."""

    __slots__ = ("call", "copied", "deadline", "request", "run", "task", "timer", "tries", "unwanted", "wrong")

    def __init__(self, request: Request, run: _Run) -> None:
        self.request, self.run = request, run
        self.task: asyncio.Task[None] | None = None
        self.call: Sequence[_Job] = ()  # those that share its call, while it is on its way
        self.timer: asyncio.TimerHandle | None = None
        self.deadline = 0.0
        self.tries = 0
        self.wrong = 0
        self.copied = False
        self.unwanted = False


class _Run:
    """One `Scheduler.run`: its input, pulled `window` ahead of what its consumer has taken, and its answers."""

    def __init__(self, scheduler: Scheduler, send: Send, together: Together | None) -> None:
        self.scheduler, self.send, self.together = scheduler, send, together
        self.began = scheduler._loop.time()
        self.open = True
        self.jobs: set[_Job] = set()
        self.unwanted: set[str] = set()  # cancelled before they were pulled
        self.inbox: deque[Request] = deque()
        self.woken = False
        self._room = threading.Semaphore(scheduler.settings.window)
        self._answers: queue.SimpleQueue[Completion | BaseException | None] = queue.SimpleQueue()
        self._pulled = -1  # requests in all, once the input has ended

    def feed(self, requests: Iterator[Request]) -> None:
        """On the input's own thread. It may block in `requests` for as long as it likes; nothing else waits for it."""
        pulled = 0
        try:
            while self.open:
                self._room.acquire()
                if not self.open or (request := next(requests, None)) is None or not self.open:
                    break
                pulled += 1
                self.inbox.append(request)
                if not self.woken:
                    self.woken = True
                    self.scheduler._loop.call_soon_threadsafe(self.scheduler._arrived, self)
        except BaseException as error:  # noqa: BLE001  carried to the consumer's thread and raised there
            return self.broken(error)  # and the run never counts as finished: its consumer has to come to the error
        self._pulled = pulled
        self._answers.put(None)  # so that a consumer that has everything looks up

    def leave(self) -> None:
        """Nothing more is pulled; a thread that waits for room ends."""
        self.open = False
        self._room.release()

    def answer(self, completion: Completion) -> None:
        if self.open:
            self._answers.put(completion)

    def broken(self, error: BaseException) -> None:
        self._answers.put(error)

    def answers(self) -> Iterator[Completion]:
        """On the consumer's thread."""
        given = 0
        while given != self._pulled:
            answer = self._answers.get()
            if answer is None:
                continue
            if isinstance(answer, BaseException):
                raise answer
            given += 1
            self._room.release()
            yield answer


async def _awaited(answer: Awaitable[Completion]) -> Completion:
    return await answer


def _stream(request: Request) -> str:
    """Whose turn it is: all steps of a strategy (`sws.write`, `sws.answer`) share one weight, that of its name."""
    return request.purpose.partition(".")[0]
