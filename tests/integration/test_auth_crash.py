"""`kill -9` of the real process at work: what it acknowledged is there, and the audit chain is whole."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from pkgs.common.api.audit import SearchEvents, VerifyAudit
from pkgs.common.api.login import CreateUser
from pkgs.common.api.resources import CreateToken, ListResources
from pkgs.common.api.system import Ping
from pkgs.common.errors import AccessError
from pkgs.common.rpc.blocking import BlockingRpcClient

ROUNDS = 6
WRITERS = 3
CONFIG = """
version: v3
teleport: {{nodename: hub, data_dir: {data_dir}}}
auth_service: {{enabled: yes, cluster_name: alpha, listen_addr: "127.0.0.1:0"}}
proxy_service: {{enabled: no}}
ssh_service: {{enabled: no}}
"""


def dial(data_dir: Path, process: subprocess.Popen[bytes]) -> BlockingRpcClient:
    """A connection as the administrator, once the service answers."""
    end = time.monotonic() + 20
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(data_dir / "auth.sock"))
            client = BlockingRpcClient(sock)
            client.call(Ping())
            return client
        except (OSError, AccessError):
            sock.close()
            assert process.poll() is None, "the service ended by itself"
            assert time.monotonic() < end, "the service did not answer in time"
            time.sleep(0.02)


def test_f01_kill_9_in_a_loop_of_writes(short_tmp: Path) -> None:
    data_dir = short_tmp / "data"
    config = short_tmp / "teleport.yaml"
    config.write_text(CONFIG.format(data_dir=data_dir))
    rng = random.Random(11)
    acknowledged: set[str] = set()
    log = (short_tmp / "log").open("wb")

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pkgs.auth.main", "-c", str(config)]
        return subprocess.Popen(command, stdout=log, stderr=log)

    def write(process: subprocess.Popen[bytes], tag: str) -> None:
        try:
            with dial(data_dir, process) as client:
                for number in range(10_000):
                    name = f"user-{tag}-{number}"
                    client.call(CreateUser(name=name, roles=["access"]))
                    acknowledged.add(name)
                    client.call(CreateToken(roles=["node"], value=f"token-{tag}-{number}"))
                    acknowledged.add(f"token-{tag}-{number}")
        except (OSError, AccessError):
            return

    try:
        for round_ in range(ROUNDS):
            process = start()
            dial(data_dir, process).close()
            writers = [
                threading.Thread(target=write, args=(process, f"{round_}-{n}")) for n in range(WRITERS)
            ]
            for writer in writers:
                writer.start()
            # The moment of the kill is what is being varied.
            time.sleep(rng.uniform(0.05, 0.4))
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)
            for writer in writers:
                writer.join(10)
        process = start()
        try:
            with dial(data_dir, process) as client:
                kinds = ("user", "token")
                found = {
                    r.name
                    for kind in kinds
                    for c in client.stream(ListResources(kind=kind))
                    for r in c.resources
                }
                verdict = client.call(VerifyAudit())
                told = {
                    str(e.event.fields["name"])
                    for c in client.stream(SearchEvents(types=["user.create"], limit=10_000))
                    for e in c.events
                }
        finally:
            process.terminate()
            status = process.wait(20)
        assert status == 0
    finally:
        log.close()
    assert len(acknowledged) > ROUNDS * WRITERS
    assert acknowledged <= found
    assert {name for name in acknowledged if name.startswith("user-")} <= told
    assert verdict.ok, verdict
    assert b"Traceback" not in (short_tmp / "log").read_bytes()
