"""Keys, authorities, trust, pins and identity files."""

from __future__ import annotations

import math

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519

from pkgs.common.errors import DeniedError, InputError, TrustError
from pkgs.common.pki import authority, certspec, identityfile, keys, pins, source, sshcert, x509
from pkgs.common.pki.identity import Identity, PeerKind
from pkgs.common.pki.identityfile import IdentityFile
from pkgs.common.pki.signer import SshSigner, TlsSigner, signers_of
from pkgs.common.pki.ssh import key as sshkey
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import CaKeySet, CertAuthority, CertAuthoritySpec, TlsKeyPair
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.names import valid_cluster_name, valid_host_name, valid_user_name

NOW = 1_800_000_000.0


def pem(key: object) -> bytes:
    return key.private_bytes(  # type: ignore[attr-defined, no-any-return]
        ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption()
    )


def spki(key: object) -> str:
    raw = key.public_key().public_bytes(  # type: ignore[attr-defined]
        ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo
    )
    return str(raw.decode())


def test_new_keys_load_again() -> None:
    ssh, tls = keys.new_ssh_key("me@here"), keys.new_tls_key()
    assert ssh.public_line.endswith(" me@here")
    assert keys.public_line_of(ssh.private_pem) == ssh.public_line.rsplit(" ", 1)[0]
    assert keys.check_public_line(ssh.public_line) == keys.public_line_of(ssh.private_pem)
    assert keys.public_pem_of(tls.private_pem) == tls.public_pem == keys.check_public_pem(tls.public_pem)
    assert keys.ssh_fingerprint(ssh.public_line).startswith("SHA256:")


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
)
def test_other_good_keys(key: object) -> None:
    assert keys.load_private_key(pem(key))
    assert keys.check_public_pem(spki(key))
    assert keys.check_public_line(keys.public_line_of(pem(key)))


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 1024),
        ec.generate_private_key(ec.SECP256K1()),
        dsa.generate_private_key(2048),
        x25519.X25519PrivateKey.generate(),
    ],
)
def test_keys_that_are_never_certified(key: object) -> None:
    with pytest.raises(InputError):
        keys.check_public_pem(spki(key))


def test_private_keys_that_do_not_load() -> None:
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(
        ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.BestAvailableEncryption(b"x")
    )
    for raw in (
        b"",
        b"garbage",
        locked,
        pem(x25519.X25519PrivateKey.generate()),
        b"-----BEGIN OPENSSH PRIVATE KEY-----",
    ):
        with pytest.raises(InputError) as caught:
            keys.load_private_key(raw)
        assert "BEGIN" not in str(caught.value)
    with pytest.raises(InputError):
        keys.load_public_pem("garbage")


def test_sign_with_every_kind_of_key() -> None:
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP521R1())):
        kind, public = sshkey.parse_public_blob(sshkey.public_blob(key.public_key()))
        assert sshkey.verify_signature(kind, public, sshkey.sign(key, b"data"), b"data")


def test_authorities_of_every_type_have_their_keys() -> None:
    for kind in authority.CA_TYPES:
        ca = authority.new_authority(kind, "demo", NOW)
        found = ca.spec.active_keys
        assert (bool(found.ssh), bool(found.tls), bool(found.jwt)) == tuple(
            protocol in authority.PROTOCOLS[kind] for protocol in ("ssh", "tls", "jwt")
        )
        bare = authority.without_secrets(ca).spec.active_keys
        assert not any(p.private_key for p in (*bare.ssh, *bare.jwt))
        assert not any(p.key for p in bare.tls)
        assert signers_of(authority.without_secrets(ca)) == (None, None)
    with pytest.raises(InputError):
        authority.new_authority("user", "not a name", NOW)


def test_signers_check_their_halves() -> None:
    ca = authority.new_authority("user", "demo", NOW)
    cert = ca.spec.active_keys.tls[0].cert
    with pytest.raises(InputError):
        TlsSigner.load(cert, keys.new_tls_key().private_pem)
    with pytest.raises(InputError):
        TlsSigner.load("garbage", keys.new_tls_key().private_pem)
    assert "PRIVATE" not in repr(signers_of(ca))
    big = pem(ec.generate_private_key(ec.SECP384R1()))
    assert TlsSigner.load(x509.new_ca("demo", big, now=NOW), big)
    small = pem(ed25519.Ed25519PrivateKey.generate())
    assert TlsSigner.load(x509.new_ca("demo", small, now=NOW), small)


def test_trust_knows_purposes_and_clusters() -> None:
    user, host = (authority.new_authority(kind, "demo", NOW) for kind in ("user", "host"))
    leaf = authority.new_authority("user", "leaf", NOW)
    with pytest.raises(InputError):
        Trust.from_authorities([user, leaf])
    trust = Trust.from_authorities([user, host, leaf], "demo")
    assert trust.cluster_name == "demo"
    assert {k.cluster for k in trust.ssh_keys("user").values()} == {"demo", "leaf"}
    assert trust.ssh_keys("openssh") == {}
    assert trust.tls_cas("db") == ()
    assert trust.tls_roots_pem("user", "host").count("BEGIN CERTIFICATE") == 3
    assert trust.ssh_ca_lines("host") == [host.spec.active_keys.ssh[0].public_key]
    assert trust.known_hosts_lines()[0].startswith("@cert-authority *.demo,demo ssh-ed25519 ")
    assert trust.known_hosts_lines(["x"])[0].startswith("@cert-authority x ")
    assert trust.pins() == [pins.pin_of_cert(host.spec.active_keys.tls[0].cert)]
    signer = signers_of(leaf).ssh
    assert signer is not None
    spec = certspec.UserCertSpec(
        user="eve", cluster="demo", roles=("a",), logins=("root",), valid_after=NOW, valid_before=NOW + 60
    )
    line = sshcert.sign_user_cert(signer, spec, keys.new_ssh_key().public_line)
    identity = sshcert.verify_user_cert(
        sshcert.line_to_blob(line), trust=trust, login=None, source_addr="", now=NOW
    )
    assert identity.cluster == "leaf"  # the authority decides, not the spec
    with pytest.raises(InputError):
        stolen = CertAuthoritySpec(type="user", cluster_name="leaf2", active_keys=leaf.spec.active_keys)
        Trust.from_authorities([leaf, CertAuthority(metadata=Metadata(name="leaf2"), spec=stolen)], "leaf")


def test_rotation_trusts_both_and_signs_with_the_active_one() -> None:
    old, new = (authority.new_authority("host", "demo", NOW) for _ in range(2))
    spec = CertAuthoritySpec(
        type="host",
        cluster_name="demo",
        active_keys=new.spec.active_keys,
        additional_trusted_keys=old.spec.active_keys,
    )
    both = CertAuthority(metadata=Metadata(name="demo"), sub_kind="host", spec=spec)
    assert len(Trust.from_authorities([both]).pins()) == 2
    signer = signers_of(both).ssh
    assert signer is not None
    assert signer.public_line == new.spec.active_keys.ssh[0].public_key
    assert len(Trust.from_authorities([both, old]).tls_cas("host")) == 2


def test_unusable_authority_keys_are_refused() -> None:
    spec = CertAuthoritySpec(
        type="host", cluster_name="demo", active_keys=CaKeySet(tls=[TlsKeyPair(cert="garbage")])
    )
    with pytest.raises(InputError):
        Trust.from_authorities([CertAuthority(metadata=Metadata(name="demo"), spec=spec)])


class TestPins:
    CERT = authority.new_authority("host", "demo", NOW).spec.active_keys.tls[0].cert
    OTHER = authority.new_authority("host", "demo", NOW).spec.active_keys.tls[0].cert

    def test_match(self) -> None:
        pin = pins.pin_of_cert(self.CERT)
        pins.check_pin([self.CERT], [pin.upper().replace("SHA256", "sha256"), pins.pin_of_cert(self.OTHER)])

    def test_a38_mismatch_and_smuggled_second_certificate(self) -> None:
        pin = pins.pin_of_cert(self.CERT)
        for certs in ([self.OTHER], [self.CERT, self.OTHER], []):
            with pytest.raises(TrustError):
                pins.check_pin(certs, [pin])
        with pytest.raises(TrustError):
            pins.check_pin([self.CERT], [])

    @pytest.mark.parametrize("pin", ["", "sha256:", "md5:" + "0" * 64, "0" * 64, "sha256:" + "g" * 64])
    def test_not_a_pin(self, pin: str) -> None:
        with pytest.raises(InputError):
            pins.check_pin([self.CERT], [pin])
        with pytest.raises(InputError):
            pins.pin_of_cert("garbage")


def make_identity_file() -> IdentityFile:
    cas = {kind: authority.new_authority(kind, "demo", NOW) for kind in ("user", "host")}  # type: ignore[arg-type]
    signers = signers_of(cas["user"])
    assert signers.ssh is not None
    assert signers.tls is not None
    key = keys.new_tls_key()
    spec = certspec.UserCertSpec(
        user="alice", cluster="demo", roles=("a",), logins=("root",), valid_after=NOW, valid_before=NOW + 60
    )
    trust = Trust.from_authorities(cas.values())
    return IdentityFile(
        private_key=key.private_pem,
        ssh_cert=sshcert.sign_user_cert(signers.ssh, spec, keys.public_line_of(key.private_pem)),
        tls_cert=x509.sign_user_tls(signers.tls, spec, key.public_pem),
        tls_ca_certs=tuple(ca.pem for ca in trust.tls_cas("host")),
        ssh_ca_lines=tuple(trust.known_hosts_lines()),
    )


def test_identity_file_round_trip() -> None:
    file = make_identity_file()
    raw = identityfile.write_identity_file(file)
    assert identityfile.read_identity_file("# comment\n\n" + raw.decode()) == file
    assert "PRIVATE" not in repr(file)


def test_identity_files_that_are_refused() -> None:
    text = identityfile.write_identity_file(make_identity_file()).decode()
    key_end = text.index("-----END") + 25
    for bad in (
        "",
        text[key_end:],
        text + text,
        text.replace("-----END PRIVATE KEY-----\n", "", 1)[:300],
        text + "garbage\n",
        text + "-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----\n",
        text.replace("-cert-v01@openssh.com ", "-cert-v01@openssh.com !", 1),
        "x" * 300_000,
    ):
        with pytest.raises(InputError) as caught:
            identityfile.read_identity_file(bad, "id.pem")
        assert "MIG" not in str(caught.value)


def test_source_addresses() -> None:
    assert source.same_address("::1", "0:0:0:0:0:0:0:1")
    assert not source.same_address("", "")
    assert not source.same_address("10.0.0.1", "")
    pinned = Identity(kind=PeerKind.USER, name="a", cluster="demo", source_addr="10.0.0.1")
    source.check_source(pinned, "10.0.0.1")
    with pytest.raises(DeniedError):
        source.check_source(pinned, "")


def test_reissue_is_for_users_and_only_shrinks() -> None:
    user = Identity(kind=PeerKind.USER, name="a", cluster="demo", logins=("x",), expires_at=NOW + 60)
    assert certspec.spec_from_identity(user, valid_after=NOW).valid_before == NOW + 60
    for change in ({"valid_before": NOW + 61}, {"user": "b"}, {"cluster": "other"}):
        with pytest.raises(InputError):
            certspec.spec_from_identity(user, valid_after=NOW, **change)
    host = Identity(kind=PeerKind.HOST, name="h", cluster="demo", expires_at=math.inf)
    with pytest.raises(InputError):
        certspec.spec_from_identity(host, valid_after=NOW)


def test_openssh_host_certificate() -> None:
    ca = keys.new_ssh_key()
    signer = SshSigner.load(ca.private_pem)
    line = sshcert.sign_openssh_host_cert(
        signer,
        ["db.example.com", "10.1.1.1"],
        keys.new_ssh_key().public_line,
        valid_after=NOW,
        valid_before=NOW + 9,
    )
    facts = sshcert.unverified_facts(sshcert.line_to_blob(line))
    assert facts.principals == ("db.example.com", "10.1.1.1")
    for names in ([], ["a b"], ["auth.teleport.cluster.local"], ["x"] * 300):
        with pytest.raises(InputError):
            sshcert.sign_openssh_host_cert(
                signer, names, keys.new_ssh_key().public_line, valid_after=NOW, valid_before=NOW + 9
            )


def test_names() -> None:
    assert valid_user_name("alice@example.com")
    assert valid_user_name("bot-x")
    assert not valid_user_name("{{internal.logins}}")
    assert valid_host_name("10.0.0.1")
    assert valid_host_name("::1")
    assert not valid_host_name("fe80::1%eth0")
    assert not valid_host_name("a_b c")
    assert valid_cluster_name("demo.example.com")
    assert not valid_cluster_name("")
