"""Configuration resources: typed kinds, defaults, validation, YAML and JSON.

Pure: no I/O, no clock. Everything a cluster is made of is a resource with a kind, a version, metadata
and a spec, and is handled by the same verbs. Must not know any service.
"""
