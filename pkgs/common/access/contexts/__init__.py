"""Where the predicate language is spoken: a rule's `where`, a label expression, a listing's `--query`.

Each context gives the language its own typed names and nothing else; what a context cannot answer never
allows. Must not know the roles that hold the expressions.
"""
