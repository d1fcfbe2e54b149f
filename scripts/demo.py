#!/usr/bin/env python3
"""The first journey, done for real: a cluster on loopback, a user, a server, a session, its recording.

`make demo` runs it all against a throw-away cluster in var/demo and exits 0 only if every step worked.
`make up` (`demo.py up`) starts the same cluster on its usual ports and stays in the foreground.
Only the standard library: this is what a person would type, with the typing done by a program.
"""

from __future__ import annotations

import argparse
import base64
import getpass
import hashlib
import hmac
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / "bin"
DIR = ROOT / "var" / "demo"
CONFIG = DIR / "teleport.yaml"
HOME = DIR / "home"
USER = getpass.getuser()
READY_WITHIN_S = 60.0
STEP_WITHIN_S = 60.0

TEMPLATE = """\
# A whole cluster on one machine. Only the proxy listens where users connect; all is on loopback.
version: v3
teleport:
  nodename: demo-node
  data_dir: {data_dir}
  auth_server: 127.0.0.1:{auth}
auth_service:
  enabled: yes
  cluster_name: demo
  listen_addr: 127.0.0.1:{auth}
  authentication:
    type: local
    second_factor: otp
proxy_service:
  enabled: yes
  web_listen_addr: 127.0.0.1:{web}
  listen_addr: 127.0.0.1:{ssh}
  public_addr: 127.0.0.1:{web}
ssh_service:
  enabled: yes
  labels:
    env: demo
  commands:
    - name: kernel
      command: [uname, -r]
      period: 1h
"""


class Failed(Exception):
    """A step did not do what it should; the message says what was seen."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write_config(auth: int, web: int, ssh: int) -> None:
    DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
    CONFIG.write_text(TEMPLATE.format(data_dir=DIR / "data", auth=auth, web=web, ssh=ssh))


def one_time_code(secret: str, steps_ahead: int = 0) -> str:
    """The code an authenticator app would show (RFC 6238)."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", int(time.time() // 30) + steps_ahead), hashlib.sha1).digest()
    at = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[at : at + 4])[0] & 0x7FFFFFFF) % 1_000_000:06d}"


class Journey:
    """Runs commands as a user would, prints them, and checks what they did."""

    def __init__(self) -> None:
        self.step = 0
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("TELEPORT_", "SSH_"))}
        self.env |= {"HOME": str(HOME), "TELEPORT_HOME": str(HOME / ".tsh")}

    def say(self, what: str) -> None:
        self.step += 1
        print(f"\n\033[1m{self.step:2}. {what}\033[0m" if sys.stdout.isatty() else f"\n{self.step:2}. {what}")
        sys.stdout.flush()

    def run(
        self, *argv: str | Path, stdin: str = "", expect: int = 0, must_say: str = "", show: bool = True
    ) -> str:
        """Run to the end; raise Failed if the exit code or the output is not as it should be."""
        words = [str(a).removeprefix(f"{ROOT}/") for a in argv]
        print("    $ " + shlex.join(words), flush=True)
        done = subprocess.run(
            [str(a) for a in argv],
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            env=self.env,
            cwd=ROOT,
            timeout=STEP_WITHIN_S,
            check=False,
        )
        if show:
            for line in done.stdout.splitlines()[:12]:
                print("      " + line[:150])
        if done.returncode != expect:
            raise Failed(f"exit code {done.returncode} instead of {expect}\n{done.stdout}{done.stderr}")
        if must_say and must_say not in done.stdout:
            raise Failed(f"the output lacks {must_say!r}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def poll(self, *argv: str | Path, must_say: str, what: str) -> str:
        """Repeat a command until it says what it should."""
        end = time.monotonic() + READY_WITHIN_S
        while True:
            done = subprocess.run(
                [str(a) for a in argv],
                capture_output=True,
                text=True,
                env=self.env,
                timeout=STEP_WITHIN_S,
                check=False,
            )
            if done.returncode == 0 and must_say in done.stdout:
                return done.stdout
            if time.monotonic() > end:
                raise Failed(f"waited {READY_WITHIN_S:.0f} s in vain for {what}\n{done.stdout}{done.stderr}")
            time.sleep(0.2)

    def go(self, web: int) -> None:
        proxy = f"127.0.0.1:{web}"
        tctl = [BIN / "tctl", "-c", CONFIG]
        password = base64.b64encode(os.urandom(15)).decode()

        self.say("The cluster is up: one Auth Service, one Proxy, one SSH agent behind it")
        self.poll(*tctl, "nodes", "ls", must_say="demo-node", what="the agent to join and be listed")
        self.run(*tctl, "status", must_say="demo")

        self.say("An administrator invites alice")
        out = self.run(*tctl, "users", "add", "alice", "--roles=access,editor,auditor", f"--logins={USER}")
        link = re.search(r"https://\S+/web/invite/\S+", out)
        if not link:
            raise Failed("no invitation link was printed")

        self.say("alice accepts: a password and a second factor")
        answer = self.run(
            *(BIN / "tsh", "signup", link.group(0), "--insecure", "--password-stdin", "--format=json"),
            stdin=password + "\n",
            show=False,
        )
        secret = json.loads(answer)["otp_secret"]

        self.say("A wrong password is refused; the right one yields certificates for a few hours")
        login = [BIN / "tsh", "login", f"--proxy={proxy}", "--user=alice", "--insecure"]
        login += ["--password-stdin", "--otp-stdin"]
        self.run(*login, stdin=f"wrong-password\n{one_time_code(secret, 1)}\n", expect=1)
        # Signing up used this half minute's code, and a code serves once: take the next one.
        self.run(*login, stdin=f"{password}\n{one_time_code(secret, 1)}\n")
        self.run(BIN / "tsh", "status", must_say="alice")

        self.say("She sees the server she may reach, and runs a command there through the one port")
        self.run(BIN / "tsh", "ls", must_say="demo-node")
        self.run(*(BIN / "tsh", "ssh", f"{USER}@demo-node", "echo hello; exit 3"), expect=3, must_say="hello")

        self.say("Stock OpenSSH works as well: ssh, scp, sftp")
        ssh_config = HOME / "ssh_config"
        ssh_config.write_text(self.run(BIN / "tsh", "config", show=False))
        opts = ["-F", str(ssh_config)]
        host = f"{USER}@demo-node.demo"
        self.run("ssh", *opts, host, "uptime", must_say="load average")
        sent, back = HOME / "sent.bin", HOME / "back.bin"
        sent.write_bytes(os.urandom(300_000))
        self.run("scp", *opts, "-q", sent, f"{host}:{HOME}/there.bin")
        self.run("sftp", *opts, "-q", "-b", "-", host, stdin=f"get {HOME}/there.bin {back}\n", show=False)
        if back.read_bytes() != sent.read_bytes():
            raise Failed("the file that came back is not the file that was sent")

        self.say("A login her roles do not give is denied")
        other = "nobody" if USER != "nobody" else "daemon"
        self.run(BIN / "tsh", "ssh", f"{other}@demo-node", "true", expect=255)

        self.say("The sessions were recorded and can be played")
        listing = self.poll(
            *(BIN / "tsh", "recordings", "ls", "--format=json"), must_say="demo-node", what="a recording"
        )
        hello = next((r for r in json.loads(listing) if "hello" in r.get("command", "")), None)
        if hello is None:
            raise Failed(f"the session that said hello is not among the recordings:\n{listing}")
        self.run(BIN / "tsh", "recordings", "ls")
        self.run(BIN / "tsh", "play", hello["session_id"], "--format=text", must_say="hello")

        self.say("Everything is in the audit log, and the log proves that it is whole")
        for event in ("user.login", "session.start", "session.end"):
            self.run(*tctl, "audit", "ls", f"--type={event}", must_say=event)
        self.run(*tctl, "audit", "verify")

        self.say("Scripts read the cluster as JSON, and turn the log level up without a restart")
        nodes = json.loads(self.run(*tctl, "get", "nodes", "--format=json", show=False))
        if [n["spec"]["hostname"] for n in nodes] != ["demo-node"]:
            raise Failed(f"unexpected nodes: {nodes}")
        self.run(BIN / "teleport", "debug", "set-log-level", "DEBUG", "-c", CONFIG)


def running() -> bool:
    """Whether a cluster of this folder answers on its Auth Service's socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(DIR / "data" / "auth.sock"))
        except OSError:
            return False
        return True


def start_cluster(log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            [str(BIN / "teleport"), "start", "-c", str(CONFIG)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def stop_cluster(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


def demo() -> int:
    if running():
        print("ERROR: a cluster is running in var/demo (make up?); stop it first", file=sys.stderr)
        return 1
    shutil.rmtree(DIR, ignore_errors=True)
    auth, web, ssh = free_port(), free_port(), free_port()
    write_config(auth, web, ssh)
    HOME.mkdir(mode=0o700)
    log = DIR / "cluster.log"
    began = time.monotonic()
    process = start_cluster(log)
    try:
        Journey().go(web)
    except (Failed, subprocess.TimeoutExpired, OSError) as problem:
        print(f"\nFAILED: {problem}\n--- the end of {log.relative_to(ROOT)}:", file=sys.stderr)
        print("\n".join(log.read_text(errors="replace").splitlines()[-25:]), file=sys.stderr)
        return 1
    finally:
        stop_cluster(process)
    print(f"\nAll of it worked, in {time.monotonic() - began:.0f} s. `make up` keeps such a cluster running.")
    return 0


def up() -> int:  # noqa: RET503
    if running():
        print("ERROR: a cluster is running in var/demo already", file=sys.stderr)
        return 1
    if not CONFIG.exists() or "127.0.0.1:3080" not in CONFIG.read_text():
        shutil.rmtree(DIR, ignore_errors=True)
        write_config(3025, 3080, 3023)
    print(f'cluster "demo" on 127.0.0.1:3080, data in {DIR.relative_to(ROOT)}; Ctrl-C stops it', flush=True)
    os.execv(BIN / "teleport", [str(BIN / "teleport"), "start", "-c", str(CONFIG)])  # noqa: S606


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("demo", "up"), default="demo")
    return up() if parser.parse_args().what == "up" else demo()


if __name__ == "__main__":
    sys.exit(main())
