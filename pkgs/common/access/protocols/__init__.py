"""One small file per protocol beside the one `decide`: what a role's fields mean for servers, databases,
applications, Kubernetes clusters, desktops and leaf clusters.

`grants` holds what they have in common. No file decides anything by itself: each answers `decide`.
"""
