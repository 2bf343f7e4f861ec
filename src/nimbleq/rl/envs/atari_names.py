"""Names under which Atari games were known, and the one that nimbleq plays."""

from __future__ import annotations

import re

import gymnasium

_TEXT = """Adventure AirRaid Alien Amidar Assault Asterix Asteroids Atlantis BankHeist BattleZone BeamRider Berzerk
Bowling Boxing Breakout Carnival Centipede ChopperCommand CrazyClimber Defender DemonAttack DoubleDunk ElevatorAction
Enduro FishingDerby Freeway Frostbite Gopher Gravitar Hero IceHockey Jamesbond JourneyEscape Kangaroo Krull KungFuMaster
MontezumaRevenge MsPacman NameThisGame Phoenix Pitfall Pong Pooyan PrivateEye Qbert Riverraid RoadRunner Robotank
Seaquest Skiing Solaris SpaceInvaders StarGunner Surround Tennis TimePilot Tutankham UpNDown Venture VideoPinball
WizardOfWor YarsRevenge Zaxxon"""
_GAMES = frozenset(_TEXT.split())
_NAME = re.compile(
    r"(?:(?P<module>\w+):)?(?:ALE/)?(?P<game>[A-Z][A-Za-z0-9]*?)(?P<ram>-ram)?(?P<old>NoFrameskip|Deterministic)?-v\d"
)


def advice(name: str) -> str | None:
    """What to write instead of ``name`` where that is a game of Atari's by another name than nimbleq's; None elsewhere.

    nimbleq knows ``ALE/Pong-v5``: the old names are other settings of the same game, which reach it as raw RGB
    pictures, without the four frames and the stack that everybody means.
    """
    found = _NAME.fullmatch(name)
    if found is None or (name.startswith("ALE/") and not found["ram"]):
        return None
    module, plain = found["module"], name.rpartition(":")[2]
    known = found["game"] in _GAMES or bool(found["old"])
    ours = module == "ale_py" or (known and (plain not in gymnasium.registry or _is_ale(plain)))
    if not ours:
        return None
    what = "observes its memory" if found["ram"] else "is an old name"
    return (
        f"{name} {what}: use ALE/{found['game']}-v5 (pip install 'nimbleq[atari]'), which nimbleq plays from four "
        "stacked grey pictures of 84 × 84"
    )


def _is_ale(name: str) -> bool:
    return "ale_py" in str(gymnasium.registry[name].entry_point)
