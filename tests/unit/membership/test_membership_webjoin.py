import base64
import json

import pytest

from pkgs.common.errors import (
    AlreadyExistsError,
    DeniedError,
    ProtocolError,
    UnavailableError,
)
from pkgs.common.membership.limits import MAX_WEB_ANSWER
from pkgs.common.membership.webjoin import _parsed


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


GOOD = {
    "host_id": "h",
    "cluster_name": "alpha",
    "ssh_cert": b64("ssh line"),
    "tls_cert": b64("pem"),
    "host_signers": [
        {"type": "host", "domain_name": "alpha", "checking_keys": [b64("key")], "tls_certs": [b64("ca")]}
    ],
}


def test_a_right_answer():
    certs = _parsed(200, json.dumps(GOOD).encode())
    assert (certs.ssh_cert, certs.tls_cert) == ("ssh line", "pem")
    ca = certs.authorities[0]
    assert (ca.sub_kind, ca.spec.active_keys.ssh[0].public_key) == ("host", "key")
    assert ca.spec.active_keys.tls[0].cert == "ca"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (403, {"error": {"message": "wrong token", "code": "denied"}}, DeniedError),
        (409, {"error": {"message": "exists", "code": "exists"}}, AlreadyExistsError),
        (503, {"error": {"message": "auth is down", "code": "unavailable"}}, UnavailableError),
        (418, {"error": {"message": "?", "code": "from-the-future"}}, UnavailableError),
        (500, "<html>", UnavailableError),
        (404, "<html>", ProtocolError),
        (200, "<html>", ProtocolError),
        (200, {}, ProtocolError),
        (200, {**GOOD, "ssh_cert": "not base64!"}, ProtocolError),
        (200, {**GOOD, "ssh_cert": base64.b64encode(b"\xff").decode()}, ProtocolError),
        (200, {**GOOD, "host_signers": GOOD["host_signers"] * 100}, ProtocolError),
        (200, " " * (MAX_WEB_ANSWER + 1), ProtocolError),
    ],
)
def test_other_answers_are_typed_errors(status, body, error):
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    with pytest.raises(error):
        _parsed(status, raw)
