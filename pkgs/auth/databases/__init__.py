"""What the Auth Service does for Database Services: presence of what they serve, and certificates.

Promises that an agent speaks for itself alone, and gets certificates for no database but those it has
announced. Must not know any protocol of a database, nor how users reach one.
"""
