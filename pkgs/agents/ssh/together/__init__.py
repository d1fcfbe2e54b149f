"""Sessions of several people: who is in one, what they see and may do, and when it may run at all.

`table`, `shared`, `viewer`, `owner` and `visitor` live in the service's process, where every decision falls
(`access/joining`, `access/visiting`): a connection's process only carries bytes and shows words. `states` are
kept of each session; `files` is about copies that moderators approve of. `room` and `seat` are its two sides
there: the owner's, who waits, and the visitor's, who watches. `trackers` tells the Auth Service which
sessions live here and takes its orders to end one.
"""
