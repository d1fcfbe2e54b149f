"""The administrator's command line: its verbs and where each lives."""

from __future__ import annotations

from pkgs.clients.tctl.flags import COMMON
from pkgs.common.output.tool import Group, Tool, Verb

_VERBS = "pkgs.clients.tctl.verbs."

TOOL = Tool(
    "tctl",
    "Administer a cluster: users, tokens, nodes, resources, authorities, audit log, recordings.",
    COMMON,
    {
        "status": Verb(_VERBS + "status", "Show the cluster's name, version, authorities and CA pins"),
        "users": Group(
            "Local users.",
            {
                "add": Verb(_VERBS + "users.add", "Create a user and print an invitation link"),
                "ls": Verb(_VERBS + "users.ls", "List users"),
                "update": Verb(_VERBS + "users.update", "Replace roles or traits of a user"),
                "rm": Verb(_VERBS + "users.rm", "Delete users"),
                "reset": Verb(_VERBS + "users.reset", "Take away password and factors; print a reset link"),
            },
        ),
        "tokens": Group(
            "Tokens that let new hosts join.",
            {
                "add": Verb(_VERBS + "tokens.add", "Make a join token and show how to use it"),
                "ls": Verb(_VERBS + "tokens.ls", "List the tokens that are valid now"),
                "rm": Verb(_VERBS + "tokens.rm", "Delete a token"),
            },
        ),
        "nodes": Group(
            "SSH servers.",
            {
                "add": Verb(_VERBS + "nodes.add", "Make a join token for a node"),
                "ls": Verb(_VERBS + "nodes.ls", "List the nodes of the cluster"),
            },
        ),
        "get": Verb(_VERBS + "resources.get", "Print resources"),
        "create": Verb(_VERBS + "resources.create", "Create resources from a file or standard input"),
        "edit": Verb(_VERBS + "resources.edit", "Edit a resource in your editor"),
        "update": Verb(_VERBS + "resources.update", "Set labels or the time to live of a resource"),
        "rm": Verb(_VERBS + "resources.rm", "Delete a resource"),
        "access": Group(
            "Why a user may or may not, who may, and what a user may.",
            {
                "explain": Verb(_VERBS + "access.explain", "Say why a user is allowed something or not"),
                "who": Verb(_VERBS + "access.who", "List who may log in to a server"),
                "what": Verb(_VERBS + "access.what", "List the servers a user may log in to"),
                "test": Verb(_VERBS + "access.test", "Run tests of policy, without a cluster"),
                "diff": Verb(_VERBS + "access.diff", "Show who would gain or lose what by new roles"),
            },
        ),
        "auth": Group(
            "Certificate authorities and certificates.",
            {
                "sign": Verb(_VERBS + "auth.sign", "Issue certificates for a user or a host"),
                "export": Verb(_VERBS + "auth.export", "Print public keys of an authority"),
            },
        ),
        "audit": Group(
            "The audit log.",
            {
                "ls": Verb(_VERBS + "audit.ls", "Search events"),
                "tail": Verb(_VERBS + "audit.tail", "Show the newest events, and follow"),
                "verify": Verb(_VERBS + "audit.verify", "Check that no event was changed, removed or added"),
            },
        ),
        "recordings": Group(
            "Recorded sessions.",
            {
                "ls": Verb(_VERBS + "recordings.ls", "List recordings"),
                "download": Verb(_VERBS + "recordings.download", "Save a recording as a file for tsh play"),
            },
        ),
        "lock": Verb(_VERBS + "lock", "Lock a user, role, login or server out at once"),
        "version": Verb(_VERBS + "version", "Print the version"),
    },
)


def main(argv: list[str] | None = None) -> int:
    """Entry point of the `tctl` program."""
    return TOOL.main(argv)


if __name__ == "__main__":
    raise SystemExit(main())
