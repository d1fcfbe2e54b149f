"""At each start: presets that this cluster never had are made, those it has are topped up.

A record of the names that were ever made lies beside the roles, so that a preset which an administrator
deleted stays deleted. A role of an administrator's own with the name of a preset is left alone for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from pkgs.auth.backend.interface import Backend, Operation, Put
from pkgs.auth.state.store import Store, create_operation, update_operation
from pkgs.common.errors import AlreadyExistsError, ConflictError, NotFoundError, UnavailableError
from pkgs.common.resources.presets import FIRST_PRESETS, preset_roles, with_missing_rules
from pkgs.common.resources.role import Role

_log = logging.getLogger(__name__)
RECORD = "/cluster/presets-made"


def record_of(names: Iterable[str]) -> Operation:
    """What remembers that these presets were made."""
    return Put(RECORD, msgspec.json.encode(sorted(set(names))))


async def top_up_presets(store: Store, backend: Backend) -> None:
    """Add what this version's presets have and the cluster has not; never take anything away."""
    made = await _made(backend)
    operations: list[Operation] = []
    for preset in preset_roles():
        stored = store.get("role", preset.name)
        if isinstance(stored, Role):
            topped = with_missing_rules(stored, preset)
            if topped is not stored:
                _log.info("rules of this version were added to a preset role", extra={"role": preset.name})
                operations.append(update_operation(topped))
        elif preset.name not in made:
            operations.append(create_operation(preset))
    names = {preset.name for preset in preset_roles()}
    if not names <= made:
        operations.append(record_of(names | made))
    if not operations:
        return
    try:
        await backend.commit(operations)
    except (AlreadyExistsError, ConflictError, NotFoundError):
        # Another Auth Service of the same storage, or an administrator, was at it: the next start sees to it.
        _log.info("the preset roles were changed at the same moment and are left as they are")


async def _made(backend: Backend) -> set[str]:
    item = await backend.get(RECORD)
    if item is None:
        return set(FIRST_PRESETS)
    try:
        return set(msgspec.json.decode(item.value, type=list[str]))
    except msgspec.DecodeError as error:
        raise UnavailableError("the record of preset roles cannot be read", detail=str(error)) from error
