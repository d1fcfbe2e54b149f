"""What users have open in the whole cluster, counted in leases. Promises that of two agents that ask at once
never both get the last place. Knows nothing of protocols: an agent proves by a certificate whom it asks for.
"""
