"""Reviews counted against thresholds.

    PENDING --any threshold with enough denials--------------> DENIED
    PENDING --every role: each of its sets has a threshold
              with enough approvals--------------------------> APPROVED

Asked after each review; a request that is not pending takes none. All changes of state by reviews are here.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from pkgs.common.access.contexts.reviewing import answer, parse_threshold_filter
from pkgs.common.access.requests import limits
from pkgs.common.access.requests.reviewing import Reviewer
from pkgs.common.errors import DeniedError, InputError, LimitExceededError
from pkgs.common.resources.kinds.requests import AccessRequestSpec, RequestState, Review
from pkgs.common.resources.role import Threshold

DECIDED = ("APPROVED", "DENIED", "PROMOTED")


def reviewed(request: AccessRequestSpec, review: Review, reviewer: Reviewer) -> AccessRequestSpec:
    """The request with this review, decided if it decides."""
    if request.state != "PENDING":
        raise DeniedError(f"the request is {request.state} already, it takes no more reviews")
    if review.proposed_state not in ("APPROVED", "DENIED"):
        raise InputError("a review approves or denies")
    if review.roles or review.annotations:
        raise InputError("a review is about the whole request, without roles and annotations of its own")
    if review.author != reviewer.user:
        raise DeniedError("a review is written in one's own name")
    refusal = reviewer.refusal(request)
    if refusal:
        raise DeniedError(f'user "{reviewer.user}" may not review this request', hint=refusal)
    if any(earlier.author == review.author for earlier in request.reviews):
        raise DeniedError(f'user "{reviewer.user}" has reviewed this request already')
    if len(request.reviews) >= limits.MAX_REVIEWS:
        raise LimitExceededError(f"a request may have {limits.MAX_REVIEWS} reviews")
    counting = [
        index
        for index, threshold in enumerate(request.thresholds)
        if _counts(threshold, request, review, reviewer)
    ]
    review = msgspec.structs.replace(review, threshold_indexes=counting)
    after = msgspec.structs.replace(request, reviews=[*request.reviews, review])
    state = outcome(after)
    if state == "PENDING":
        return after
    changes: dict[str, object] = {"state": state, "resolve_reason": review.reason}
    if state == "APPROVED":
        starts = [r.assume_start_time for r in after.reviews if r.assume_start_time is not None]
        if starts:
            changes["assume_start_time"] = max(starts)
    return msgspec.structs.replace(after, **changes)


def _counts(threshold: Threshold, request: AccessRequestSpec, review: Review, reviewer: Reviewer) -> bool:
    """A filter that cannot be answered lets a denial count and an approval not."""
    if not threshold.filter.strip():
        return True
    scope = reviewer.scope(request, review.reason)
    found = answer(parse_threshold_filter(threshold.filter), scope)
    return review.proposed_state == "DENIED" if found is None else found


def outcome(request: AccessRequestSpec) -> RequestState:
    """What the reviews amount to; their order does not matter."""
    approvals: Counter[int] = Counter()
    denials: Counter[int] = Counter()
    for review in request.reviews:
        counted = approvals if review.proposed_state == "APPROVED" else denials
        counted.update(set(review.threshold_indexes))
    thresholds = request.thresholds
    if any(t.deny != 0 and denials[index] >= t.deny for index, t in enumerate(thresholds)):
        return "DENIED"

    def met(index: int) -> bool:
        # An index that names no threshold is met by nobody.
        if not 0 <= index < len(thresholds):
            return False
        needed = thresholds[index].approve
        return needed != 0 and approvals[index] >= needed

    def approved(role: str) -> bool:
        found = request.rtm.get(role)
        return found is not None and bool(found.sets) and all(any(map(met, s.indexes)) for s in found.sets)

    return "APPROVED" if request.roles and all(map(approved, request.roles)) else "PENDING"
