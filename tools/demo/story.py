"""The story: two services move from Celery to Kafka while people use the shop."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from subprocess import CompletedProcess

from rich.console import Console
from rich.table import Table

from demo.evidence import Journal, in_flight
from demo.system import DemoError, Part, System

MOVING = ("notifications", "orders")
SIDES = ("celery", "kafka")
SETTLE = 45
"""Seconds for what is still under way when the traffic ends: retries wait, and payouts have an eta."""


REFUSED = 2
"""Exit status of a transition that something stands against."""

MARKS = ("ok ", "NO ", "lift ")
"""How the lines of conditions begin."""


def decided(reason: str) -> tuple[str, ...]:
    """Return the options by which a person takes it upon themselves to go on."""
    return "--override", "--reason", reason


@dataclass
class Outcome:
    """
    How the story ended: what is wrong, and what a fault of the story's own explains.

    Tasks that were cut off must have run twice; those that they dispatch at their end may have.
    """

    problems: list[str] = field(default_factory=list)
    must_repeat: set[str] = field(default_factory=set)
    may_repeat: set[str] = field(default_factory=set)


class Story:
    """Tells and checks the story on a system whose servers run."""

    def __init__(self, system: System, console: Console, rate: float, seed: int, pace: float) -> None:
        """`pace` stretches the time between the steps; 1 is the story as told in the documentation."""
        self._system = system
        self._console = console
        self._rate = rate
        self._seed = seed
        self._pace = pace
        self._journal = Journal(system.environment["DATABASE_URL"])
        self._began = time.monotonic()
        self.outcome = Outcome()

    # Before

    def prepare(self) -> None:
        """Migrate, seed, create topics, and start every process."""
        with self._step("Set the shop up"):
            self._system.manage("migrate", "--verbosity", "0")
            celery = self._system.start_celery()
            self._system.manage("seed", "--seed", str(self._seed), "--customers", "200", "--products", "100")
            self._system.run("taskbridge.cli", "topics")
            workers = [self._system.start_worker(service, role) for service in MOVING for role in ("live", "shadow")]
            self._system.start("relay", "taskbridge.cli", "relay")
            celery.wait_until(" ready.")
            for worker in workers:
                worker.wait_until("worker ready")
        self._say("PostgreSQL, Redis and Kafka run; so do a Celery worker, a Kafka worker per service, and the relay.")

    # The way

    def tell(self, faults: bool) -> None:
        """Move the services step by step under load; with `faults` kill an executor and a worker on the way."""
        traffic = self._start_traffic()
        with self._step("Everything runs on Celery"):
            self._watch(5)
        with self._step("Mirror: Celery does the work, Kafka gets a copy of every message"):
            self._cutover("notifications", "mirror")
            self._cutover("orders", "mirror")
            self._watch(5)
        with self._step("Forward takes evidence, and a decision where there is not enough of it"):
            self._show("notifications", "live", "--percent", "10")
        with self._step("Live for 10 % of the keys"):
            self._cutover("notifications", "live", "--percent", "10", *decided("a demo is shorter than a proof"))
            self._cutover("orders", "live", "--percent", "10", *decided("a demo is shorter than a proof"))
            self._watch(5)
        with self._step("Nobody moves what is held"):
            self._say(self._taskbridge("hold", "orders", "--reason", "somebody looks at it"))
            self._cutover("orders", "live", "--percent", "100", *decided("in a hurry"), refused=True)
            self._say(self._taskbridge("release", "orders"))
        with self._step("Live for everybody"):
            self._cutover("notifications", "live", "--percent", "100", *decided("both sides agree so far"))
            self._cutover("orders", "live", "--percent", "100", *decided("both sides agree so far"))
            self._watch(6)
        if faults:
            with self._step("Somebody pulls plugs"):
                self._kill_an_executor("orders")
                self._watch(3)
                self._kill_a_worker("orders")
                self._watch(3)
        with self._step("Kill: notifications goes back in one step, whatever the stage"):
            self._say(self._taskbridge("kill", "notifications", "--reason", "to see that it is one step"))
            self._watch(4)
        with self._step("And forward again"):
            self._cutover("notifications", "mirror")
            self._cutover("notifications", "live", "--percent", "100", *decided("it was live a moment ago"))
            self._watch(4)
        with self._step("Let the last tasks finish"):
            self._end_traffic(traffic)
            self._settle()

    # After

    def judge(self) -> None:
        """Compare what was dispatched with what ran, by the bridge's observations and by the shop's own journal."""
        with self._step("Compare both sides"):
            done = self._system.run("taskbridge.cli", "report", *MOVING, "--horizon", "2s", check=False)
            self._console.print(done.stdout.rstrip(), markup=False, highlight=False)
            self._report_problems(done.returncode, done.stderr)
            self._journal_problems()
        with self._step("Who did what, and why"):
            done = self._system.run("taskbridge.cli", "audit")
            self._console.print(done.stdout.rstrip(), markup=False, highlight=False)

    def _report_problems(self, status: int, error: str) -> None:
        if status:
            self.outcome.problems.append(f"`taskbridge report` ended with status {status}: {error.strip()}")

    def _journal_problems(self) -> None:
        account = json.loads(self._system.manage("journal", "--json", check=False).stdout)
        if lost := account["never_ran"]:
            self.outcome.problems.append(f"{len(lost)} tasks were lost, among them {', '.join(lost[:3])}")
        repeats = self._journal.repeats()
        for repeat in repeats:
            explained = repeat.task_id in self.outcome.must_repeat and repeat.times == 2
            if not explained and repeat.task_id not in self.outcome.may_repeat:
                self.outcome.problems.append(f"{repeat.task}[{repeat.task_id}] ran {repeat.times} times")
        for task_id in sorted(self.outcome.must_repeat - {repeat.task_id for repeat in repeats}):
            self.outcome.problems.append(f"{task_id} was cut off and did not run again")
        sums = account["total"]
        self._say(
            f"The shop's own journal: {sums['dispatched']} dispatched, {sums['ran_once']} ran once,"
            f" {sums['ran_more_than_once']} more than once, {sums['never_ran']} never."
        )

    # Traffic

    def _start_traffic(self) -> Part:
        seconds = str(600)
        rate = str(self._rate)
        return self._system.start(
            "traffic", "django", "traffic", "--rate", rate, "--seconds", seconds, "--seed", str(self._seed), "--json"
        )

    def _end_traffic(self, traffic: Part) -> None:
        os.kill(traffic.pid, signal.SIGINT)
        with_deadline = time.monotonic() + 20
        while traffic.server.is_running():
            if time.monotonic() > with_deadline:
                raise DemoError(f"the traffic generator did not end; see {traffic.log}")
            time.sleep(0.05)

    def _settle(self) -> None:
        self._system.manage("journal", "--wait", str(SETTLE), "--json", check=False)

    # Steps

    @contextmanager
    def _step(self, title: str) -> Iterator[None]:
        self._console.rule(f"[bold]{title}[/]  {time.monotonic() - self._began:.0f} s", align="left")
        yield

    def _say(self, text: str) -> None:
        self._console.print(text)

    def _cutover(self, service: str, *stage: str, refused: bool = False) -> None:
        """Move a service, or see it refused, and print what the command said of it."""
        done = self._command("cutover", service, *stage)
        if (done.returncode != 0) != refused:
            raise DemoError(f"`taskbridge cutover` ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        said = (done.stdout if not refused else done.stderr).strip()
        moved = next((line for line in said.splitlines() if line.startswith(f"{service} ")), said)
        self._console.print(f"  {moved}", markup=False, highlight=False)

    def _show(self, service: str, *stage: str) -> None:
        """Print everything that a transition takes, and do nothing."""
        done = self._command("cutover", service, *stage, "--dry-run")
        for line in done.stdout.splitlines():
            if line.startswith(MARKS):
                self._console.print(f"  {line}", markup=False, highlight=False)
        if done.returncode != REFUSED:
            raise DemoError(f"it was to be refused, and ended with status {done.returncode}:\n{done.stderr}")

    def _taskbridge(self, *command: str) -> str:
        """Run a command and return the first line of what it said."""
        done = self._command(*command)
        if done.returncode:
            raise DemoError(f"`taskbridge {command[0]}` ended with status {done.returncode}:\n{done.stderr}")
        return f"  {done.stdout.splitlines()[0]}"

    def _command(self, *command: str) -> CompletedProcess[str]:
        self._console.print(f"[dim]$[/] taskbridge {shlex.join(command)}", highlight=False)
        return self._system.run("taskbridge.cli", *command, check=False)

    def _watch(self, seconds: float) -> None:
        """Let traffic flow, then print what ran where."""
        began = time.time()
        end = time.monotonic() + seconds * self._pace
        while time.monotonic() < end:
            self._check_alive()
            time.sleep(0.2)
        counts = self._journal.runs_by_side(began)
        table = Table("service", *(f"on {side}" for side in SIDES), box=None, pad_edge=False)
        for service in (*MOVING, "the others"):
            mine = [
                sum(
                    count
                    for (name, where), count in counts.items()
                    if where == side and (name == service or (service == "the others" and name not in MOVING))
                )
                for side in SIDES
            ]
            table.add_row(service, *(str(number) for number in mine))
        self._console.print(table)

    def _check_alive(self) -> None:
        for part in self._system.parts.values():
            if not part.server.is_running():
                raise DemoError(f"{part.name} ended on its own; see {part.log}")

    # Faults

    def _kill_an_executor(self, service: str) -> None:
        victim = self._executor_at_work(service)
        os.kill(victim, signal.SIGKILL)
        self._say(f"  Executor {victim} of {service} is killed while it runs a task: that one becomes a dead letter.")

    def _kill_a_worker(self, service: str) -> None:
        worker = self._system.parts[f"{service}-live"]
        self._executor_at_work(service)
        worker.server.kill(timeout=20)
        del self._system.parts[worker.name]
        environment = self._system.environment
        topic = f"shop.{service}"
        unfinished = in_flight(environment["KAFKA_BOOTSTRAP_SERVERS"], topic, topic)
        cut_off = self._journal.begun(set(unfinished))
        self.outcome.must_repeat |= cut_off
        self.outcome.may_repeat |= {follower for task_id in cut_off for follower in unfinished[task_id]}
        self._say(
            f"  The whole worker of {service}, process {worker.pid}, is killed: {len(unfinished)} tasks were not"
            f" committed; {len(cut_off)} of them had begun and will run again, with what follows in their chains."
        )
        self._system.start_worker(service).wait_until("worker ready")

    def _executor_at_work(self, service: str) -> int:
        """Return an executor at the moment when it runs a task."""
        worker = self._system.parts[f"{service}-live"]
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if at_work := self._journal.executors_at_work(service) & set(worker.executors()):
                return at_work.pop()
        raise DemoError(f"no task of {service} was seen running on Kafka for 20 s")
