"""The verbs on authorities, one per file: issuing certificates into files, exporting public keys.

Promises that a new private key is written to a private file and nowhere else.
"""
