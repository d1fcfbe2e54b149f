"""SSH certificates against the checklist: A01-A07, A12, A13, A15-A17. One row, one attack."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from pkgs.common.access.decide import decide
from pkgs.common.access.types import Environment, See, SshLogin, Subject, UseRule
from pkgs.common.errors import AccessError, DeniedError, InputError, TrustError
from pkgs.common.pki import certspec, keys, sshcert
from pkgs.common.pki.identity import Identity
from pkgs.common.pki.signer import SshSigner
from pkgs.common.pki.ssh.parse import RELAYED
from pkgs.common.pki.trust import Trust
from pkgs.common.resources.kinds import Node, ServerSpec
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.presets import preset_roles
from tests.security.cert_kit import (
    ED_CA,
    FOREVER,
    HOST_CA,
    NOW,
    OTHER_CA,
    TRUST,
    USER_KEY,
    Craft,
    authority,
    line_of,
    options,
    plain_blob,
    s,
)

GOOD = Craft()
HOST = Craft(ca=HOST_CA, cert_type=2, key_id="", principals=("node-1", "node-1.demo"), extensions=b"")


def verify(
    craft: Craft | bytes, login: str | None = "root", addr: str = "10.0.0.5", trust: Trust = TRUST
) -> Identity:
    blob = craft.blob() if isinstance(craft, Craft) else craft
    return sshcert.verify_user_cert(blob, trust=trust, login=login, source_addr=addr, now=NOW)


def refused(craft: Craft | bytes, login: str | None = "root", addr: str = "10.0.0.5") -> AccessError:
    with pytest.raises((TrustError, DeniedError)) as caught:
        verify(craft, login, addr)
    assert "Traceback" not in str(caught.value)
    return caught.value


def test_good_certificate_is_accepted() -> None:
    identity = verify(GOOD)
    assert identity.name == "alice"
    assert identity.logins == ("root", "alice")
    assert identity.roles == ("access",)
    assert identity.cluster == "demo"
    assert identity.expires_at == NOW + 3600


class TestA01SignerIsACertificate:
    def test_a01_signature_key_field_is_a_certificate(self) -> None:
        inner = Craft(key=OTHER_CA.public_key(), principals=("root",)).blob()
        refused(GOOD.but(ca=OTHER_CA, signer_field=inner))

    def test_a01_signature_key_field_is_a_certificate_of_the_authority_itself(self) -> None:
        inner = Craft(key=ED_CA.public_key()).blob()
        refused(GOOD.but(signer_field=inner))

    def test_a01_trust_never_takes_a_certificate_as_authority(self) -> None:
        ca = authority("user", ED_CA)
        pair = type(ca.spec.active_keys.ssh[0])(public_key=line_of(GOOD.blob()))
        spec = type(ca.spec)(
            type="user", cluster_name="demo", active_keys=type(ca.spec.active_keys)(ssh=[pair])
        )
        with pytest.raises(InputError):
            Trust.from_authorities([type(ca)(metadata=ca.metadata, sub_kind="user", spec=spec)])


class TestA02ForeignAuthority:
    def test_a02_untrusted_authority(self) -> None:
        refused(GOOD.but(ca=OTHER_CA))

    def test_a02_trusted_key_named_but_signed_by_another(self) -> None:
        refused(GOOD.but(ca=OTHER_CA, signer_field=plain_blob(ED_CA.public_key())))

    @pytest.mark.parametrize("back", [1, 20, 64])
    def test_a02_flipped_signature_bit(self, back: int) -> None:
        refused(GOOD.but(flip=back))

    def test_a02_any_flipped_byte_of_the_body(self) -> None:
        blob = GOOD.blob()
        for at in range(0, len(blob), 7):
            refused(blob[:at] + bytes([blob[at] ^ 0x40]) + blob[at + 1 :])

    def test_a02_no_authorities_at_all(self) -> None:
        with pytest.raises(TrustError):
            verify(GOOD, trust=Trust.from_authorities([]))


class TestA03WrongPurpose:
    def test_a03_host_certificate_for_user_login(self) -> None:
        refused(HOST.but(principals=("root",)))
        refused(GOOD.but(cert_type=2))
        refused(GOOD.but(ca=HOST_CA))

    def test_a03_user_certificate_as_host_key(self) -> None:
        for craft in (GOOD, GOOD.but(principals=("node-1",)), HOST.but(cert_type=1), HOST.but(ca=ED_CA)):
            with pytest.raises(TrustError):
                sshcert.verify_host_cert(craft.blob(), trust=TRUST, names=["node-1"], now=NOW)
        assert sshcert.verify_host_cert(HOST.blob(), trust=TRUST, names=["NODE-1"], now=NOW).cluster == "demo"

    @pytest.mark.parametrize("cert_type", [0, 3, 2**32 - 1])
    def test_a03_neither_user_nor_host(self, cert_type: int) -> None:
        refused(GOOD.but(cert_type=cert_type))

    def test_a03_plain_keys_are_no_certificates(self) -> None:
        refused(plain_blob(USER_KEY.public_key()))


class TestA04NoPrincipals:
    def test_a04_empty_list(self) -> None:
        refused(GOOD.but(principals=()))
        refused(GOOD.but(principals=()), login=None)

    def test_a04_host_without_names(self) -> None:
        with pytest.raises(TrustError):
            sshcert.verify_host_cert(HOST.but(principals=()).blob(), trust=TRUST, names=["node-1"], now=NOW)

    def test_a04_signing_without_principals(self) -> None:
        with pytest.raises(InputError):
            sshcert.sign_user_cert(_signer(), _spec(logins=()), _user_line())


class TestA05OddPrincipals:
    @pytest.mark.parametrize(
        "principal",
        [
            "deploy,root",
            "root,deploy",
            "root\n",
            "root\0",
            "root ",
            " root",
            "*",
            "Root",
            "r*t",
            "ro",
            "r\u043e\u043et",
            "",
        ],
    )
    def test_a05_only_the_exact_principal_matches(self, principal: str) -> None:
        refused(GOOD.but(principals=(principal,)))

    @pytest.mark.parametrize("packed", [s("root")[:-1], s("root") + b"\0", b"root", struct.pack(">I", 2**31)])
    def test_a05_malformed_list(self, packed: bytes) -> None:
        refused(GOOD.but(packed_principals=packed))

    def test_a05_not_utf8(self) -> None:
        refused(GOOD.but(principals=(b"root\xff", b"root")))

    def test_a05_too_many(self) -> None:
        refused(GOOD.but(principals=(*(f"u{i}" for i in range(257)), "root")))

    @pytest.mark.parametrize("login", ["a,root", "*", "root\n", ""])
    def test_a05_signing_refuses_odd_logins(self, login: str) -> None:
        with pytest.raises(InputError):
            sshcert.sign_user_cert(_signer(), _spec(logins=("root", login)), _user_line())

    def test_a05_decision_needs_the_principal_too(self) -> None:
        identity = verify(GOOD.but(principals=("alice",)), login="alice")
        env = Environment(now=NOW)
        target = SshLogin(_node(), "root")
        assert not decide(Subject(identity, preset_roles()[:1]), target, env)


HOST_ID = "11111111-2222-4333-8444-555555555555"


class TestA06Options:
    @pytest.mark.parametrize(
        "critical",
        [
            options(("unknown@example.com", "x")),
            options(("verify-required", None)),
            options(("source-address", "abc")),
            options(("source-address", "")),
            options(("source-address", "10.0.0.0/33")),
            options(("source-address", "10.0.0.5/8")),
            options(("source-address", "10.0.0.0/8,")),
            options(("source-address", "10.0.0.0/8, 10.0.0.5/32")),
            options(("source-address", "!10.0.0.0/8")),
            options(("source-address", ",".join(["10.0.0.5"] * 33))),
            options(("source-address", None)),
            options(("source-address", s("10.0.0.5/32") + b"x")),
            options(("source-address", "10.0.0.5/32"), ("source-address", "0.0.0.0/0")),
            options(("force-command", "")),
            options(("force-command", "a\0b")),
            options(("force-command", None)),
            options(("force-command", "a"), ("force-command", "b")),
            options(("Source-Address", "10.0.0.5/32")),
            options((RELAYED, "")),
            options((RELAYED, HOST_ID)),
            options((RELAYED, f"{HOST_ID} ")),
            options((RELAYED, f"{HOST_ID} {HOST_ID} {HOST_ID}")),
            options((RELAYED, f"{HOST_ID}\0{HOST_ID}")),
            options((RELAYED, f"{HOST_ID} {HOST_ID}")),  # good, but for that host alone
            b"\0\0\0\x10abc",
            b"\0",
        ],
    )
    def test_a06_critical_options_that_do_not_parse(self, critical: bytes) -> None:
        refused(GOOD.but(critical=critical))

    def test_a06_unknown_extension_is_ignored(self) -> None:
        extensions = options(("permit-pty", None), ("x@example.com", "y"), ("z@example.com", b"\1\2"))
        assert verify(GOOD.but(extensions=extensions)).extensions == ("permit-pty",)

    @pytest.mark.parametrize(
        "extensions",
        [
            options(("permit-pty", None), ("permit-pty", None)),
            options(("permit-pty", "value")),
            options(("teleport-roles", "not json")),
            options(("teleport-roles", '{"roles":"access"}')),
            options(("teleport-traits", '{"logins":"root"}')),
            options(("teleport-allowed-resources", "*")),
            options(("prev-identity-expires", "yesterday")),
            options(("generation", "0")),
            options(("generation", "1" * 13)),
            options(("renewable", "no")),
            options(("bot-name@goteleport.com", "")),
            options(("prev-identity-expires", "2026-01-01T00:00:00")),
            options(("mfa-verified", None)),
            options(*((f"x{i}@example.com", None) for i in range(65))),
            b"\0\0",
        ],
    )
    def test_a06_known_extension_with_garbage(self, extensions: bytes) -> None:
        refused(GOOD.but(extensions=extensions))

    def test_a06_host_certificate_with_a_critical_option(self) -> None:
        craft = HOST.but(critical=options(("force-command", "x")))
        with pytest.raises(TrustError):
            sshcert.verify_host_cert(craft.blob(), trust=TRUST, names=["node-1"], now=NOW)

    def test_a06_reserved_field_and_trailing_bytes(self) -> None:
        refused(GOOD.but(reserved=b"x"))
        refused(GOOD.but(tail=b"x"))


class TestA07Time:
    @pytest.mark.parametrize(
        ("after", "before"),
        [
            (int(NOW) + 31, int(NOW) + 3600),
            (int(NOW) + 3600, int(NOW) + 7200),
            (int(NOW) - 3600, int(NOW)),
            (int(NOW) - 3600, int(NOW) - 1),
            (0, FOREVER),
            (int(NOW) - 60, FOREVER),
            (int(NOW) + 10, int(NOW) + 10),
            (int(NOW) + 20, int(NOW) + 10),
            (FOREVER, int(NOW) + 10),
            (FOREVER, FOREVER),
        ],
    )
    def test_a07_outside_its_life(self, after: int, before: int) -> None:
        refused(GOOD.but(valid_after=after, valid_before=before))

    def test_a07_small_clock_skew_is_tolerated(self) -> None:
        assert verify(GOOD.but(valid_after=int(NOW) + 29))

    def test_a07_signing_refuses_for_ever_and_backwards(self) -> None:
        for spec in (_spec(valid_before=float("inf")), _spec(valid_after=NOW, valid_before=NOW - 1)):
            with pytest.raises(InputError):
                sshcert.sign_user_cert(_signer(), spec, _user_line())

    def test_a07_a_host_may_live_for_ever(self) -> None:
        craft = HOST.but(valid_before=FOREVER)
        identity = sshcert.verify_host_cert(craft.blob(), trust=TRUST, names=["node-1"], now=NOW)
        assert identity.expires_at == float("inf")


class TestA12SourceAddress:
    PINNED = GOOD.but(critical=options(("source-address", "10.0.0.5/32")))

    def test_a12_used_from_elsewhere(self) -> None:
        for addr in ("10.0.0.6", "", "::1", "10.0.0.5x", "10.0.0.0/8", "::10.0.0.5"):
            refused(self.PINNED, addr=addr)

    @pytest.mark.parametrize("addr", ["10.0.0.5", "::ffff:10.0.0.5"])
    def test_a12_used_from_its_place(self, addr: str) -> None:
        assert verify(self.PINNED, addr=addr).source_addr == "10.0.0.5"

    def test_a12_a_list_of_networks_narrows_to_the_address_in_use(self) -> None:
        craft = GOOD.but(critical=options(("source-address", "192.0.2.0/24,10.0.0.0/8,2001:db8::/32")))
        assert verify(craft, addr="10.9.9.9").source_addr == "10.9.9.9"
        assert verify(craft, addr="2001:db8::7").source_addr == "2001:db8::7"
        refused(craft, addr="11.0.0.1")

    @pytest.mark.parametrize("target", [See, UseRule, SshLogin])
    def test_a12_every_decision_checks_it(self, target: type) -> None:
        identity = verify(self.PINNED)
        asked: Any = {
            See: lambda: See(_node()),
            SshLogin: lambda: SshLogin(_node(), "root"),
            UseRule: lambda: UseRule("node", "list"),
        }[target]()
        subject = Subject(identity, preset_roles()[:1])
        assert decide(subject, asked, Environment(now=NOW, source_addr="10.0.0.5"))
        assert not decide(subject, asked, Environment(now=NOW, source_addr="10.0.0.6"))
        assert not decide(subject, asked, Environment(now=NOW))

    def test_a12_reissue_keeps_the_pin(self) -> None:
        identity = verify(self.PINNED)
        spec = certspec.spec_from_identity(identity, valid_after=NOW)
        assert spec.source_addr == "10.0.0.5"
        for dropped in ({"source_addr": ""}, {"source_addr": "10.0.0.6"}):
            with pytest.raises(InputError):
                certspec.spec_from_identity(identity, valid_after=NOW, **dropped)


def test_a13_force_command_and_extensions_reach_the_identity() -> None:
    craft = GOOD.but(critical=options(("force-command", "uptime")), extensions=b"")
    identity = verify(craft)
    assert identity.force_command == "uptime"
    assert identity.extensions == ()
    with pytest.raises(InputError):
        certspec.spec_from_identity(identity, valid_after=NOW, force_command="")


class TestA15AuthorityKeys:
    def test_a15_authority_key_as_user_key(self) -> None:
        refused(plain_blob(ED_CA.public_key()))
        refused(GOOD.but(key=ED_CA.public_key()))
        refused(GOOD.but(key=HOST_CA.public_key()))

    def test_a15_authority_key_is_never_certified(self) -> None:
        with pytest.raises(InputError):
            sshcert.sign_user_cert(_signer(), _spec(), line_of(plain_blob(ED_CA.public_key())))

    def test_a15_rotated_out_authority(self) -> None:
        rotated = Trust.from_authorities([authority("user", OTHER_CA), authority("host", HOST_CA)])
        with pytest.raises(TrustError):
            verify(GOOD, trust=rotated)
        both = Trust.from_authorities([authority("user", OTHER_CA, ED_CA)])
        assert verify(GOOD, trust=both)


class TestA16WeakKeys:
    def test_a16_rsa_authority_signs_with_sha2_only(self) -> None:
        rsa_ca = rsa.generate_private_key(65537, 2048)
        trust = Trust.from_authorities([authority("user", rsa_ca)])
        assert verify(GOOD.but(ca=rsa_ca), trust=trust)
        assert verify(GOOD.but(ca=rsa_ca, algorithm="rsa-sha2-256"), trust=trust)
        with pytest.raises(TrustError):
            verify(GOOD.but(ca=rsa_ca, algorithm="ssh-rsa"), trust=trust)

    def test_a16_short_rsa(self) -> None:
        weak = rsa.generate_private_key(65537, 1024)
        refused(GOOD.but(key=weak.public_key()))
        with pytest.raises(InputError):
            Trust.from_authorities([authority("user", weak)])
        with pytest.raises(InputError):
            sshcert.sign_user_cert(_signer(), _spec(), line_of(plain_blob(weak.public_key())))

    def test_a16_dsa(self) -> None:
        numbers = dsa.generate_private_key(1024).public_key().public_numbers()
        p = numbers.parameter_numbers
        fields = b"".join(s(v.to_bytes(v.bit_length() // 8 + 1, "big")) for v in (p.p, p.q, p.g, numbers.y))
        line = "ssh-dss " + base64.b64encode(s("ssh-dss") + fields).decode()
        with pytest.raises(InputError):
            keys.check_public_line(line)

    @pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
    def test_a16_curves_we_take(self, curve: Callable[[], ec.EllipticCurve]) -> None:
        key = ec.generate_private_key(curve())
        trust = Trust.from_authorities([authority("user", key)])
        assert verify(GOOD.but(ca=key, key=ec.generate_private_key(curve()).public_key()), trust=trust)

    @pytest.mark.parametrize(
        "kind",
        [
            "ssh-dss-cert-v01@openssh.com",
            "ssh-rsa-cert-v00@openssh.com",
            "ssh-ed25519",
            "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            "none-cert-v01@openssh.com",
        ],
    )
    def test_a16_other_certificate_types(self, kind: str) -> None:
        refused(GOOD.but(kind=kind))

    def test_a16_signature_algorithm_of_another_key_type(self) -> None:
        refused(GOOD.but(algorithm="ecdsa-sha2-nistp256"))
        refused(GOOD.but(algorithm="none"))


class TestA17LoginNames:
    BAD = (
        "0",
        "00",
        "1000",
        "-oProxyCommand=x",
        "-l",
        "../x",
        "a/b",
        "..",
        ".",
        "a..b",
        "x" * 10_000,
        "x" * 33,
        "r\u043e\u043et",
        "root\u200b",
        "",
        " root",
        "root\n",
        "root\0",
        "a b",
        "a:b",
        "a;b",
        "$(id)",
        "*",
        "~root",
        "+root",
        "0$",
    )

    @pytest.mark.parametrize("login", BAD)
    def test_a17_refused_by_syntax_even_when_certified(self, login: str) -> None:
        craft = GOOD.but(principals=(login, "root"))
        error = refused(craft, login=login)
        assert len(str(error)) < 200
        identity = verify(craft, login=None)
        assert not decide(
            Subject(identity, preset_roles()[:1]), SshLogin(_node(), login), Environment(now=NOW)
        )

    @pytest.mark.parametrize(
        "login", ["root", "ec2-user", "_apt", "a.b", "machine$", "0day", "Administrator"]
    )
    def test_a17_ordinary_names_pass(self, login: str) -> None:
        assert verify(GOOD.but(principals=(login,)), login=login)


def test_host_certificate_with_claims_that_do_not_fit() -> None:
    for extensions in (
        options(("x-teleport-authority", "other")),
        options(("x-teleport-role", "Emperor")),
    ):
        with pytest.raises(TrustError):
            craft = HOST.but(extensions=extensions)
            sshcert.verify_host_cert(craft.blob(), trust=TRUST, names=["node-1"], now=NOW)


def test_user_certificate_without_a_user_and_spec_without_an_address() -> None:
    refused(GOOD.but(key_id=""))
    with pytest.raises(InputError):
        sshcert.sign_user_cert(_signer(), _spec(source_addr="10.0.0.0/8"), _user_line())


def _node() -> Node:
    return Node(
        metadata=Metadata(name="11111111-2222-4333-8444-555555555555", labels={"env": "dev"}),
        spec=ServerSpec(hostname="node-1"),
    )


def _signer() -> SshSigner:
    from cryptography.hazmat.primitives import serialization as ser

    return SshSigner.load(
        ED_CA.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.OpenSSH, ser.NoEncryption())
    )


def _user_line() -> str:
    return line_of(plain_blob(ed25519.Ed25519PrivateKey.generate().public_key()))


def _spec(**changes: Any) -> certspec.UserCertSpec:
    fields: dict[str, Any] = {
        "user": "alice",
        "cluster": "demo",
        "roles": ("access",),
        "logins": ("root",),
        "valid_after": NOW - 60,
        "valid_before": NOW + 3600,
    }
    return certspec.UserCertSpec(**{**fields, **changes})
