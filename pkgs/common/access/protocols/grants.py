"""What all protocols have in common: a role compiled for one kind of resource, and the check over a set.

A deny match needs only one of: labels, label expression, any principal. An allow needs labels and every
principal in the same role. Whatever the order of roles, the answer is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pkgs.common.access.contexts.labelexpr import LabelTest, compile_label_expression
from pkgs.common.access.matching import labels as label_room
from pkgs.common.access.matching.circumstances import Circumstances
from pkgs.common.access.matching.labels import LabelSelector, ValueMatcher
from pkgs.common.access.matching.patterns import compile_pattern, is_pattern
from pkgs.common.access.matching.traits import Traits, expand
from pkgs.common.access.types import Decision, Environment
from pkgs.common.errors import InputError
from pkgs.common.pki.identity import Identity
from pkgs.common.resources.role import Conditions, Role

NEEDS_MFA = "session MFA required"
NEEDS_DEVICE = "trusted device required"
_NO_MFA = frozenset({"", "no", "off", "false", "0"})


@dataclass(frozen=True, slots=True)
class Principal:
    """A field of roles that lists principals on a resource, and how its entries are compared."""

    field: str
    allow_any: bool = False
    """`*` in allow is every value; otherwise it grants nothing."""
    deny_any: bool = True
    """`*` in deny is every value."""
    folded: bool = False
    """Letter case does not matter."""
    patterns: bool = False
    """Entries may be globs or `^regular expressions$`; traits stay literal in allow."""
    valid: Callable[[str], bool] | None = None
    """Values for which this is false are dropped from an allow."""
    read: Callable[[Conditions], Sequence[str]] | None = None
    """Where the entries are, if not in the field of that name."""

    def entries(self, conditions: Conditions) -> Sequence[str]:
        found: Sequence[str] = self.read(conditions) if self.read else getattr(conditions, self.field)
        return found

    def comparable(self, value: str) -> str:
        """A value as the entries are kept."""
        return "".join(map(_folded, value)) if self.folded else value


def _folded(char: str) -> str:
    """A letter in either case; what else Unicode takes for alike (`ss`, a sign for Kelvin) names another."""
    found = char.upper().lower()
    return found if len(found) == 1 and found.isascii() == char.isascii() else char


@dataclass(frozen=True, slots=True)
class Protocol:
    """How roles grant one kind of resource."""

    name: str
    """In reasons: `server`, `database`."""
    labels: str
    """The field of roles that selects by labels; `<labels>_expression` is beside it."""
    principals: tuple[Principal, ...] = ()

    @property
    def expression(self) -> str:
        return f"{self.labels}_expression"


Demand = tuple[int, str]
"""Index of a principal of the protocol, and the value wanted of it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One role compiled for one protocol and one user's traits."""

    role: str
    source: Role
    protocol: Protocol
    allow_labels: LabelSelector
    """Everything where only an expression is set, nothing where neither is."""
    allow_expression: LabelTest | None
    deny_labels: LabelSelector
    deny_expression: LabelTest | None
    allowed: tuple[ValueMatcher, ...]
    denied: tuple[ValueMatcher, ...]
    allow_when: Circumstances | None
    deny_when: Circumstances | None
    requires_mfa: bool
    requires_device: bool

    @property
    def by_expression(self) -> bool:
        """Whether the expression alone selects."""
        return self.allow_expression is not None and not getattr(self.source.spec.allow, self.protocol.labels)

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Selector and expression, each where it is set, must hold."""
        return self.allow_labels.matches(labels) and (
            self.allow_expression is None or self.allow_expression(labels)
        )

    def in_force(self, env: Environment) -> bool:
        """Whether the allow side counts now and from here."""
        return self.allow_when is None or self.allow_when.hold(env.now, env.source_addr, unknown=False)

    def deny_in_force(self, env: Environment) -> bool:
        return self.deny_when is None or self.deny_when.hold(env.now, env.source_addr, unknown=True)

    def refusal(self, labels: Mapping[str, str]) -> str:
        """The deny field that refuses a resource with these labels; empty: none. Either one is enough."""
        if self.deny_labels.matches(labels):
            return f"deny.{self.protocol.labels}"
        if self.deny_expression is not None and self.deny_expression(labels):
            return f"deny.{self.protocol.expression}"
        return ""

    def allows(self, demand: Demand) -> bool:
        index, value = demand
        return self.allowed[index].matches(self.protocol.principals[index].comparable(value))

    def denies(self, demand: Demand) -> bool:
        index, value = demand
        return self.denied[index].matches(self.protocol.principals[index].comparable(value))

    def unmet(self, identity: Identity) -> tuple[str, str] | None:
        """What the role demands beyond labels and principals: its word and its text."""
        if self.requires_mfa and not identity.session_mfa:
            return "mfa", NEEDS_MFA
        if self.requires_device and not identity.device_id:
            return "device", NEEDS_DEVICE
        return None


Candidate = tuple[Grant, LabelSelector]
"""A grant, and the part of its selector that still has to match."""


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Grants found by the labels of a resource, so that a set of a hundred roles need not be asked whole."""

    always: tuple[Candidate, ...]
    by_label: tuple[tuple[str, Mapping[str, tuple[Candidate, ...]]], ...]

    def find(self, labels: Mapping[str, str]) -> tuple[Candidate, ...]:
        found = self.always
        for key, by_value in self.by_label:
            value = labels.get(key)
            if value is not None:
                more = by_value.get(value)
                if more:
                    found = found + more if found else more
        return found


@dataclass(frozen=True, slots=True)
class Grants:
    """A set of roles compiled for one protocol."""

    protocol: Protocol
    every: tuple[Grant, ...]
    allowing: _Candidates
    denying: _Candidates
    denied_principals: tuple[tuple[Grant, ...], ...]
    """Per principal those roles that deny any value of it."""
    demanding: bool
    """Some role demands a second factor or a device."""


def requires_mfa(value: bool | str) -> bool:
    """Whether a `require_session_mfa` value asks for anything; what is not known to be off, does."""
    return value if isinstance(value, bool) else value.lower() not in _NO_MFA


def compile_grant(
    role: Role,
    protocol: Protocol,
    traits: Traits,
    allow_when: Circumstances | None,
    deny_when: Circumstances | None,
) -> Grant:
    """Raises InputError for what is not understood."""
    allow, deny, options = role.spec.allow, role.spec.deny, role.spec.options
    applies = applies_here(allow)
    return Grant(
        role=role.name,
        source=role,
        protocol=protocol,
        allow_labels=_allowed_labels(allow, protocol, traits) if applies else label_room.NOTHING,
        allow_expression=_expression(role, protocol, "allow", traits),
        deny_labels=label_room.compile_selector(getattr(deny, protocol.labels), traits, deny=True),
        deny_expression=_expression(role, protocol, "deny", traits),
        allowed=tuple(
            _matcher(p, allow, traits, deny=False) if applies else label_room.NO_VALUE
            for p in protocol.principals
        ),
        denied=tuple(_matcher(p, deny, traits, deny=True) for p in protocol.principals),
        allow_when=allow_when,
        deny_when=deny_when,
        requires_mfa=requires_mfa(options.require_session_mfa),
        requires_device=options.device_trust_mode == "required",
    )


def matchers(role: Role, principal: Principal, traits: Traits) -> tuple[ValueMatcher, ValueMatcher]:
    """What a role allows and what it denies of a principal. Raises InputError."""
    allow, deny = role.spec.allow, role.spec.deny
    allowed = _matcher(principal, allow, traits, deny=False) if applies_here(allow) else label_room.NO_VALUE
    return allowed, _matcher(principal, deny, traits, deny=True)


def compile_grants(protocol: Protocol, every: Sequence[Grant]) -> Grants:
    """The set, with its indexes."""
    return Grants(
        protocol=protocol,
        every=tuple(every),
        allowing=_index(
            [(g, g.allow_labels, g.allow_expression) for g in every if g.allow_labels != label_room.NOTHING],
            all_must_hold=True,
        ),
        denying=_index(
            [
                (g, g.deny_labels, g.deny_expression)
                for g in every
                if g.deny_labels != label_room.NOTHING or g.deny_expression is not None
            ],
            all_must_hold=False,
        ),
        denied_principals=tuple(
            tuple(g for g in every if g.denied[n] != label_room.NO_VALUE)
            for n in range(len(protocol.principals))
        ),
        demanding=any(g.requires_mfa or g.requires_device for g in every),
    )


def _index(
    entries: Sequence[tuple[Grant, LabelSelector, LabelTest | None]], *, all_must_hold: bool
) -> _Candidates:
    """Each under one key whose values are written out: without one of them it cannot match. Not those of
    which the expression alone could match, nor those without such a key."""
    always: list[Candidate] = []
    by_label: dict[str, dict[str, list[Candidate]]] = {}
    for grant, selector, expression in entries:
        exact = [pair for pair in selector.keys if _is_exact(pair[1])]
        if not exact or selector.everything or (expression is not None and not all_must_hold):
            always.append((grant, selector))
            continue
        found = min(exact, key=lambda pair: len(pair[1].exact))
        key, values = found[0], found[1].exact
        # This one pair only: two templates may have become the same key, and both must match.
        rest = tuple(pair for pair in selector.keys if pair is not found)
        candidate = (grant, LabelSelector(not rest, rest))
        for value in values:
            by_label.setdefault(key, {}).setdefault(value, []).append(candidate)
    return _Candidates(
        tuple(always),
        tuple(
            (key, {value: tuple(found) for value, found in by_value.items()})
            for key, by_value in by_label.items()
        ),
    )


def _is_exact(matcher: ValueMatcher) -> bool:
    return not (matcher.anything or matcher.prefixes or matcher.compiled)


def _refusal(
    grants: Grants, labels: Mapping[str, str], demands: Sequence[Demand], env: Environment
) -> Decision | None:
    """The first deny that matches: any one refuses, so that their order changes the reason only."""
    protocol = grants.protocol
    for grant, rest in grants.denying.find(labels):
        if rest.matches(labels):
            field = protocol.labels
        elif grant.deny_expression is not None and grant.deny_expression(labels):
            field = protocol.expression
        else:
            continue
        if grant.deny_when is None or grant.deny_in_force(env):
            return Decision(False, (f"role {grant.role}: deny.{field}",))
    for index, value in demands:
        for grant in grants.denied_principals[index]:
            if grant.denied[index].matches(value) and grant.deny_in_force(env):
                return Decision(False, (f"role {grant.role}: deny.{protocol.principals[index].field}",))
    return None


def check(
    grants: Grants, labels: Mapping[str, str], demands: Sequence[Demand], identity: Identity, env: Environment
) -> Decision:
    """Access to a resource with these labels as these principals (reference: access to an infrastructure
    resource). The strictest granting role decides about second factor and device."""
    demands = [(index, grants.protocol.principals[index].comparable(value)) for index, value in demands]
    refusal = _refusal(grants, labels, demands, env)
    if refusal is not None:
        return refusal
    may_need = grants.demanding and not (identity.session_mfa and identity.device_id)
    granting: Grant | None = None
    for grant, rest in grants.allowing.find(labels):
        for index, value in demands:
            matcher = grant.allowed[index]
            if value not in matcher.exact and not matcher.matches(value):
                break
        else:
            if not rest.matches(labels):
                continue
            if grant.allow_expression is not None and not grant.allow_expression(labels):
                continue
            if grant.allow_when is not None and not grant.in_force(env):
                continue
            if may_need:
                missing = grant.unmet(identity)
                if missing is not None:
                    return Decision(False, (f"role {grant.role}: {missing[1]}",), (missing[0],))
            granting = granting or grant
            if not may_need:
                break
    if granting is not None:
        return Decision(True, (f"role {granting.role}: {granted_by(granting, demands)}",))
    return Decision(False, (nobody_allows(grants.protocol, demands),))


def see(grants: Grants, labels: Mapping[str, str], env: Environment) -> Decision:
    """Seen is what some role selects by labels and none refuses by them."""
    refusal = _refusal(grants, labels, (), env)
    if refusal is not None:
        return refusal
    for grant, rest in grants.allowing.find(labels):
        if (
            rest.matches(labels)
            and (grant.allow_expression is None or grant.allow_expression(labels))
            and (grant.allow_when is None or grant.in_force(env))
        ):
            return Decision(True, (f"role {grant.role}: {granted_by(grant, ())}",))
    return Decision(False, (nobody_allows(grants.protocol, ()),))


def granted_by(grant: Grant, demands: Sequence[Demand]) -> str:
    """The fields that grant together: `allow.logins and allow.node_labels`."""
    return _granted_by(grant.protocol, grant.by_expression, tuple(index for index, _ in demands))


@lru_cache(maxsize=256)
def _granted_by(protocol: Protocol, by_expression: bool, indexes: tuple[int, ...]) -> str:
    fields = dict.fromkeys(protocol.principals[index].field for index in indexes)
    labels = protocol.expression if by_expression else protocol.labels
    return " and ".join(f"allow.{field}" for field in (*fields, labels))


def nobody_allows(protocol: Protocol, demands: Sequence[Demand]) -> str:
    return _nobody_allows(protocol, tuple(index for index, _ in demands))


@lru_cache(maxsize=256)
def _nobody_allows(protocol: Protocol, indexes: tuple[int, ...]) -> str:
    if not indexes:
        return f"no role allows this {protocol.name} with these labels"
    words = list(dict.fromkeys(singular(protocol.principals[index].field) for index in indexes))
    return f"no role allows this {protocol.name} and this {' and this '.join(words)} together"


def singular(field: str) -> str:
    """`logins` -> `login`, `db_users` -> `database user`."""
    word = field.replace("_", " ").replace("db ", "database ").removesuffix("s")
    return word.replace("identitie", "identity").replace("windows desktop login", "login")


def applies_here(conditions: Conditions) -> bool:
    """Namespaces are a relic with one value; an allow for another one allows nothing."""
    return not conditions.namespaces or any(name in {"default", "*"} for name in conditions.namespaces)


def _allowed_labels(allow: Conditions, protocol: Protocol, traits: Traits) -> LabelSelector:
    selector = getattr(allow, protocol.labels)
    if not selector and getattr(allow, protocol.expression):
        return label_room.EVERYTHING
    return label_room.compile_selector(selector, traits)


def _expression(role: Role, protocol: Protocol, side: str, traits: Traits) -> LabelTest | None:
    text = getattr(role.spec.allow if side == "allow" else role.spec.deny, protocol.expression)
    if not text:
        return None
    try:
        return compile_label_expression(text, traits, deny=side == "deny")
    except InputError as error:
        raise InputError(f"role {role.name}: {side}.{protocol.expression}: {error.message}") from None


def _matcher(principal: Principal, conditions: Conditions, traits: Traits, *, deny: bool) -> ValueMatcher:
    """Attack A25: in an allow no trait brings a wildcard, and nothing that came from one is read again;
    a name with a line break names nobody."""
    anything = False
    exact: set[str] = set()
    compiled = []
    for entry in principal.entries(conditions):
        expanded = expand(entry, traits)
        for value in expanded.values:
            literal = expanded.from_trait and not deny
            if (
                value == label_room.WILDCARD
                and not literal
                and (principal.deny_any if deny else principal.allow_any)
            ):
                anything = True
            elif principal.patterns and not literal and is_pattern(value):
                compiled.append(compile_pattern(value))
            elif deny or (value.isprintable() and (principal.valid is None or principal.valid(value))):
                exact.add(principal.comparable(value))
    if not deny and not principal.allow_any:
        exact.discard(label_room.WILDCARD)
    return ValueMatcher(anything, frozenset(exact), (), tuple(compiled))
