"""Every limit of users made on demand."""

from __future__ import annotations

ADMIN_S = 30.0
"""To log in as the admin user and bring one user up to date."""
STATEMENT_MS = 20_000
"""Of one statement of it, at the server."""
ANSWER_BYTES_MAX = 1024 * 1024
"""Of the server's answer to it."""
ROLES_MAX = 1000
"""Database roles of one user."""
OBJECTS_MAX = 20_000
"""Tables, views and procedures of one database, for permissions on each."""
OBJECTS_BYTES_MAX = 16 * 1024 * 1024
"""Of the server's answer that lists them."""
OBJECTS_AT_ONCE = 500
"""Named in one statement."""

OTHERS_LEAVE_S = 5.0
"""How long a session waits for the server to notice that earlier ones with other roles are over."""
OTHERS_LOOK_S = 0.2
FINISH_FIRST_S = 0.2
FINISH_LAST_S = 30.0
"""Between attempts to deactivate a user: the first wait is the shortest, and each is twice the one before."""
UNSERVED_S = 15 * 60.0
"""How long the users of a database that is served no more are still looked after."""
CLOSE_S = 10.0
"""How long a service that ends waits for its users to be deactivated; the rest is for its next start."""
JOURNAL_FILE_MAX = 256 * 1024
