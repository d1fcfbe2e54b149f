import math
import time

import msgspec
import pytest

from pkgs.common.api.join import HostCerts
from pkgs.common.errors import InputError, TrustError
from pkgs.common.membership.identity import (
    HostIdentity,
    HostKeys,
    load_identity,
    other_identity,
    store_identity,
    verify_host_certs,
)
from pkgs.common.membership.limits import RENEW_EVERY_S
from pkgs.common.pki import x509
from pkgs.common.pki.authority import new_authority, without_secrets
from pkgs.common.pki.certspec import HostCertSpec
from pkgs.common.pki.identity import SystemRole
from pkgs.common.pki.signer import signers_of
from pkgs.common.pki.sshcert import sign_host_cert

NOW = time.time()
HOST = "9a2c6b52-0d0a-4a0e-9a4f-1b8a90a5b0aa"
OTHER = "11111111-2222-4333-8444-555555555555"
AUTHORITIES = [new_authority(kind, "alpha", NOW) for kind in ("host", "user")]
FOREIGN = [new_authority(kind, "alpha", NOW) for kind in ("host", "user")]
KEYS = HostKeys.new()


def certs(
    *,
    host_id: str = HOST,
    role: SystemRole = SystemRole.NODE,
    ttl_s: float = 1000.0,
    host_keys: HostKeys = KEYS,
    signed_by=AUTHORITIES,
    believed=AUTHORITIES,
) -> HostCerts:
    signers = signers_of(signed_by[0])
    spec = HostCertSpec(
        host_id=host_id,
        node_name="n1",
        cluster="alpha",
        system_roles=(role,),
        valid_after=NOW - 60,
        valid_before=NOW + ttl_s if ttl_s < math.inf else math.inf,
    )
    assert signers.ssh and signers.tls
    return HostCerts(
        host_id=host_id,
        cluster_name="alpha",
        ssh_cert=sign_host_cert(signers.ssh, spec, host_keys.ssh.public_line),
        tls_cert=x509.sign_host_tls(signers.tls, spec, host_keys.tls.public_pem),
        authorities=[without_secrets(ca) for ca in believed],
    )


def verified(answer: HostCerts, *, role: SystemRole = SystemRole.NODE) -> HostIdentity:
    return verify_host_certs(
        answer, KEYS, role=role, host_id=HOST, node_name="n1", additional_principals=["x.example"], now=NOW
    )


def test_a_right_answer_becomes_an_identity(tmp_path):
    identity = verified(certs())
    assert (identity.host_id, identity.cluster_name, identity.role) == (HOST, "alpha", SystemRole.NODE)
    assert identity.expires_at == int(NOW + 1000)
    assert identity.trust.cluster_name == "alpha"
    store_identity(tmp_path / "d", identity)
    assert load_identity(tmp_path / "d", SystemRole.NODE) == identity
    assert load_identity(tmp_path / "d", SystemRole.PROXY) is None
    assert other_identity(tmp_path / "d", SystemRole.PROXY) == identity
    assert other_identity(tmp_path / "d", SystemRole.NODE) is None


@pytest.mark.parametrize(
    "answer",
    [
        certs(host_id=OTHER),
        msgspec.structs.replace(certs(host_id=OTHER), host_id=HOST),
        certs(role=SystemRole.PROXY),
        certs(host_keys=HostKeys.new()),
        certs(signed_by=FOREIGN),
        certs(ttl_s=-30),
        msgspec.structs.replace(certs(), cluster_name="beta"),
        msgspec.structs.replace(certs(), authorities=[]),
        msgspec.structs.replace(certs(), tls_cert="nonsense"),
        msgspec.structs.replace(certs(), ssh_cert="ssh-ed25519 AAAA"),
        msgspec.structs.replace(certs(), ssh_cert=certs(host_keys=HostKeys.new()).ssh_cert),
        msgspec.structs.replace(certs(), tls_cert=certs(host_keys=HostKeys.new()).tls_cert),
        msgspec.structs.replace(certs(), ssh_cert=KEYS.ssh.public_line),
    ],
    ids=[
        "another host",
        "another host, renamed",
        "another role",
        "other keys",
        "authority not in the answer",
        "expired",
        "another cluster",
        "no authorities",
        "no TLS certificate",
        "no SSH certificate",
        "SSH for other keys",
        "TLS for other keys",
        "a plain key",
    ],
)
def test_a38_an_answer_that_does_not_fit_is_refused(answer):
    with pytest.raises(TrustError):
        verified(answer)


@pytest.mark.parametrize(
    ("ttl_s", "after_s"),
    [(1000.0, (1000 + 60) / 2), (400 * 86400.0, RENEW_EVERY_S), (math.inf, RENEW_EVERY_S)],
)
def test_renewal_at_half_life_and_every_fortnight(ttl_s, after_s):
    identity = verified(certs(ttl_s=ttl_s))
    assert identity.renew_at - identity.valid_after == pytest.approx(after_s, abs=1)


def test_an_identity_is_stored_private_and_never_shown(tmp_path):
    identity = verified(certs())
    store_identity(tmp_path / "d", identity)
    file = tmp_path / "d" / "proc" / "node" / "identity.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in repr(identity) + str(identity)
    file.write_bytes(file.read_bytes().replace(b'"version":1', b'"version":2'))
    with pytest.raises(InputError, match="another version"):
        load_identity(tmp_path / "d", SystemRole.NODE)
