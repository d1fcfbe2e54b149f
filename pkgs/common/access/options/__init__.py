"""Role options over a set of roles, each merged as the field merges it: mostly to the strictest.

One file per area: `session` (connections and SSH sessions), `login` (certificates), `principals` (the lists
of a certificate), `hostuser` and `desktop` (accounts made on the fly; those in databases are a matter of the
database protocol). Every function takes all roles of a subject without the implicit one, which by its own
options changes nothing, and `in_force`: a role whose conditions do not hold now grants nothing and still
restricts. The order of the roles never matters; where one of several must win, their names decide.
"""

from pkgs.common.access.options.login import lock_mode, max_session_ttl
from pkgs.common.access.options.principals import logins_for
from pkgs.common.access.options.session import SessionOptions, merge_options

__all__ = ["SessionOptions", "lock_mode", "logins_for", "max_session_ttl", "merge_options"]
