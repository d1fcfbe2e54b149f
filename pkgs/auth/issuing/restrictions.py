"""What a certificate passes on to whatever is made with it, and what makes a machine's renewable ones."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from pkgs.common.errors import DeniedError
from pkgs.common.pki.certspec import UserCertSpec
from pkgs.common.pki.identity import Identity

KEPT = (
    *("mfa_device", "force_command", "device_id", "device_asset_tag"),
    *("bot_name", "bot_instance_id", "join_token"),
)
"""What bounds a certificate, or lets a lock find it (attack A34). A pin is kept as well, but may be added;
access requests change with what is stored of them and are looked after where they are read."""


@dataclass(frozen=True, slots=True)
class Machine:
    """An instance of a bot, and how often its certificates were renewed."""

    bot: str
    instance_id: str
    generation: int


def keeps(spec: UserCertSpec, before: Identity, *names: str) -> bool:
    return all(getattr(spec, name) == getattr(before, name) for name in names)


def keeps_pin(spec: UserCertSpec, before: Identity) -> bool:
    return not before.source_addr or spec.source_addr == before.source_addr


def of_machine(spec: UserCertSpec, machine: Machine) -> UserCertSpec:
    """A machine's own."""
    return msgspec.structs.replace(
        spec,
        bot_name=machine.bot,
        bot_instance_id=machine.instance_id,
        renewable=True,
        generation=machine.generation,
    )


def taken_on(spec: UserCertSpec, actor: Identity) -> UserCertSpec:
    """With all that bounds the one who takes it on. Roles in one's own name are not even renewed."""
    return msgspec.structs.replace(
        spec,
        **{name: getattr(actor, name) for name in (*KEPT, "source_addr", "login_ip", "previous_expires_at")},
        impersonator=actor.name,
        disallow_reissue=actor.disallow_reissue or spec.user == actor.name,
    )


def check_taken_on(spec: UserCertSpec, actor: Identity) -> None:
    """As restricted as whoever took it on, names them, and lives no longer (attacks A34, A36)."""
    if actor.impersonator or actor.disallow_reissue:
        raise DeniedError("an impersonated certificate impersonates nobody")
    if actor.active_requests or actor.allowed_resources is not None:
        # It would go on when the request is denied, deleted or locked (attack A32).
        raise DeniedError("a certificate with access requests impersonates nobody")
    bounded = (
        keeps(spec, actor, "cluster", *KEPT)
        and keeps_pin(spec, actor)
        and spec.impersonator == actor.name
        and spec.valid_before <= actor.expires_at
        and (spec.disallow_reissue or spec.user != actor.name)
        and not spec.renewable
    )
    if not bounded:
        raise DeniedError("an impersonated certificate may not be freer than its impersonator's")


def check_renewable(spec: UserCertSpec, machine: Machine | None, before: Identity | None, now: float) -> None:
    """Only a machine's own certificates are renewable, each with the generation that was counted, and only
    while the one before is valid (attack A35)."""
    if machine is None:
        if spec.renewable:
            raise DeniedError("a machine renews its certificates with a call of its own")
        return
    good = (
        spec.renewable
        and not spec.impersonator
        and not spec.active_requests
        and spec.allowed_resources is None
        and spec.bot_name == machine.bot
        and spec.bot_instance_id == machine.instance_id
        and spec.generation == machine.generation
    )
    if before is not None:
        good = (
            good
            and now < before.expires_at
            and before.generation < machine.generation
            and spec.user == before.name
            and keeps(spec, before, "cluster", *KEPT)
            and keeps_pin(spec, before)
        )
    if not good:
        raise DeniedError("the certificates of this machine cannot be renewed", hint="join it again")


def machine_fields(spec: UserCertSpec) -> dict[str, str | list[str]]:
    """What the audit log says of a machine's certificate; nothing for a person's."""
    if not spec.bot_name:
        return {}
    fields: dict[str, str | list[str]] = {
        "user_kind": "bot",
        "bot_name": spec.bot_name,
        "bot_instance_id": spec.bot_instance_id,
    }
    if spec.renewable:
        fields |= {"renewable": "true", "generation": str(spec.generation)}
    return fields
