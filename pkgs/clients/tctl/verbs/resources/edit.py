"""`tctl edit`."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from pkgs.clients.tctl.connect import connect
from pkgs.clients.tctl.verbs.resources.create import warn
from pkgs.common.api.resources import GetResource, PutResource
from pkgs.common.errors import ConflictError, InputError
from pkgs.common.output.argv import Parsed, Spec
from pkgs.common.output.sanitize import inert
from pkgs.common.output.yamlout import dumps
from pkgs.common.resources.codec import to_builtins
from pkgs.common.resources.documents.owned import with_revision
from pkgs.common.resources.documents.places import Placed, load_placed
from pkgs.common.resources.kinds import Resource
from pkgs.common.resources.registry import SINGLETONS, Ref, parse_refs

SPEC = Spec(
    "Edit a resource in $TELEPORT_EDITOR, $VISUAL, $EDITOR or vi. It is written back only if nobody else has"
    " changed it in the meantime; what you typed is kept in a file when that fails.",
    usage="KIND/NAME",
    least=1,
    most=1,
)
EDITORS = ("TELEPORT_EDITOR", "VISUAL", "EDITOR")


def run(args: Parsed) -> int:
    """Fetch, edit, compare, write back."""
    refs = parse_refs(args.words[0])
    if len(refs) != 1 or not (refs[0].name or refs[0].kind in SINGLETONS):
        raise InputError("edit takes one resource", hint="write kind/name")
    ref = refs[0]
    name = ref.name or SINGLETONS[ref.kind]
    with connect(args) as client:
        found = client.call(GetResource(kind=ref.kind, name=name, sub_kind=ref.sub_kind)).resource
    before = dumps(to_builtins(found))
    with tempfile.TemporaryDirectory(prefix="tctl-") as folder:
        path = Path(folder) / f"{ref.kind}.yaml"
        path.write_text(before)
        _open_editor(path)
        after = path.read_text()
    if after.strip() == before.strip():
        sys.stdout.write("Edit cancelled, no changes made.\n")
        return 0
    try:
        edited = _checked(after, ref, name, found)
        # The revision that was read decides, whatever happened to the line in the editor.
        resource = with_revision(edited.resource, found.metadata.revision)
        try:
            # A person took minutes: the connection of before may be gone.
            with connect(args) as client:
                stored = client.call(PutResource(resource=resource, mode="update"))
        except InputError as error:
            raise edited.explained(error) from None
    except ConflictError as error:
        raise ConflictError(
            f'{ref.kind} "{name}" was changed by somebody else while you edited it',
            hint=f"your text is kept in {_keep(after)}; start again from 'tctl edit'",
        ) from error
    except InputError as error:
        raise InputError(str(error), hint=f"your text is kept in {_keep(after)}") from error
    warn(stored.warnings)
    sys.stdout.write(f'{ref.kind} "{inert(name)}" has been updated\n')
    return 0


def _checked(text: str, ref: Ref, name: str, before: Resource) -> Placed:
    documents = load_placed(text, "the edited text")
    if len(documents) != 1:
        raise InputError("the edited text must hold exactly one resource")
    edited = documents[0].resource
    if edited.kind != ref.kind or edited.name != name or edited.sub_kind != before.sub_kind:
        raise InputError(
            "renaming a resource is not supported", hint="create a new one and delete the old one"
        )
    return documents[0]


def _open_editor(path: Path) -> None:
    editor = next((value for value in map(os.environ.get, EDITORS) if value), "vi")
    try:
        words = shlex.split(editor)
        status = subprocess.run([*words, str(path)], check=False).returncode
    except (ValueError, IndexError, OSError) as error:
        raise InputError(f"the editor {editor!r} can't be started: {error}", hint="set EDITOR") from error
    if status != 0:
        raise InputError(f"the editor ended with status {status}; nothing was changed")


def _keep(text: str) -> str:
    descriptor, path = tempfile.mkstemp(prefix="tctl-edit-", suffix=".yaml")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return path
