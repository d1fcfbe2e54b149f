"""SSH sessions through the proxy and the tunnel, beside `ssh -J` through OpenSSH to OpenSSH."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.bench.openssh import CIPHER, BenchUser, OpenSshPair
from tests.bench.procfs import cpu_s, family, private_mib, program, rss_mib
from tests.bench.report import Row, median, percentile
from tests.harness.cluster import BIN, Cluster, Person
from tests.harness.fleet import multiplexer
from tests.harness.wait import wait_for

Argv = list[str]
SHELLS = {"sh", "dash", "bash"}


def timed(argv: Argv, env: dict[str, str] | None = None) -> tuple[float, int]:
    """Wall seconds and exit code of a command."""
    began = time.perf_counter()
    code = subprocess.run(
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
    ).returncode
    return time.perf_counter() - began, code


class Sides:
    """The commands that mean the same on each side."""

    def __init__(self, reference: OpenSshPair, alice: Person, login: str) -> None:
        config = alice.ssh_config()
        self.env = alice.env
        self.reference: Argv = ["ssh", "-F", str(reference.config), "target"]
        self.direct_reference = reference
        self.ours: Argv = ["ssh", "-F", str(config), "-c", CIPHER, f"{login}@demo-node.demo"]
        self.tsh: Argv = [str(BIN / "tsh"), "ssh", f"{login}@demo-node"]
        self.alice = alice


def latency(sides: Sides, rounds: int, total: int) -> list[Row]:
    """New sessions: interleaved rounds for the quantiles, then more in parallel for the failures."""
    times: dict[str, list[float]] = {"reference": [], "ours": [], "tsh": []}
    failures = 0
    for _ in range(rounds):
        for name, argv in (("reference", sides.reference), ("ours", sides.ours), ("tsh", sides.tsh)):
            took, code = timed([*argv, "true"], sides.env)
            if code == 0:
                times[name].append(took)
            elif name != "reference":
                failures += 1
    left = max(0, total - 2 * rounds)
    with ThreadPoolExecutor(4) as pool:
        for _, code in pool.map(lambda _: timed([*sides.ours, "true"], sides.env), range(left)):
            failures += code != 0
    ref50, ref99 = median(times["reference"]), percentile(times["reference"], 0.99)
    rows = []
    for name, label, goal in (("ours", "ssh + tsh proxy ssh", 0.6), ("tsh", "tsh ssh", 0.6)):
        p50, p99 = median(times[name]), percentile(times[name], 0.99)
        rows.append(
            Row(f"new session, {label}, p50", p50 * 1e3, "ms", ref50 * 1e3, "ms ssh -J", f"<= {goal}x",
                p50 <= goal * ref50)
        )  # fmt: skip
        rows.append(
            Row(f"new session, {label}, p99", p99 * 1e3, "ms", ref99 * 1e3, "ms ssh -J", "<= 1.0x",
                p99 <= ref99)
        )  # fmt: skip
    rows.append(
        Row(f"failures in {2 * rounds + left} new sessions", failures, "", goal="0", met=failures == 0)
    )
    return rows


def _stream(argvs: list[Argv], direction: str, mb: int, env: dict[str, str]) -> float:
    """MB/s in total for these sessions at once."""
    count = mb * 1_000_000

    def one(argv: Argv) -> None:
        if direction == "down":
            script = f'"$@" "head -c {count} /dev/zero" > /dev/null'
        else:
            script = f'head -c {count} /dev/zero | "$@" "cat > /dev/null"'
        subprocess.run(["sh", "-c", script, "sh", *argv], env=env, check=True, timeout=300)

    began = time.perf_counter()
    with ThreadPoolExecutor(len(argvs)) as pool:
        list(pool.map(one, argvs))
    return mb * len(argvs) / (time.perf_counter() - began)


def bulk(sides: Sides, mb: int, rounds: int) -> list[Row]:
    """Throughput, one session and two at once, interleaved with the reference."""
    rows = []
    for sessions in (1, 2):
        for direction in ("down", "up"):
            ours, ref = [], []
            for _ in range(rounds):
                ref.append(_stream([sides.reference] * sessions, direction, mb, sides.env))
                ours.append(_stream([sides.ours] * sessions, direction, mb, sides.env))
            a, b = median(ours), median(ref)
            rows.append(
                Row(
                    f"bulk {direction}, {sessions} at once",
                    a,
                    "MB/s",
                    b,
                    "MB/s ssh -J",
                    ">= 0.8x",
                    a >= 0.8 * b,
                )
            )
    return rows


def session_cost(sides: Sides, agent: int, sshd: int, sessions: int) -> list[Row]:
    """CPU seconds of the agent (and of the target sshd) for one new session."""

    def cost(argv: Argv, root: int) -> float:
        before = cpu_s(family(root))
        for _ in range(sessions):
            timed([*argv, "true"], sides.env)
        time.sleep(0.5)  # the last child is waited for a moment after the client has gone
        return (cpu_s(family(root)) - before) / sessions

    ours, ref = cost(sides.ours, agent), cost(sides.reference, sshd)
    return [Row("CPU of the agent for a new session", ours, "s", ref, "s sshd", "<= 0.06 s", ours <= 0.06)]


def base_memory(agent: int, when: str, goal: float | None = None) -> Row:
    """The service's resident memory and what its other processes have for themselves."""
    main, *others = family(agent)
    base = rss_mib(main) + sum(private_mib(p) for p in others)
    met = None if goal is None else base <= goal
    return Row(f"agent's base memory, {when}", base, "MiB", goal=f"<= {goal:g} MiB" if goal else "", met=met)


def _idle_cost(argv: Argv, env: dict[str, str], root: int, sessions: int) -> tuple[float, float]:
    """Private MiB that one idle interactive session adds (the shell not counted), and CPU % of them all."""
    own_before = sum(private_mib(p) for p in family(root))
    clients = [
        subprocess.Popen(
            [*argv[:1], "-tt", *argv[1:]], env=env, stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for _ in range(sessions)
    ]  # fmt: skip
    try:

        def all_up() -> bool:
            return sum(program(p) in SHELLS for p in family(root)) >= sessions

        wait_for(all_up, what=f"{sessions} shells", deadline_s=180, every_s=1)
        time.sleep(10)  # let them become idle
        members = [p for p in family(root) if program(p) not in SHELLS]
        grown = sum(private_mib(p) for p in members) - own_before
        before = cpu_s(members)
        time.sleep(20)
        cpu = (cpu_s(members) - before) / 20 * 100
    finally:
        for client in clients:
            client.kill()
        for client in clients:
            client.communicate(timeout=10)
    return grown / sessions, cpu


def idle(sides: Sides, agent: int, sshd: int, sessions: int) -> list[Row]:
    """Idle interactive sessions; the reference holds a tenth of them, for its figure is one of each."""
    ours, cpu = _idle_cost(sides.ours, sides.env, agent, sessions)
    ref, _ = _idle_cost(sides.reference, sides.env, sshd, max(5, sessions // 10))
    return [
        Row("private memory per idle session", ours, "MiB", ref, "MiB sshd", "<= 5 MiB", ours <= 5),
        Row(f"idle CPU of {sessions} sessions", cpu, "%", goal="0 %", met=cpu < 0.5),
    ]


def held(sides: Sides, hold: int, per_second: int, seconds: int) -> list[Row]:
    """Many sessions held while new ones keep coming at a fixed rate (open loop)."""
    holders = [
        subprocess.Popen(
            [*sides.ours, "cat"], env=sides.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(hold)
    ]  # fmt: skip
    failures = 0
    took: list[float] = []
    try:
        for holder in holders:
            assert holder.stdin and holder.stdout
            holder.stdin.write(b"up\n")
            holder.stdin.flush()
        for holder in holders:
            assert holder.stdout
            failures += holder.stdout.readline() != b"up\n"
        began = time.perf_counter()
        with ThreadPoolExecutor(64) as pool:
            running = []
            for n in range(per_second * seconds):
                wait = began + n / per_second - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                running.append(pool.submit(timed, [*sides.ours, "true"], sides.env))
            for result in running:
                seconds_taken, code = result.result(timeout=120)
                took.append(seconds_taken)
                failures += code != 0
        failures += sum(holder.poll() is not None for holder in holders)
    finally:
        for holder in holders:
            holder.kill()
        for holder in holders:
            holder.communicate(timeout=10)
    label = f"{hold} held, {per_second}/s for {seconds} s"
    return [
        Row(f"failures, {label}", failures, "", goal="0", met=failures == 0),
        Row(f"p99 of a new session, {label}", percentile(took, 0.99) * 1e3, "ms"),
    ]


def crowd(sides: Sides, agent: int, sessions: int) -> list[Row]:
    """Sessions open at once; through a multiplexer, so that their clients fit into the machine as well."""
    config = sides.alice.home / "multiplexed"
    config.write_text(sides.alice.tsh("config", "--multiplex").ok().out)
    argv = ["ssh", "-F", str(config), *sides.ours[3:], "cat"]
    holders: list[subprocess.Popen[bytes]] = []

    def silent(asked: list[subprocess.Popen[bytes]]) -> int:
        """How many of these do not answer."""
        for holder in asked:
            assert holder.stdin
            with contextlib.suppress(BrokenPipeError):
                holder.stdin.write(b"there?\n")
                holder.stdin.flush()
        return sum(holder.stdout is None or holder.stdout.readline() != b"there?\n" for holder in asked)

    with multiplexer(sides.alice):
        try:
            own_before = sum(private_mib(p) for p in family(agent))
            began = time.perf_counter()
            failures = 0
            while len(holders) < sessions:
                some = [
                    subprocess.Popen(
                        argv, env=sides.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                    )
                    for _ in range(20)
                ]  # fmt: skip
                holders += some
                failures += silent(some)
            took = time.perf_counter() - began
            members = [p for p in family(agent) if program(p) != "cat"]
            grown = sum(private_mib(p) for p in members) - own_before
            time.sleep(5)  # let them become idle
            before = cpu_s(members)
            time.sleep(10)
            cpu = (cpu_s(members) - before) / 10 * 100
            failures += silent(holders)
        finally:
            for holder in holders:
                holder.kill()
            for holder in holders:
                holder.communicate(timeout=10)
    label = f"{len(holders)} sessions at once"
    return [
        Row(f"failures, {label}", failures, "", goal="0", met=failures == 0),
        Row(f"opened, {label}", len(holders) / took, "/s"),
        Row(f"private memory each, {label}", grown / len(holders), "MiB", goal="<= 5 MiB",
            met=grown <= 5 * len(holders)),
        Row(f"idle CPU, {label}", cpu, "%", goal="0 %", met=cpu < 0.5),
    ]  # fmt: skip


def run(*, full: bool = True) -> list[Row]:
    """All rows on SSH. `full` is the size that the goals name; otherwise a quick look."""
    rows: list[Row] = []
    with BenchUser() as user, OpenSshPair(user) as reference:
        cluster = Cluster(overrides={"teleport": {"log": {"severity": "INFO"}}})
        try:
            cluster.start()
            cluster.wait_node("demo-node")
            alice = cluster.login("alice", roles="access", logins=user.name)
            sides = Sides(reference, alice, user.name)
            agent = cluster.daemons["ssh"].pid
            rows.append(base_memory(agent, "no session yet", 80))
            for argv in (sides.ours, sides.tsh):
                code = subprocess.run([*argv, "true"], env=sides.env, timeout=60).returncode
                assert code == 0, f"{argv} ended with {code}"
            sections: list[Callable[[], list[Row]]] = [
                lambda: latency(sides, 200 if full else 15, 2000 if full else 60),
                lambda: bulk(sides, 300 if full else 100, 5 if full else 2),
                lambda: session_cost(sides, agent, reference.daemons["target"].pid, 40 if full else 10),
                lambda: idle(sides, agent, reference.daemons["target"].pid, 200 if full else 20),
                lambda: held(sides, 500 if full else 30, 10, 60 if full else 5),
                lambda: crowd(sides, agent, 1000 if full else 40),
            ]
            for section in sections:
                rows.extend(section())
            rows.append(base_memory(agent, "after all of these"))
        finally:
            cluster.destroy()
    return rows
