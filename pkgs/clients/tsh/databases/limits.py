"""Every bound of this room."""

from __future__ import annotations

LIST_DEADLINE_S = 60.0
DIAL_S = 15.0
"""To the proxy, and once more for TLS up to the agent."""
CONNECTIONS = 512
"""At once through one local port."""
SESSION_CERT_S = 60.0
"""Life of a certificate that was made with a code for one session."""
ACCEPT_AGAIN_S = 1.0
"""After no connection could be taken."""
STATEMENTS_AT_ONCE = 10
"""Databases that `tsh db exec` works on side by side."""
