"""Who gains or loses what when roles and users are replaced: the same questions, decided before and after.

Pure. `items` finds what is worth asking, `states` asks one side, `compare` asks both, `summary` brings
together what changes alike. Every answer is `decide`'s own.
"""
