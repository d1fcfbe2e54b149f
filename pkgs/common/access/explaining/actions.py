"""An action as people write it, `ssh root@web1` or `kube prod get pods default/web`, and as a question.

The same words serve `tctl access explain`, `who`, `what` and the files of `tctl access test`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pkgs.common.access.types import (
    Access,
    ConnectApp,
    ConnectDatabase,
    EnterCluster,
    KubeObject,
    OpenDesktop,
    SshLogin,
    UseKube,
)
from pkgs.common.errors import InputError
from pkgs.common.resources.kinds import (
    App,
    Database,
    DynamicWindowsDesktop,
    KubeCluster,
    Node,
    RemoteCluster,
    Resource,
    WindowsDesktop,
)

KINDS = {
    "ssh": "node",
    "db": "db",
    "app": "app",
    "kube": "kube_cluster",
    "desktop": "windows_desktop",
    "cluster": "remote_cluster",
}
"""Word of an action and the kind of what it is about."""
USAGE = {
    "ssh": "ssh LOGIN@NODE",
    "db": "db [USER@]DATABASE[/NAME]",
    "app": "app APP [aws-role=ARN|azure-identity=ID|gcp-service-account=NAME|mcp-tool=NAME]",
    "kube": "kube CLUSTER [user=USER] [group=GROUP,...] [VERB KIND[.GROUP] [[NAMESPACE/]NAME]]",
    "desktop": "desktop LOGIN@DESKTOP",
    "cluster": "cluster LEAF",
}
RULE_USAGE = "resource KIND VERB [NAME]"
"""Not about using a resource but about the API: asked as a rule."""
REQUEST_USAGE = "request ROLE"
"""About asking for a role: asked as an access request."""
_APP_FIELDS = {
    "aws-role": "aws_role_arn",
    "azure-identity": "azure_identity",
    "gcp-service-account": "gcp_service_account",
    "mcp-tool": "mcp_tool",
}
MAX_WORDS = 10
MAX_TEXT = 2048


@dataclass(frozen=True, slots=True)
class Action:
    """Using a resource by name; the resource itself is looked up by whoever asks."""

    word: str
    name: str
    """Of the resource; of a server its host name or id."""
    login: str = ""
    """The login, the database user, or the user of a Kubernetes cluster."""
    database: str = ""
    groups: tuple[str, ...] = ()
    object: KubeObject | None = None
    identity: Mapping[str, str] = field(default_factory=dict)
    """The identity of a cloud that is used through an application: field of `ConnectApp` to value."""
    text: str = ""

    @property
    def kind(self) -> str:
        return KINDS[self.word]

    def on(self, resource: Resource) -> Access:
        """The question about that resource. Raises InputError for one of another kind."""
        match self.word, resource:
            case "ssh", Node():
                return SshLogin(resource, self.login)
            case "db", Database():
                return ConnectDatabase(resource, self.login, self.database)
            case "app", App():
                return ConnectApp(resource, **self.identity)
            case "kube", KubeCluster():
                return UseKube(resource, self.login, self.groups, self.object)
            case "desktop", WindowsDesktop() | DynamicWindowsDesktop():
                return OpenDesktop(resource, self.login)
            case "cluster", RemoteCluster():
                return EnterCluster(resource)
        raise InputError(f"{self.word} is not about a {resource.kind}")


def parse_action(words: Sequence[str]) -> Action:
    """Raises InputError that tells how it is written."""
    if not words or words[0] not in KINDS:
        found = words[0][:40] if words else ""
        raise InputError(f"{found!r} is no action", hint=f"write one of: {'; '.join(USAGE.values())}")
    if len(words) > MAX_WORDS or sum(map(len, words)) > MAX_TEXT:
        raise InputError(f"an action has at most {MAX_WORDS} words and {MAX_TEXT} characters")
    word, rest = words[0], list(words[1:])
    if not rest or not all(rest):
        raise _refused(word)
    text = " ".join(words)
    if word == "kube":
        return _kube(rest, text)
    if word == "app":
        return _app(rest, text)
    if len(rest) != 1:
        raise _refused(word)
    if word == "cluster":
        return Action(word, rest[0], text=text)
    if word == "db":
        # The name of a database inside the server may hold anything, that of the resource no @ and no slash.
        user, at, place = rest[0].rpartition("@") if "@" in rest[0].partition("/")[0] else ("", "", rest[0])
        if "/" in user:
            raise _refused(word)
        name, _, database = place.partition("/")
        if not name or (at and not user):
            raise _refused(word)
        return Action(word, name, login=user, database=database, text=text)
    # A login may hold an @, what it is for may not.
    login, at, name = rest[0].rpartition("@")
    if not at or not login or not name:
        raise _refused(word)
    return Action(word, name, login=login, text=text)


def _app(rest: list[str], text: str) -> Action:
    identity: dict[str, str] = {}
    for extra in rest[1:]:
        key, equals, value = extra.partition("=")
        if not equals or key not in _APP_FIELDS or not value:
            raise _refused("app")
        identity[_APP_FIELDS[key]] = value
    return Action("app", rest[0], identity=identity, text=text)


def _kube(rest: list[str], text: str) -> Action:
    user = ""
    groups: tuple[str, ...] = ()
    plain: list[str] = []
    for extra in rest[1:]:
        key, equals, value = extra.partition("=")
        if equals and key == "user" and value:
            user = value
        elif equals and key == "group" and value:
            groups = (*groups, *value.split(","))
        else:
            plain.append(extra)
    if not plain:
        return Action("kube", rest[0], login=user, groups=groups, text=text)
    if len(plain) not in (2, 3):
        raise _refused("kube")
    kind, _, group = plain[1].partition(".")
    namespace, slash, name = plain[2].partition("/") if len(plain) == 3 else ("", "", "")
    if not slash:
        namespace, name = "", namespace
    found = KubeObject(kind=kind, verb=plain[0], namespace=namespace, name=name, api_group=group)
    return Action("kube", rest[0], login=user, groups=groups, object=found, text=text)


def _refused(word: str) -> InputError:
    return InputError(f"{word}: this is not how it is written", hint=f"write {USAGE[word]}")
