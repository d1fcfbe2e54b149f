"""Hours and networks of a role: when and from where each side counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgs.common.access.matching.circumstances import compile_circumstances
from pkgs.common.access.types import Environment, See, SshLogin, UseRule
from pkgs.common.access.validate import validate
from pkgs.common.errors import InputError
from pkgs.common.resources.role import Conditions, TimeWindow
from tests.harness.examples import examples
from tests.unit.access.access_kit import NOW, ask, role_text, server

OFFICE = "when: [{days: [mon-fri], hours: '08:00-18:00', timezone: Europe/Berlin}]"
WIDE = "logins: [root], node_labels: {'*': '*'}, rules: [{resources: [role], verbs: [read]}]"
TARGETS = (SshLogin(server(), "root"), See(server()), UseRule("role", "read"))


def at(text: str, zone: str = "Europe/Berlin", addr: str = "10.0.0.5") -> Environment:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    return Environment(now=moment.timestamp(), source_addr=addr)


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2027-01-15T08:00:00", True),  # a Friday
        ("2027-01-15T07:59:59", False),
        ("2027-01-15T17:59:59", True),
        ("2027-01-15T18:00:00", False),
        ("2027-01-16T12:00:00", False),
        ("2027-01-17T12:00:00", False),
        ("2027-01-18T12:00:00", True),
        ("2027-03-29T08:30:00", True),  # the Monday after clocks went forward
        ("2026-10-26T08:30:00", True),  # and after they went back
        ("2026-10-26T07:30:00", False),
    ],
)
def test_an_allow_counts_within_its_hours_only(moment: str, inside: bool) -> None:
    roles = [role_text(f"{{allow: {{{WIDE}, {OFFICE}}}}}")]
    for target in TARGETS:
        decision = ask(roles, target, at(moment), expires_at=4e9)
        assert bool(decision) is inside, decision.reasons


def test_a_deny_counts_within_its_hours_only() -> None:
    roles = [
        role_text(f"{{allow: {{{WIDE}}}}}", "a"),
        role_text(
            "{deny: {node_labels: {'*': '*'}, rules: [{resources: ['*'], verbs: ['*']}], " + OFFICE + "}}",
            "d",
        ),
    ]
    for target in TARGETS:
        assert not ask(roles, target, at("2027-01-15T12:00:00"), expires_at=4e9)
        assert ask(roles, target, at("2027-01-15T20:00:00"), expires_at=4e9)


def test_hours_past_midnight_belong_to_the_day_they_begin_on() -> None:
    night = "when: [{days: [fri], hours: '22:00-06:00'}]"
    roles = [role_text(f"{{allow: {{{WIDE}, {night}}}}}")]
    for moment, inside in (
        ("2027-01-15T21:59:00", False),
        ("2027-01-15T22:00:00", True),
        ("2027-01-16T05:59:00", True),
        ("2027-01-16T06:00:00", False),
        ("2027-01-16T23:00:00", False),
        ("2027-01-15T03:00:00", False),
    ):
        assert bool(ask(roles, TARGETS[0], at(moment, "UTC"), expires_at=4e9)) is inside, moment


def test_other_roles_are_not_touched() -> None:
    always = role_text(f"{{allow: {{{WIDE}}}}}", "always")
    office = role_text(f"{{allow: {{{WIDE}, {OFFICE}}}}}", "office")
    for roles in ([always, office], [office, always]):
        assert ask(roles, TARGETS[0], at("2027-01-17T03:00:00"), expires_at=4e9)


@pytest.mark.parametrize(
    ("addr", "inside"),
    [
        ("10.0.0.5", True),
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("::ffff:10.0.0.5", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_an_allow_counts_from_its_networks_only(addr: str, inside: bool) -> None:
    roles = [role_text(f"{{allow: {{{WIDE}, from: [10.0.0.0/8, '2001:db8::/32', 192.0.2.7]}}}}")]
    for target in TARGETS:
        assert bool(ask(roles, target, Environment(now=NOW, source_addr=addr))) is inside


def test_a_deny_counts_also_where_the_address_is_not_known() -> None:
    roles = [
        role_text(f"{{allow: {{{WIDE}}}}}", "a"),
        role_text("{deny: {logins: [root], from: [10.0.0.0/8]}}", "d"),
    ]
    for addr, denied in (("10.0.0.5", True), ("192.0.2.1", False), ("", True)):
        assert bool(ask(roles, TARGETS[0], Environment(now=NOW, source_addr=addr))) is not denied


@pytest.mark.parametrize("network", ["::ffff:10.0.0.0/104", "::ffff:10.0.0.5", "::ffff:0:0/96"])
@pytest.mark.parametrize("addr", ["10.0.0.5", "::ffff:10.0.0.5"])
def test_a_network_of_mapped_addresses_is_one_of_the_addresses(network: str, addr: str) -> None:
    wide = role_text(f"{{allow: {{{WIDE}}}}}", "a")
    deny = role_text(f"{{deny: {{logins: [root], from: ['{network}']}}}}", "d")
    allow = role_text(f"{{allow: {{{WIDE}, from: ['{network}']}}}}", "only")
    assert not ask([wide, deny], TARGETS[0], Environment(now=NOW, source_addr=addr))
    assert ask([wide, deny], TARGETS[0], Environment(now=NOW, source_addr="192.0.2.1")) or "0:0" in network
    assert ask([allow], TARGETS[0], Environment(now=NOW, source_addr=addr))
    assert not ask([allow], TARGETS[0], Environment(now=NOW, source_addr="2001:db8::1"))


@pytest.mark.parametrize(
    ("side", "message", "hint"),
    [
        ("when: [{days: [moon]}]", "allow.when[0].days: 'moon' is no day", "mon-fri"),
        ("when: [{days: [mon-tue-wed]}]", "is no day", "mon-fri"),
        ("when: [{hours: '8-18'}]", "allow.when[0].hours: '8-18' are no hours", "08:00-18:00"),
        ("when: [{hours: '08:00-24:30'}]", "are no hours", "08:00-18:00"),
        ("when: [{hours: '25:00-26:00'}]", "are no hours", "08:00-18:00"),
        ("when: [{hours: '08:00-08:00'}]", "begins when it ends", "leave hours out"),
        ("when: [{timezone: Europe/Berln}]", "'Europe/Berln' is no time zone", "did you mean Europe/Berlin?"),
        ("when: [{timezone: ../../etc/passwd}]", "is no time zone", ""),
        ("when: [{timezone: localtime}]", "is no time zone", ""),
        ("from: [10.0.0.1/8]", "allow.from[0]: '10.0.0.1/8' has bits set right of its prefix", "10.0.0.0/8"),
        ("from: [10.0.0.0/8, office]", "allow.from[1]: 'office' is no network", "10.0.0.0/8"),
        ("from: [10.0.0.0/33]", "is no network", "10.0.0.0/8"),
    ],
)
def test_mistakes_name_the_field_and_what_is_allowed(side: str, message: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        validate(role_text(f"{{allow: {{{side}}}}}"))
    assert message in caught.value.message
    assert caught.value.message.startswith("role/r: spec.allow.")
    assert hint in (caught.value.hint or "")


def test_too_many_are_refused_with_the_limit() -> None:
    with pytest.raises(InputError, match="at most 200"):
        compile_circumstances(Conditions(source=["10.0.0.0/8"] * 201), "allow")
    with pytest.raises(InputError, match="at most 50"):
        compile_circumstances(Conditions(when=[TimeWindow()] * 51), "allow")


_WINDOWS = st.lists(
    st.builds(
        TimeWindow,
        days=st.lists(st.sampled_from(["mon", "wed-fri", "sat", "sun-tue"]), max_size=2),
        hours=st.sampled_from(["", "08:00-18:00", "22:00-06:00", "00:00-24:00", "23:59-00:01"]),
        timezone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York"]),
    ),
    min_size=1,
    max_size=3,
)


def _naive(windows: list[TimeWindow], now: float) -> bool:
    """Every hour of the week written out, day by day."""
    names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    for window in windows:
        local = datetime.fromtimestamp(now, ZoneInfo(window.timezone))
        days = set()
        for text in window.days or ["mon-sun"]:
            first, _, last = text.partition("-")
            day = names.index(first)
            days.add(day)
            while last and day != names.index(last):
                day = (day + 1) % 7
                days.add(day)
        begin, _, end = (window.hours or "00:00-24:00").partition("-")
        minute = f"{local:%H:%M}"
        if begin < end:
            if local.weekday() in days and begin <= minute < end:
                return True
        elif (local.weekday() in days and minute >= begin) or (
            (local.weekday() - 1) % 7 in days and minute < end
        ):
            return True
    return False


@given(_WINDOWS, st.integers(1_700_000_000, 1_900_000_000))
@settings(max_examples=examples(300), deadline=None)
def test_windows_mean_what_their_words_say(windows: list[TimeWindow], now: int) -> None:
    compiled = compile_circumstances(Conditions(when=windows), "allow")
    assert compiled is not None
    assert compiled.hold(float(now), "", unknown=False) is _naive(windows, now)
    until = compiled.until(float(now))
    # Nothing changes before that moment, and there it does.
    if until != float("inf"):
        assert _naive(windows, until) is not _naive(windows, now)
        for step in range(1, 40):
            moment = now + (until - now) * step / 40
            assert _naive(windows, min(moment, until - 1)) is _naive(windows, now)
    else:
        assert all(_naive(windows, now + 3600 * hour) is _naive(windows, now) for hour in range(170))


def test_until_of_an_ordinary_day() -> None:
    compiled = compile_circumstances(
        Conditions(when=[TimeWindow(days=["mon-fri"], hours="08:00-18:00")]), "allow"
    )
    assert compiled is not None
    noon = datetime(2027, 1, 15, 12, tzinfo=UTC)
    assert compiled.until(noon.timestamp()) == noon.timestamp() + 6 * 3600
    evening = noon + timedelta(hours=8)
    assert compiled.until(evening.timestamp()) == datetime(2027, 1, 18, 8, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("hours", ["01:00-02:30", "02:30-06:00", "02:15-02:45", "22:00-02:30", "02:30-01:00"])
@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Europe/Berlin", "2026-10-25T01:00:00"),  # back at 03:00
        ("Europe/Berlin", "2027-03-28T01:00:00"),  # forward at 02:00
        ("America/New_York", "2026-11-01T06:00:00"),
        ("America/Havana", "2027-03-14T05:00:00"),  # forward at midnight
        ("Australia/Lord_Howe", "2026-04-04T15:00:00"),  # back by half an hour
    ],
)
def test_until_where_the_clock_is_changed(hours: str, zone: str, change: str) -> None:
    """A certificate must not outlive its window because an hour came twice, or did not come."""
    windows = [TimeWindow(hours=hours, timezone=zone)]
    compiled = compile_circumstances(Conditions(when=windows), "allow")
    assert compiled is not None
    changed = datetime.fromisoformat(change).replace(tzinfo=UTC).timestamp()
    # All changes are at multiples of five minutes.
    every = [changed + 60 * minute for minute in range(-240, 2000, 5)]
    held = [_naive(windows, moment) for moment in every]
    after = next(n for n in range(97, len(held)) if held[n] is not held[96])
    for n in reversed(range(97)):
        if held[n] is not held[n + 1]:
            after = n + 1
        assert compiled.until(every[n]) == every[after]
