"""Makes the certificates in this folder with OpenSSH's own `ssh-keygen`: run it from here to make them anew.

They are judged at NOW of tests/security/cert_kit.py (15 January 2027), inside the validity written below.
Only public parts are kept; the keys that signed them are thrown away.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
VALID = "20261101000000Z:20271101000000Z"
ROWS: dict[str, tuple[str, str, bool, list[str]]] = {
    # name: CA, key type, accepted for root from 10.0.0.5, options of ssh-keygen
    "ed25519": ("ed25519", "ed25519", True, ["-n", "root"]),
    "ecdsa_by_ed25519": ("ed25519", "ecdsa", True, ["-n", "root"]),
    "rsa_by_ed25519": ("ed25519", "rsa", True, ["-n", "root"]),
    "ed25519_by_rsa": ("rsa", "ed25519", True, ["-n", "root"]),
    "ed25519_by_ecdsa": ("ecdsa", "ed25519", True, ["-n", "root"]),
    "many_principals": ("ed25519", "ed25519", True, ["-n", "a,b,root"]),
    "no_principals": ("ed25519", "ed25519", False, []),
    "other_principal": ("ed25519", "ed25519", False, ["-n", "toor"]),
    "host_type": ("ed25519", "ed25519", False, ["-h", "-n", "root"]),
    "source_ok": ("ed25519", "ed25519", True, ["-n", "root", "-O", "source-address=10.0.0.0/8,192.0.2.1/32"]),
    "source_other": ("ed25519", "ed25519", False, ["-n", "root", "-O", "source-address=192.0.2.1/32"]),
    "force_command": ("ed25519", "ed25519", True, ["-n", "root", "-O", "force-command=/bin/true"]),
    "unknown_critical": ("ed25519", "ed25519", False, ["-n", "root", "-O", "critical:x@example.com=1"]),
    "unknown_extension": ("ed25519", "ed25519", True, ["-n", "root", "-O", "extension:login@github.com=al"]),
    "verify_required": ("ed25519", "ed25519", False, ["-n", "root", "-O", "verify-required"]),
    "sha1": ("rsa", "ed25519", False, ["-n", "root", "-t", "ssh-rsa"]),
    "sha256": ("rsa", "ed25519", True, ["-n", "root", "-t", "rsa-sha2-256"]),
    "expired": ("ed25519", "ed25519", False, ["-n", "root", "-V", "20200101000000Z:20200102000000Z"]),
    "forever": ("ed25519", "ed25519", False, ["-n", "root", "-V", "always:forever"]),
    "untrusted": ("other", "ed25519", False, ["-n", "root"]),
}


def keygen(*args: str) -> None:
    subprocess.run(["ssh-keygen", "-q", *args], check=True, stdin=subprocess.DEVNULL)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name, kind in {"ed25519": "ed25519", "ecdsa": "ecdsa", "rsa": "rsa", "other": "ed25519"}.items():
            keygen("-t", kind, "-N", "", "-C", "", "-f", str(base / f"ca_{name}"))
            if name != "other":
                (HERE / f"ca_{name}.pub").write_text((base / f"ca_{name}.pub").read_text())
        rows = {}
        for name, (ca, key_type, accepted, options) in ROWS.items():
            key = base / name
            keygen("-t", key_type, "-N", "", "-C", "", "-f", str(key))
            validity = [] if "-V" in options else ["-V", VALID]
            keygen("-s", str(base / f"ca_{ca}"), "-I", "alice", *validity, *options, str(key) + ".pub")
            rows[name] = {"accepted": accepted, "cert": (base / f"{name}-cert.pub").read_text().strip()}
        (HERE / "certificates.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
