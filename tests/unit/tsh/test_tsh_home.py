"""Profiles on disk, certificates as far as they are read here."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.clients.tsh.profile import home
from pkgs.clients.tsh.profile.certfacts import read_cert
from pkgs.common.errors import AccessError, InputError, NotFoundError
from pkgs.common.pki import keys
from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.pki.signer import SshSigner
from pkgs.common.pki.sshcert import sign_user_cert
from tests.harness.examples import examples


def test_a_profile_comes_back(tmp_path: Path) -> None:
    profile = home.Profile(
        "hub.example.com", "hub.example.com:3080", "ali ce", "demo", "hub:3023", "hub:3036"
    )
    (tmp_path / "hub.example.com.yaml").write_text(home.render(profile))
    back = home.load(str(tmp_path), "hub.example.com")
    assert (back.web_proxy_addr, back.user, back.cluster, back.ssh_proxy_addr, back.mysql_proxy_addr) == (
        "hub.example.com:3080", "ali ce", "demo", "hub:3023", "hub:3036",
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "web_proxy_addr: a:1\nuser: alice\ncluster: demo\n",
        "# mine\nweb_proxy_addr: 'a:1'\n\nuser: \"alice\" # me\ncluster: demo\n\nports:\n- 1080\n",
        "{web_proxy_addr: 'a:1', user: alice, cluster: demo}\n",
    ],
)
def test_profiles_written_by_others(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    back = home.load(str(tmp_path), "a")
    assert (back.web_proxy_addr, back.user, back.cluster) == ("a:1", "alice", "demo")


def test_an_empty_cluster_is_the_profile_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("web_proxy_addr: a:1\nuser: alice\ncluster: ''\n")
    assert home.load(str(tmp_path), "a").cluster == "a"


@pytest.mark.parametrize(
    "text", ["", "user: alice\n", "web_proxy_addr: a:1\nuser: ../../x\n", ": : :\n[", "- a\n"]
)
def test_broken_profiles_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError):
        home.load(str(tmp_path), "a")


@pytest.mark.parametrize("name", ["../x", "", "a/b", "-x", "..", "a..b"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        home.load(str(tmp_path), name)


def test_only_regular_files_are_profiles(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "b.yaml").symlink_to(tmp_path / "a.yaml")
    (tmp_path / "c.yaml").mkdir()
    (tmp_path / "d.txt").write_text("")
    assert home.profile_names(str(tmp_path)) == ["a"]
    assert home.profile_names(str(tmp_path / "none")) == []


def test_nothing_stored(tmp_path: Path) -> None:
    assert home.current_name(str(tmp_path)) == ""
    with pytest.raises(NotFoundError, match="tsh login"):
        home.load(str(tmp_path), "a")


def test_profile_names_of_addresses() -> None:
    assert home.profile_name("hub:3080") == "hub"
    assert home.profile_name("hub") == "hub"
    assert home.profile_name("[::1]:3080") == "::1"
    for bad in ("", "a b", "../x:1", "-x:1", "a/b:1", "\x1b:1"):
        with pytest.raises(InputError):
            home.profile_name(bad)


def _cert(**changes: object) -> str:
    spec = UserCertSpec(
        user="alice",
        cluster="demo",
        roles=("access", "editor"),
        traits={"logins": ("root", "ubuntu")},
        logins=("root", "-teleport-internal-join"),
        valid_after=1000.0,
        valid_before=2000.0,
        **changes,  # type: ignore[arg-type]
    )
    signer = SshSigner.load(keys.new_ssh_key().private_pem)
    return sign_user_cert(signer, spec, keys.new_ssh_key().public_line)


def test_the_facts_of_a_certificate_without_a_crypto_library() -> None:
    facts = read_cert(_cert(), "test")
    assert facts.key_id == "alice"
    assert facts.logins() == ["root"]
    assert facts.roles() == ["access", "editor"]
    assert facts.traits() == {"logins": ["root", "ubuntu"]}
    assert facts.valid_before == 2000
    assert "permit-pty" in facts.extensions


def test_a_key_that_serves_tls_too() -> None:
    tls = keys.new_tls_key()
    signer = SshSigner.load(keys.new_ssh_key().private_pem)
    spec = UserCertSpec(
        user="bob", cluster="demo", roles=(), traits={}, logins=("bob",), valid_after=1.0, valid_before=2.0
    )
    assert read_cert(sign_user_cert(signer, spec, keys.public_line_of(tls.private_pem)), "t").key_id == "bob"


@pytest.mark.fuzz
@given(st.integers(0, 700), st.integers(0, 255))
@settings(max_examples=examples(60))
def test_a_damaged_certificate_is_refused_or_read(at: int, value: int) -> None:
    kind, blob = _CERT.split()[:2]
    import base64

    raw = bytearray(base64.b64decode(blob))
    raw[at % len(raw)] = value
    try:
        read_cert(f"{kind} {base64.b64encode(bytes(raw)).decode()}", "test")
    except AccessError as error:
        assert "tsh login" in str(error)


_CERT = _cert()


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "x !!!", "a b c"])
def test_what_is_no_certificate(line: str) -> None:
    with pytest.raises(InputError):
        read_cert(line, "test")
