"""The identity file of `tctl auth sign --format=file` and `tsh -i`: key, certificates and authorities in one.

PEM blocks and OpenSSH lines after one another, recognised by what they are and not by their order: one
private key, one SSH certificate line, TLS certificates (the first is the user's own, the others are
authorities), and `@cert-authority` lines.
"""

from __future__ import annotations

import msgspec

from pkgs.common.errors import InputError
from pkgs.common.pki import keys, limits
from pkgs.common.pki.ssh import key as sshkey


class IdentityFile(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a client needs to be somebody. One private key serves SSH and TLS."""

    private_key: bytes
    """PEM."""
    ssh_cert: str
    """`authorized_keys` form."""
    tls_cert: str
    """PEM."""
    tls_ca_certs: tuple[str, ...] = ()
    """PEM, one certificate each."""
    ssh_ca_lines: tuple[str, ...] = ()
    """`@cert-authority` lines of a known_hosts file."""

    def __repr__(self) -> str:
        return "IdentityFile(...)"


def write_identity_file(identity: IdentityFile) -> bytes:
    """The file's content. Holds a private key: write it 0600."""
    parts = [
        identity.private_key.decode(),
        identity.ssh_cert,
        identity.tls_cert,
        *identity.ssh_ca_lines,
        *identity.tls_ca_certs,
    ]
    return "".join(part.rstrip("\n") + "\n" for part in parts).encode()


def read_identity_file(text: str, source: str = "identity file") -> IdentityFile:
    """Reads one strictly; raises InputError that names `source` and never shows a key."""
    if len(text) > limits.MAX_IDENTITY_FILE_BYTES:
        raise InputError(f"{source}: too large")
    private_keys: list[str] = []
    ssh_certs: list[str] = []
    tls_certs: list[str] = []
    ca_lines: list[str] = []
    lines = iter(text.splitlines())
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("-----BEGIN "):
            label = line.removeprefix("-----BEGIN ").removesuffix("-----")
            block = [line]
            for inner in lines:
                block.append(inner.strip())
                if inner.startswith("-----END "):
                    break
            else:
                raise InputError(f"{source}: a {label} block does not end")
            pem = "\n".join(block) + "\n"
            if label == "CERTIFICATE":
                tls_certs.append(pem)
            elif label.endswith("PRIVATE KEY"):
                private_keys.append(pem)
            else:
                raise InputError(f"{source}: unexpected {label!r} block")
        elif line.startswith("@cert-authority "):
            ca_lines.append(line)
        elif sshkey.CERT_SUFFIX in line.split(" ", 1)[0]:
            sshkey.line_to_blob(line)
            ssh_certs.append(line)
        else:
            raise InputError(f"{source}: line {number} is neither a PEM block nor an SSH certificate")
    if len(private_keys) != 1 or len(ssh_certs) != 1 or not tls_certs:
        raise InputError(
            f"{source}: not an identity file",
            hint="expected one private key, one SSH certificate and a TLS certificate",
        )
    private_key = private_keys[0].encode()
    keys.load_private_key(private_key)
    return IdentityFile(
        private_key=private_key,
        ssh_cert=ssh_certs[0],
        tls_cert=tls_certs[0],
        tls_ca_certs=tuple(tls_certs[1:]),
        ssh_ca_lines=tuple(ca_lines),
    )
