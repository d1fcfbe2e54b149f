"""The calls of proxies that end a user's SSH: in front of servers without an agent, and where they record."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from pkgs.auth import limits
from pkgs.auth.audit.journal import Journal
from pkgs.auth.gate import bare_address
from pkgs.auth.issuing.authorities import Authorities
from pkgs.auth.issuing.hosts import Hosts
from pkgs.auth.issuing.reserved import check_principals
from pkgs.auth.permissions import Permissions
from pkgs.auth.state.store import Store
from pkgs.common.access.decide import decide
from pkgs.common.access.types import SshLogin
from pkgs.common.api.openssh import (
    IssueOpensshHostCert,
    IssueOpensshUserCert,
    IssueRelayCert,
    LoginProof,
    OpensshCert,
    OpensshLogin,
)
from pkgs.common.errors import AlreadyExistsError, ConflictError, DeniedError, TrustError
from pkgs.common.events.codes import CERT_CREATE
from pkgs.common.events.format import rfc3339
from pkgs.common.pki import sshcert
from pkgs.common.pki.certspec import spec_from_identity
from pkgs.common.pki.identity import Identity, SystemRole
from pkgs.common.pki.keys import check_public_line
from pkgs.common.resources.kinds import Node, RecordingConfig
from pkgs.common.resources.kinds.servers import OPENSSH
from pkgs.common.resources.kinds.settings import PROXY_MODES
from pkgs.common.rpc.calls import Caller
from pkgs.common.ssh.signature import verify_login


class OpensshHandlers:
    def __init__(
        self,
        store: Store,
        hosts: Hosts,
        permissions: Permissions,
        authorities: Authorities,
        journal: Journal,
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._permissions = permissions
        self._authorities = authorities
        self._journal = journal

    async def user_cert(self, caller: Caller, request: IssueOpensshUserCert) -> OpensshLogin:
        """Everything that the server's agent would check, if it had one, and that the user is there."""
        proxy = _proxy(caller)
        node = self._node(request.node)
        identity = await self._proven(request, node, accompanied=False)
        now = self._store.backend.clock()
        expires = min(float(int(now + limits.OPENSSH_CERT_TTL_S)), identity.expires_at)
        cert = sshcert.sign_openssh_user_cert(
            self._authorities.openssh_ssh(),
            identity,
            request.proof.login,
            check_public_line(request.ssh_public_key),
            valid_after=now - limits.BACKDATE_S,
            valid_before=expires,
        )
        await self._tell(request, node, proxy, identity, "openssh", expires)
        return OpensshLogin(ssh_cert=cert, expires_at=expires, server_names=await self._server_names(node))

    async def relay_cert(self, caller: Caller, request: IssueRelayCert) -> OpensshLogin:
        """The user's own certificate with all that restricts it, for a key of the proxy's, for one login on
        one agent, which decides on its own and sees that it is a proxy who passes the user on."""
        proxy = _proxy(caller)
        node = self._agent(request.node)
        # An agent lets nothing run before the company is there that roles require.
        identity = await self._proven(request, node, accompanied=True)
        now = self._store.backend.clock()
        expires = min(float(int(now + limits.OPENSSH_CERT_TTL_S)), identity.expires_at)
        spec = spec_from_identity(
            identity,
            valid_after=now - limits.BACKDATE_S,
            valid_before=expires,
            # Agents end connections when the certificate does that the user has.
            previous_expires_at=identity.previous_expires_at or identity.expires_at,
            logins=(request.proof.login,),
            extensions=identity.extensions,
            relayed_to=node.name,
            relayed_by=proxy.name,
        )
        key = check_public_line(request.ssh_public_key)
        cert = sshcert.sign_user_cert(self._authorities.user_ssh, spec, key)
        await self._tell(request, node, proxy, identity, "user", expires)
        return OpensshLogin(ssh_cert=cert, expires_at=expires, server_names=[node.name])

    async def _proven(
        self, request: IssueOpensshUserCert | IssueRelayCert, node: Node, *, accompanied: bool
    ) -> Identity:
        """The user who has just logged in to the proxy, and may log in to that server. Uses the proof up."""
        proof, address = request.proof, bare_address(request.client_addr)
        now = self._store.backend.clock()
        identity = sshcert.verify_user_cert(
            proof.certificate, trust=self._authorities.trust, login=proof.login, source_addr=address, now=now
        )
        if not verify_login(
            proof.session_id, proof.login, proof.algorithm, proof.certificate, proof.signature
        ):
            raise TrustError("the user has not proven that they are logging in")
        user = Caller(identity=identity, remote_addr=address)
        self._permissions.admit(user)
        environment = replace(self._permissions.environment(user), accompanied=accompanied)
        decision = decide(self._permissions.subject(identity), SshLogin(node, proof.login), environment)
        if not decision:
            raise DeniedError("access denied", reasons=decision.reasons)
        await self._use_up(proof, identity)
        return identity

    async def _tell(
        self,
        request: IssueOpensshUserCert | IssueRelayCert,
        node: Node,
        proxy: Identity,
        identity: Identity,
        authority: str,
        expires: float,
    ) -> None:
        await self._journal.write(
            self._journal.event(
                CERT_CREATE,
                cert_type="user",
                user=identity.name,
                identity={
                    "user": identity.name,
                    "logins": [request.proof.login],
                    "authority": authority,
                    "server_id": node.name,
                    "proxy": proxy.name,
                    "expires": rfc3339(expires),
                },
                addr_remote=request.client_addr,
            )
        )

    async def _server_names(self, node: Node) -> list[str]:
        """Name and address of a server that has joined by itself are its own word, so that it must be the one
        that joined: it could else give its own labels to another server that trusts the authority (attack
        A39). What an administrator has described is found by the name that they gave it."""
        if await self._hosts.get(node.name) is not None:
            return [node.name]
        return [node.spec.hostname, node.name]

    async def _use_up(self, proof: LoginProof, identity: Identity) -> None:
        """A signature opens one connection, once: who recorded it has nothing (attack A40)."""
        digest = hashlib.sha256(proof.session_id + proof.certificate).hexdigest()
        try:
            await self._store.backend.create(
                f"/openssh_proof/{digest}", b"{}", expires=identity.expires_at + limits.BACKDATE_S
            )
        except AlreadyExistsError:
            raise DeniedError("this login has been used already") from None

    async def host_cert(self, caller: Caller, request: IssueOpensshHostCert) -> OpensshCert:
        proxy = _proxy(caller)
        node = self._stands_for(request.node)
        cluster, now = self._authorities.cluster_name, self._store.backend.clock()
        own = [node.spec.hostname, *(bare_address(addr) for addr in node.spec.public_addrs)]
        check_principals(own, self._store, own_host_id=node.name)
        names = [node.name, f"{node.name}.{cluster}", f"{node.spec.hostname}.{cluster}", *own]
        cert = sshcert.sign_openssh_host_cert(
            self._authorities.host_ssh,
            names,
            check_public_line(request.ssh_public_key),
            valid_after=now - limits.BACKDATE_S,
            valid_before=now + limits.OPENSSH_HOST_CERT_TTL_S,
        )
        await self._journal.write(
            self._journal.event(
                CERT_CREATE,
                cert_type="host",
                user=self._journal.actor(caller),
                identity={"principals": names, "proxy": proxy.name},
            )
        )
        return OpensshCert(ssh_cert=cert, expires_at=now + limits.OPENSSH_HOST_CERT_TTL_S)

    def _stands_for(self, name: str) -> Node:
        """A server whose place a proxy takes."""
        return self._node(name) if self._store.get("node", name, OPENSSH) is not None else self._agent(name)

    def _agent(self, name: str) -> Node:
        """An agent, while it is proxies that record (attack A40)."""
        config = self._store.get("session_recording_config", "session-recording-config")
        if not isinstance(config, RecordingConfig) or config.spec.mode not in PROXY_MODES:
            raise DeniedError("proxies do not record the sessions of this cluster")
        node = self._store.get("node", name)
        if not isinstance(node, Node):
            raise DeniedError("there is no agent of that id")
        return node

    def _node(self, name: str) -> Node:
        node = self._store.get("node", name, OPENSSH)
        if not isinstance(node, Node):
            raise DeniedError("there is no server of that id that runs OpenSSH without an agent")
        if self._store.get("node", name) is not None:
            raise ConflictError("an agent and a server without one have the same id")
        return node


def _proxy(caller: Caller) -> Identity:
    """Attacks A39 and A40: nobody else, not even the administrator's socket."""
    identity = caller.host()
    if not identity.is_host(SystemRole.PROXY):
        raise DeniedError("this call is for proxies")
    return identity
