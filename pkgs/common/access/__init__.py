"""The access decision: may this identity do this to that, now; and why. Pure functions over values; deny when
unsure. Must not know who asks, what is stored, or how anything is reached.

`decide` is the one function that decides. What it asks: `matching` (entries of roles), `protocols` (one file
each), `rules` (the API), `locks`, `options` (merged over a set), `predicate` and `contexts` (conditions).
Beside it: `requests`, `lists`, `impersonation`, `joining`, `rolemap`. Over it: `explaining`, `policytests`,
`policydiff`.
"""
