"""A good certificate used from another address is refused, and somebody learns of it (A12)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkgs.common.api.login import ReissueUserCerts
from pkgs.common.api.resources import PutResource
from pkgs.common.errors import DeniedError, TrustError, UnavailableError
from pkgs.common.resources.metadata import Metadata
from pkgs.common.resources.role import Conditions, Role, RoleOptions, RoleSpec
from tests.harness.wait import until
from tests.integration.auth_kit import auth, new_keys, run, stored

PINNED = Role(
    metadata=Metadata(name="pinned"),
    spec=RoleSpec(
        options=RoleOptions(pin_source_ip=True), allow=Conditions(logins=["root"], node_labels={"*": "*"})
    ),
)


def test_a12_a_pinned_certificate_from_elsewhere_is_audited(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp) as kit:
            await kit.admin.call(PutResource(resource=PINNED))
            user = await kit.user("mira", "pinned", login=False)
            user.certs = await kit.login(user, kit.nobody("127.0.0.5"))
            assert not await stored(kit.admin, "auth")
            keys = new_keys()
            request = ReissueUserCerts(
                ssh_public_key=keys["ssh_public_key"], tls_public_key=keys["tls_public_key"]
            )
            with pytest.raises((DeniedError, TrustError, UnavailableError)):
                await kit.as_user(user, source="127.0.0.6").call(request)

            async def audited() -> bool:
                return bool(await stored(kit.admin, "auth"))

            await until(audited)
            event = (await stored(kit.admin, "auth"))[0]
            assert event.fields["user"] == "mira"
            assert event.fields["addr.remote"] == "127.0.0.6"
            assert "pinned to 127.0.0.5" in str(event.fields["error"])

    run(main)
