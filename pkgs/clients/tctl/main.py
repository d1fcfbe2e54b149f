"""The administrator's command line: its verbs and where each lives."""

from __future__ import annotations

from pkgs.clients.tctl.flags import COMMON
from pkgs.common.output.tool import Group, Tool, Verb

_VERBS = "pkgs.clients.tctl.verbs."

_REQUESTS = Group(
    "Access requests.",
    {
        "ls": Verb(_VERBS + "requests.ls", "List access requests"),
        "get": Verb(_VERBS + "requests.get", "Show access requests in full"),
        "approve": Verb(_VERBS + "requests.approve", "Approve access requests"),
        "deny": Verb(_VERBS + "requests.deny", "Deny access requests"),
        "create": Verb(_VERBS + "requests.create", "Make an access request for a user"),
        "rm": Verb(_VERBS + "requests.rm", "Delete access requests"),
        "review": Verb(_VERBS + "requests.review", "Pass on somebody's review"),
        "caps": Verb(_VERBS + "requests.caps", "Show what a user may request"),
    },
)

_ENCRYPTION = Group(
    "The keys that recordings are encrypted for.",
    {
        "status": Verb(_VERBS + "recordings.encryption.status", "Show the keys and whether they are used"),
        "rotate": Verb(_VERBS + "recordings.encryption.rotate", "Begin to rotate the key"),
        "complete-rotation": Verb(
            _VERBS + "recordings.encryption.complete_rotation", "Use the new key only from now on"
        ),
        "rollback-rotation": Verb(_VERBS + "recordings.encryption.rollback_rotation", "Give the new key up"),
    },
)

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
            {"del": "rm"},
        ),
        "tokens": Group(
            "Tokens that let new hosts join.",
            {
                "add": Verb(_VERBS + "tokens.add", "Make a join token and show how to use it"),
                "ls": Verb(_VERBS + "tokens.ls", "List the tokens that are valid now"),
                "rm": Verb(_VERBS + "tokens.rm", "Delete a token"),
            },
            {"del": "rm"},
        ),
        "nodes": Group(
            "SSH servers.",
            {
                "add": Verb(_VERBS + "nodes.add", "Make a join token for a node"),
                "ls": Verb(_VERBS + "nodes.ls", "List the nodes of the cluster"),
            },
        ),
        "db": Group("Databases.", {"ls": Verb(_VERBS + "db.ls", "List the databases that agents serve")}),
        "get": Verb(_VERBS + "resources.get", "Print resources"),
        "create": Verb(_VERBS + "resources.create", "Create resources from a file or standard input"),
        "apply": Verb(_VERBS + "resources.apply", "Make the cluster have what files say"),
        "edit": Verb(_VERBS + "resources.edit", "Edit a resource in your editor"),
        "update": Verb(_VERBS + "resources.update", "Set labels or the time to live of a resource"),
        "rm": Verb(_VERBS + "resources.rm", "Delete a resource"),
        "access": Group(
            "Why a user may or may not, who may, and what a user may.",
            {
                "explain": Verb(_VERBS + "access.explain", "Say why a user is allowed something or not"),
                "who": Verb(_VERBS + "access.who", "List who may use a resource"),
                "what": Verb(_VERBS + "access.what", "List what a user may use, and as whom"),
                "test": Verb(_VERBS + "access.test", "Run tests of policy, without a cluster"),
                "diff": Verb(_VERBS + "access.diff", "Show who would gain or lose what by new roles"),
            },
        ),
        "requests": _REQUESTS,
        "auth": Group(
            "Certificate authorities and certificates.",
            {
                "sign": Verb(_VERBS + "auth.sign", "Issue certificates for a user, a host or a database"),
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
                "export": Verb(_VERBS + "recordings.export", "Write a recording as asciicast, page or text"),
                "grep": Verb(_VERBS + "recordings.grep", "Find words on recorded screens"),
                "prune": Verb(_VERBS + "recordings.prune", "Delete old recordings"),
                "verify": Verb(_VERBS + "recordings.verify", "Check that recordings are whole and signed"),
                "encryption": _ENCRYPTION,
            },
        ),
        "bots": Group(
            "Machines with an identity of their own.",
            {
                "ls": Verb(_VERBS + "bots.ls", "List bots"),
                "add": Verb(_VERBS + "bots.add", "Make a bot and a token for its first machine"),
                "rm": Verb(_VERBS + "bots.rm", "Delete a bot with its user, role, tokens and instances"),
                "update": Verb(_VERBS + "bots.update", "Change roles, logins or lifetime of a bot"),
                "lock": Verb(_VERBS + "bots.lock", "Lock all machines of a bot out at once"),
                "instances": Group(
                    "Machines that joined as a bot.",
                    {
                        "ls": Verb(_VERBS + "bots.instances.ls", "List instances"),
                        "show": Verb(_VERBS + "bots.instances.show", "Show an instance"),
                        "add": Verb(_VERBS + "bots.instances.add", "Make a token for one more machine"),
                    },
                    {"list": "ls", "get": "show", "describe": "show", "join": "add"},
                ),
            },
            {"list": "ls"},
        ),
        "acl": Group(
            "Access lists: groups whose members receive roles and traits, with owners and reviews.",
            {
                "ls": Verb(_VERBS + "acl.ls", "List access lists"),
                "get": Verb(_VERBS + "acl.get", "Print one access list"),
                "summary": Verb(_VERBS + "acl.summary", "Say what a reviewer looks at first"),
                "create": Verb(_VERBS + "acl.create", "Create an access list"),
                "update": Verb(_VERBS + "acl.update", "Change an access list"),
                "rm": Verb(_VERBS + "acl.rm", "Delete an access list"),
                "users": Group(
                    "Members of a list.",
                    {
                        "add": Verb(_VERBS + "acl.users.add", "Let a user or a list in"),
                        "rm": Verb(_VERBS + "acl.users.rm", "Take a user or a list out"),
                        "ls": Verb(_VERBS + "acl.users.ls", "List the members"),
                    },
                    {"del": "rm", "remove": "rm", "list": "ls"},
                ),
                "reviews": Group(
                    "Reviews of a list.",
                    {
                        "create": Verb(_VERBS + "acl.reviews.create", "Record a review"),
                        "ls": Verb(_VERBS + "acl.reviews.ls", "List the reviews"),
                    },
                    {"list": "ls"},
                ),
                "explain": Verb(_VERBS + "acl.explain", "Say which lists give a user what"),
            },
            {"del": "rm", "delete": "rm", "list": "ls"},
        ),
        "sessions": Group(
            "Live sessions.",
            {
                "ls": Verb(_VERBS + "sessions.ls", "List the live sessions"),
                "kill": Verb(_VERBS + "sessions.kill", "End one session"),
            },
            {"list": "ls"},
        ),
        "lock": Verb(_VERBS + "lock", "Lock somebody or something out at once"),
        "version": Verb(_VERBS + "version", "Print the version"),
    },
    {"access-lists": "acl", "bot": "bots", "del": "rm", "request": "requests"},
)


def main(argv: list[str] | None = None) -> int:
    """Entry point of the `tctl` program."""
    return TOOL.main(argv)


if __name__ == "__main__":
    raise SystemExit(main())
