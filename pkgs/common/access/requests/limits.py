"""How much may be asked for, and for how long."""

from __future__ import annotations

MAX_REASON_CHARS = 4096
MAX_ROLES = 100
"""Roles of one request."""
MAX_RESOURCES = 200
"""Resources of one request: all of them are written into a certificate."""
MAX_RESOURCE_CHARS = 24 * 1024
"""All of their ids together."""
MAX_THRESHOLDS = 4096
MAX_REVIEWERS = 100
MAX_REVIEWS = 200
MAX_ANNOTATIONS = 100
MAX_ANNOTATION_VALUES = 100
MAX_ANNOTATION_CHARS = 1000
MAX_ACTIVE = 16
"""Requests that one certificate may hold."""

PENDING_S = 3600.0
"""How long a request waits for its reviewers, unless asked otherwise."""
MAX_DURATION_S = 14 * 86400.0
"""Longest access by one request."""
