"""What happened: the hash-chained log, the journal that the service itself writes, session recordings.

Promises that what was acknowledged is durable and in order, that a host tells only of itself and of its own
sessions, and that a finished recording is never replaced. Must not know why something was done: the rooms
above build their events and hand them in.
"""
