"""PostgreSQL's frontend/backend protocol, versions 3.0 and 3.2 (PostgreSQL manual, chapter "Frontend/Backend
Protocol"): the packets before a session, the frames of one, and what is in those that matter to us."""
