"""A moderator who shows by one-time codes that they are there, in the terminal where they watch."""

from __future__ import annotations

import pytest

from tests.e2e.test_together import ROLES, session_of, tsh
from tests.harness import totp
from tests.harness.cluster import OS_USER, Cluster

pytestmark = pytest.mark.needs("ssh")
STRICT = """
kind: role
version: v7
metadata: {name: strict}
spec:
  options: {require_session_mfa: yes}
  allow:
    logins: ['{{internal.logins}}']
    node_labels: {'*': '*'}
    require_session_join:
    - {name: eyes, kinds: [ssh], modes: [moderator], count: 1, on_leave: pause,
       filter: 'contains(user.spec.roles, "watcher")'}
"""


def test_a51_codes_typed_in_tsh_join_let_a_moderator_count() -> None:
    with Cluster.running(second_factor="otp") as cluster:
        cluster.tctl("create", "-f", "-", stdin=f"{ROLES}---{STRICT}").ok()
        olaf = cluster.login("olaf", roles="strict")
        mona = cluster.person("mona", roles="watcher", logins="-")
        # A login that took no code: signing up used one, and each is good for one use.
        identity = str(cluster.dir / "mona.id")
        cluster.tctl("auth", "sign", "--user=mona", "--format=file", f"--out={identity}").ok()
        signed = ("-i", identity, f"--proxy={cluster.proxy_addr}", "--insecure")
        with tsh(olaf, "ssh", f"{OS_USER}@{cluster.nodename}") as owner:
            owner.expect("Waiting for participants")
            sid = session_of(olaf, "olaf")
            with tsh(mona, *signed, "join", "--mode=moderator", sid) as moderator:
                moderator.expect("You count once you have shown that you are here")
                moderator.type("00000", end="0")
                moderator.expect("the one-time code is wrong, or was used")
                used = totp.code(mona.otp_secret, step_offset=1)
                moderator.type(f"{used[:3]} {used[3:]}", end="")
                moderator.expect("The code is accepted", "You have shown that you are here")
                owner.expect("the session begins")
                moderator.type(used, end="")
                moderator.expect("the one-time code is wrong, or was used", deadline_s=30)
                again = mona.tsh(*signed, "sessions", "prove", "--otp-stdin", sid, stdin=f"{used}\n")
                assert again.code == 1
                assert "wrong, or was used" in again.err
                with tsh(mona, *signed, "join", "--no-openssh", "--mode=moderator", sid) as own_client:
                    own_client.expect("You joined the session of")
                    own_client.type(used, end="")
                    own_client.expect("the one-time code is wrong, or was used", deadline_s=30)
                    own_client.type("\x03", end="")
                    own_client.end()
                owner.type("echo vis''ible")
                moderator.expect("visible")
                moderator.type("t", end="")
                owner.expect("The session was terminated by the moderator mona")
                assert moderator.end() == 0
            assert owner.end() != 0
        shown = cluster.wait_event("mfa_auth_challenge.validate", sid=sid, success=True)
        assert (shown["user"], shown["mfa_device"]["mfa_device_type"]) == ("mona", "TOTP")
        # Nothing of a code reaches the server, its recording or a log.
        assert used not in olaf.tsh("play", sid, "--format=text").out
