"""Every limit of sessions of several people, in one place."""

from __future__ import annotations

MAX_VISITORS = 32
"""In one session."""
VISITOR_ALIVE_S = 15.0
"""Between signs of life that a visitor's client is asked for. How many may be missing is the cluster's
`keep_alive_count_max`; with its default, who sees nothing any more is gone after a minute."""
MAX_PROOFS = 64
"""Users whose proofs of being there are kept, of one session."""
REPLAY = 32 * 1024
"""Newest output of a session on a terminal that whoever joins later is shown."""
VIEWER_QUEUE = 256 * 1024
"""Output that may wait in the service for one visitor; beyond that they skip to what is newest."""
VIEWER_CREDIT = 64 * 1024
"""Output on its way to a visitor that their client has not taken yet."""
OUTPUT_CHUNK = 16 * 1024
"""Of one message to a visitor's process."""
RETRY_S = 0.05
"""Before output is offered again to a process that could not take it."""
TYPED_AHEAD = 64 * 1024
"""Input of peers that the program has not read yet; more of it is lost, as on a terminal."""
ANSWER_REST_S = 0.02
"""Between attempts to hear word about a session whose answer is not taken yet."""
COPY_ANSWER_S = 120.0
"""For moderators to say whether files may be copied."""
COPY_USE_S = 300.0
"""For the owner to begin, once they may."""
COPY_SHOWN = 20
"""Operations on files that are shown to everybody, of one approved copy."""
DETACHED_S = 4 * 3600.0
"""How long a session goes on that its owner has left, without seeing them again."""
MAX_DETACHED = 8
"""Sessions of one user on one server that go on without them."""
END_GRACE_S = 5.0
"""From the order that a session end to the end of its whole connection."""
MAX_REASON = 512
"""Characters of a reason for a session, or for its end, that are kept and shown."""
MAX_INVITED = 32
MAX_SHOWN_DEMANDS = 8
REPORT_EVERY_S = 60.0
"""Between reports of the live sessions to the Auth Service; each change is told at once."""
REPORT_PART = 50
"""Sessions in one part of a report."""
REPORT_SETTLE_S = 0.2
LAST_REPORT_S = 1.0
REPORT_CALL_S = 5.0
RETRY_FIRST_S = 1.0
RETRY_MOST_S = 30.0
"""Between attempts to reach the Auth Service."""
