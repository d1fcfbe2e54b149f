import math

from pkgs.common.recording.model import Damage, ExecResult, Mark, Output, Resize
from pkgs.common.recording.showing.player import (
    MAX_SPEED,
    Clear,
    Finished,
    Notice,
    Player,
    SetSize,
    Wait,
    Write,
)

from .recordings import meta

ITEMS = [
    meta(),
    Output(100, b"a"),
    Output(200, b"b"),
    Resize(1000, 50, 20),
    Output(61_000, b"c"),
    ExecResult(62_000, 3, ""),
]


def player(items=ITEMS, **options) -> Player:
    return Player(lambda _: iter(items), **options)


def played(model: Player, now: float = 0.0) -> list[tuple[float, object]]:
    """Everything with the moment it came, obeying waits."""
    seen: list[tuple[float, object]] = []
    for _ in range(1000):
        action = model.step(now)
        if isinstance(action, Finished):
            return seen
        if isinstance(action, Wait):
            assert action.seconds < math.inf
            now += action.seconds
        else:
            seen.append((round(now, 3), action))
    raise AssertionError("never finished")


def test_it_plays_in_time():
    assert played(player()) == [
        (0.0, SetSize(100, 30)),
        (0.1, Write(b"a")),
        (0.2, Write(b"b")),
        (1.0, SetSize(50, 20)),
        (61.0, Write(b"c")),
        (62.0, Notice("the session ended with exit status 3")),
    ]


def test_faster_and_with_long_pauses_skipped():
    assert [at for at, _ in played(player(speed=2))][-2] == 30.5
    seen = played(player(skip_idle_ms=1000))
    assert [at for at, a in seen if isinstance(a, Write)] == [0.1, 0.2, 2.0]
    assert player(speed=1e9).speed == MAX_SPEED
    assert player(speed=math.nan).speed == 1.0


def test_pause_and_resume():
    model = player()
    assert isinstance(model.step(0.0), SetSize)
    model.pause(0.05)
    assert model.step(500.0) == Wait(math.inf)
    assert model.position(500.0) == 50
    model.toggle(500.0)
    wait = model.step(500.0)
    assert isinstance(wait, Wait) and round(wait.seconds, 3) == 0.05
    assert model.step(500.051) == Write(b"a")


def test_seek_forward_shows_what_lies_between_at_once():
    model = player()
    model.step(0.0)
    model.seek(1000, 0.0)
    assert model.step(0.0) == Write(b"ab")
    assert model.step(0.0) == SetSize(50, 20)
    assert model.step(0.0) == Wait(60.0)


def test_seek_back_begins_again_even_while_paused_or_finished():
    model = player()
    played(model)
    model.pause(62.0)
    model.skip(-61_850, 62.0)
    assert [model.step(62.0) for _ in range(4)] == [Clear(), SetSize(100, 30), Write(b"a"), Wait(math.inf)]
    model.resume(70.0)
    assert round(played(model, 70.0)[-1][0], 2) == 131.85


def test_a_change_of_speed_keeps_the_position():
    model = player()
    model.step(0.0)
    model.seek(2000, 0.0)
    model.set_speed(4.0, 1.0)
    assert model.position(1.0) == 3000
    assert model.position(2.0) == 7000


def test_notices_are_inert():
    items = [Damage(offset=7, problem="cut\x1b[2J"), Mark(0, "join", "mal\x1b]0;x\x07lory")]
    texts = [action.text for _, action in played(player(items))]
    assert texts == ["cut?[2J (at byte 7)", "join: mal?]0;x?lory"]


def test_nothing_at_all_is_finished():
    assert isinstance(player([]).step(0.0), Finished)
