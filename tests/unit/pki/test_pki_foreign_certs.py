"""Certificates made by OpenSSH's ssh-keygen, and ours shown to it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from pkgs.common.errors import DeniedError, TrustError
from pkgs.common.pki import certspec, keys, sshcert
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.signer import SshSigner
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import CaKeySet, CertAuthority, CertAuthoritySpec, SshKeyPair
from pkgs.common.resources.metadata import Metadata
from tests.security.cert_kit import NOW

FOLDER = Path(__file__).parents[2] / "security" / "certificates"
ROWS = json.loads((FOLDER / "certificates.json").read_text())


def trust() -> Trust:
    lines = [(FOLDER / f"ca_{name}.pub").read_text().strip() for name in ("ed25519", "ecdsa", "rsa")]
    spec = CertAuthoritySpec(
        type="user",
        cluster_name="demo",
        active_keys=CaKeySet(ssh=[SshKeyPair(public_key=lines[0])]),
        additional_trusted_keys=CaKeySet(ssh=[SshKeyPair(public_key=line) for line in lines[1:]]),
    )
    return Trust.from_authorities([CertAuthority(metadata=Metadata(name="demo"), sub_kind="user", spec=spec)])


@pytest.mark.parametrize("name", sorted(ROWS))
def test_verdict_on_certificates_of_openssh(name: str) -> None:
    blob = sshcert.line_to_blob(ROWS[name]["cert"])
    if ROWS[name]["accepted"]:
        identity = sshcert.verify_user_cert(
            blob, trust=trust(), login="root", source_addr="10.0.0.5", now=NOW
        )
        assert identity.name == "alice"
        assert identity.force_command == ("/bin/true" if name == "force_command" else "")
        assert "permit-pty" in identity.extensions
        return
    with pytest.raises((TrustError, DeniedError)):
        sshcert.verify_user_cert(blob, trust=trust(), login="root", source_addr="10.0.0.5", now=NOW)


@pytest.mark.needs("ssh-keygen")
def test_openssh_reads_our_certificates(tmp_path: Path) -> None:
    ca, key = keys.new_ssh_key(), keys.new_ssh_key("alice@laptop")
    signer = SshSigner.load(ca.private_pem)
    user = certspec.UserCertSpec(
        user="alice",
        cluster="demo",
        roles=("access",),
        traits={"logins": ("root",)},
        logins=("root", "deploy"),
        valid_after=NOW - 60,
        valid_before=NOW + 3600,
        source_addr="10.0.0.5",
        force_command="uptime",
        extensions=("permit-pty", "permit-agent-forwarding"),
    )
    host = certspec.HostCertSpec(
        host_id="11111111-2222-4333-8444-555555555555",
        node_name="node-1",
        cluster="demo",
        system_roles=(SystemRole.NODE,),
        valid_after=NOW,
    )
    file = tmp_path / "key-cert.pub"
    shown = []
    for line in (
        sshcert.sign_user_cert(signer, user, key.public_line),
        sshcert.sign_host_cert(signer, host, key.public_line),
    ):
        file.write_text(line + "\n")
        done = subprocess.run(
            ["ssh-keygen", "-L", "-f", str(file)], check=True, capture_output=True, text=True, timeout=20
        )
        shown.append(done.stdout)
    for text in ('Key ID: "alice"', "root", "deploy", "source-address 10.0.0.5/32", "force-command uptime"):
        assert text in shown[0]
    assert keys.ssh_fingerprint(ca.public_line) in shown[0]
    assert "permit-agent-forwarding" in shown[0]
    for text in ("host certificate", "node-1.demo", "x-teleport-role", "Valid: after"):
        assert text in shown[1]
