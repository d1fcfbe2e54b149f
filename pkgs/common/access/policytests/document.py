"""What people write in a file of policy tests, as types; the strict loader refuses anything else.

`docs/policy-tests.md` documents every field for those who write it.
"""

# The annotations are evaluated at once: see `resources/kinds`.
from datetime import datetime
from typing import Any, Literal

import msgspec

from pkgs.common.resources.metadata import Spec

Need = Literal["mfa", "device"]
Labels = dict[str, str]


class UserEntry(Spec, frozen=True, kw_only=True):
    """A user, and what a session of theirs has been verified by."""

    roles: list[str] = []
    traits: dict[str, list[str]] = {}
    mfa: bool = False
    device: bool = False
    requests: list[str] = []
    """Access requests that the certificate came from."""
    allowed_resources: list[str] | None = None
    """Resource ids (`/cluster/kind/name`) that the certificate is restricted to; None: no restriction."""


class ThingEntry(Spec, frozen=True, kw_only=True):
    """An application, a Kubernetes cluster, a desktop or a leaf cluster."""

    labels: Labels = {}


class NodeEntry(Spec, frozen=True, kw_only=True):
    """A server; it is called by its host name."""

    labels: Labels = {}
    id: str = ""
    """Host id; empty: the host name."""


class DatabaseEntry(Spec, frozen=True, kw_only=True):
    labels: Labels = {}
    protocol: str
    """It decides whether the name of a database is asked for."""


class Resources(Spec, frozen=True, kw_only=True):
    """Short forms, by name."""

    nodes: dict[str, NodeEntry] = {}
    dbs: dict[str, DatabaseEntry] = {}
    apps: dict[str, ThingEntry] = {}
    kube_clusters: dict[str, ThingEntry] = {}
    desktops: dict[str, ThingEntry] = {}
    leaf_clusters: dict[str, ThingEntry] = {}


class Defaults(Spec, frozen=True, kw_only=True):
    """For tests that do not say."""

    at: datetime | None = None
    source: str = msgspec.field(default="", name="from")
    mfa: bool | None = None
    device: bool | None = None


class SessionEntry(Spec, frozen=True, kw_only=True):
    """The session that `resource session VERB` is about."""

    owner: str = ""
    participants: list[str] = []
    login: str = ""
    server: str = ""
    """Host name."""


class PolicyTest(Spec, frozen=True, kw_only=True):
    """Users times actions, with one expectation."""

    name: str = ""
    user: str = ""
    users: list[str] = []
    """`*`: every user of the file."""
    roles: list[str] | None = None
    """Instead of the user's; without a user, of somebody."""
    traits: dict[str, list[str]] | None = None
    action: str = ""
    actions: list[str] = []
    labels: Labels = {}
    """Of the resources that a `*` in an action stands for."""
    session: SessionEntry | None = None
    at: datetime | None = None
    source: str | None = msgspec.field(default=None, name="from")
    mfa: bool | None = None
    device: bool | None = None
    expect: Literal["allowed", "denied"] | None = None
    by: str = ""
    because: str = ""
    needs: list[Need] | None = None
    missing: list[str] = []
    principals: dict[str, list[str]] = {}
    logins: list[str] | None = None
    """Exactly those of the certificate, in any order."""


class PolicyFile(Spec, frozen=True, kw_only=True):
    """A whole file."""

    cluster: str = "example"
    presets: bool = False
    """Whether the roles that every new cluster has are there, where no file defines them."""
    roles: list[Any] = []
    """Paths, or whole documents."""
    users: dict[str, UserEntry] = {}
    resources: Resources = Resources()
    files: list[str] = []
    """Paths to documents of any kind, such as the output of `tctl get all`."""
    locks: list[Any] = []
    """Each the `spec` of a lock, or a whole document."""
    auth_preference: Any = None
    """The `spec` of the document, or all of it."""
    defaults: Defaults = Defaults()
    tests: list[PolicyTest]
