"""The processes of a stress: started, listened to, told to stop, and asked what came of it."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from dmabuf import _syspoll
from dmabuf.buffer import Buffer
from dmabuf.cli.checks.accounts import Lost, descriptors, lost_descriptors
from dmabuf.cli.checks.stress import Stress
from dmabuf.cli.console.failure import Failure, one_line

_TOLD = 0.05  # seconds between two words of progress


@dataclass
class Plan:
    """What each process does."""

    allocate: Callable[..., Buffer]
    seed: int
    memory: int
    """Bytes at a time, of one process."""
    prefix: str
    rounds: int | None
    seconds: float | None


@dataclass
class Outcome:
    """What came of one process, or of all."""

    allocated: int = 0
    released: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Count another process's too."""
        self.allocated += other.allocated
        self.released += other.released
        for name, count in other.steps.items():
            self.steps[name] = self.steps.get(name, 0) + count
        self.lost += other.lost
        self.errors += other.errors


class Workers:
    """The processes, which stop when they have done their part, are told to, or lose their parent.

    Start them where SIGINT and SIGTERM are blocked: a Ctrl-C reaches them too.
    """

    def __init__(self, plan: Plan, count: int) -> None:
        """Fork them."""
        stop, self._stop = os.pipe()
        self._pids: dict[int, int] = {}  # by the pipe that each writes to
        self._words: dict[int, bytes] = {}
        try:
            for number in range(count):
                self._start(plan, number, stop)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(stop)
        self._open = set(self._pids)

    def _start(self, plan: Plan, number: int, stop: int) -> None:
        read, write = os.pipe()
        try:
            pid = os.fork()
            if not pid:
                os.close(self._stop)
                _work(plan, number, stop, write)
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
        self._pids[read] = pid
        self._words[read] = b""

    def listen(self, timeout: float) -> int | None:
        """Return how many steps were told within this time; None when all have ended."""
        if not self._open:
            return None
        steps = 0
        for pipe in select.select(self._open, [], [], timeout)[0]:
            said = os.read(pipe, 1 << 16)
            if not said:
                self._open.discard(pipe)
            *lines, self._words[pipe] = (self._words[pipe] + said).split(b"\n")
            for line in lines:
                if line.isdigit():
                    steps += int(line)
                else:
                    self._words[pipe] = line
        return steps

    def stop(self) -> None:
        """Tell them to end after their present step."""
        if self._stop >= 0:
            os.close(self._stop)
            self._stop = -1

    def kill(self) -> None:
        """End them at once."""
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """End at once those that are left, and wait for them."""
        self.stop()
        self.kill()
        for pipe, pid in self._pids.items():
            os.close(pipe)
            os.waitpid(pid, 0)
        self._pids = {}

    def outcome(self) -> Outcome:
        """Wait for them, and return what came of all; only once."""
        self.stop()
        while self.listen(1.0) is not None:
            pass
        total = Outcome()
        for pipe, pid in self._pids.items():
            os.close(pipe)
            _, status = os.waitpid(pid, 0)
            if status:
                code = os.waitstatus_to_exitcode(status)
                how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
                total.errors.append(f"process {pid} {how}")
            elif self._words[pipe]:
                told = json.loads(self._words[pipe])
                told["lost"] = [Lost(*one) for one in told["lost"]]
                total.add(Outcome(**told))
        self._pids = {}
        return total


def _work(plan: Plan, number: int, stop: int, tell: int) -> None:
    """Be one of the processes, to its end."""
    status = 1
    try:
        before = descriptors()
        outcome = _stressed(plan, number, stop, tell)
        outcome.lost += lost_descriptors(before)
        words = json.dumps(outcome.__dict__)
        with open(tell, "w", encoding="ascii", closefd=False) as file:
            file.write(f"{words}\n")
        status = 0
    finally:
        os._exit(status)


def _stressed(plan: Plan, number: int, stop: int, tell: int) -> Outcome:
    random = Random(f"{plan.seed} {number}")
    try:
        stress = Stress(plan.allocate, random, plan.memory, f"{plan.prefix}{number}-")
    except OSError as error:
        return Outcome(errors=[f"process {number}: {one_line(error)}"])
    errors = []
    step = 0
    try:
        try:
            _run(stress, plan, stop, tell)
        finally:
            step = sum(stress.steps.values())
            stress.close()
    except (Failure, MemoryError) as error:
        errors.append(f"process {number}, step {step}: {str(error) or 'out of memory'}")
    except OSError as error:
        errors.append(f"process {number}, step {step}: {one_line(error)}")
    steps = dict(stress.steps)
    return Outcome(stress.allocated, stress.released, steps, stress.lost, errors)


def _run(stress: Stress, plan: Plan, stop: int, tell: int) -> None:
    began = told_at = time.monotonic()
    done = told = 0
    poll = _syspoll.poll()
    poll.register(stop, select.POLLIN | select.POLLHUP)
    while plan.rounds is None or done < plan.rounds:
        now = time.monotonic()
        if now - told_at > _TOLD:
            os.write(tell, b"%d\n" % (done - told))
            told, told_at = done, now
        if poll.poll(0) or (plan.seconds is not None and now - began >= plan.seconds):
            return
        stress.step()
        done += 1
