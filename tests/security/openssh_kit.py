"""Users who log in to a proxy that stands for a server without an agent, as the Auth Service hears of it."""

from __future__ import annotations

import os
import uuid
from typing import Any

from pkgs.common.api.openssh import IssueOpensshUserCert, LoginProof
from pkgs.common.api.resources import PutResource
from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.pki.keys import SshKey, new_ssh_key
from pkgs.common.pki.sshcert import sign_user_cert
from pkgs.common.resources.kinds import Node, ServerSpec
from pkgs.common.resources.kinds.servers import OPENSSH
from pkgs.common.resources.metadata import Metadata
from pkgs.common.ssh import wire
from pkgs.common.ssh.client.login import Login, UserKey
from tests.integration.auth_kit import Kit


def described(hostname: str = "box9.example.com", **labels: str) -> Node:
    return Node(
        metadata=Metadata(name=str(uuid.uuid4()), labels=labels),
        sub_kind=OPENSSH,
        spec=ServerSpec(hostname=hostname, addr="10.0.0.9:22"),
    )


async def server(kit: Kit, hostname: str = "box9.example.com", **labels: str) -> str:
    """The id of a new one."""
    node = described(hostname, **labels)
    await kit.admin.call(PutResource(resource=node))
    return node.name


def certificate(kit: Kit, key: SshKey, user: str, signer: Any = None, **fields: Any) -> UserKey:
    """Of the cluster's real user authority."""
    now = kit.clock.now()
    spec = UserCertSpec(
        **{
            "user": user,
            "cluster": kit.service.cluster_name,
            "roles": ("access",),
            "logins": ("root",),
            "valid_after": now - 60,
            "valid_before": now + 3600,
            "extensions": ("permit-pty", "permit-agent-forwarding", "permit-X11-forwarding"),
            **fields,
        }
    )
    line = sign_user_cert(signer or kit.service.authorities.user_ssh, spec, key.public_line)
    return UserKey.load(line, key.private_pem)


def proof(key: UserKey, login: str = "root", session_id: bytes = b"") -> LoginProof:
    """What the holder of the key signs to log in."""
    session_id = session_id or os.urandom(32)
    request = Login(login, key).request(session_id, wire.Reader(wire.string("ssh-userauth")))
    reader = wire.Reader(request)
    reader.byte()
    user, _, _, _, algorithm = reader.text(), reader.text(), reader.text(), reader.boolean(), reader.text()
    return LoginProof(
        session_id=session_id,
        login=user,
        algorithm=algorithm,
        certificate=reader.string(),
        signature=reader.string(),
    )


def asking(node: str, shown: LoginProof, addr: str = "203.0.113.7:50112") -> IssueOpensshUserCert:
    return IssueOpensshUserCert(
        node=node, proof=shown, client_addr=addr, ssh_public_key=new_ssh_key().public_line
    )
