"""Clients with positions, while workers are killed, reloaded and upgraded: nothing is missed.

`FIRE_MINUTES` and `FIRE_CLIENTS` make it longer; `FIRE_SEED` repeats what happened. At its full
size it is `scripts/bench deploys fire`.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.deploys.fire import QUICK, burn

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

SCALE = replace(
    QUICK,
    minutes=float(os.environ.get("FIRE_MINUTES", QUICK.minutes)),
    clients=int(os.environ.get("FIRE_CLIENTS", QUICK.clients)),
)


async def test_every_offset_comes_once_and_in_order(tmp_path: Path) -> None:
    seed = int(os.environ.get("FIRE_SEED", str(time.time_ns() % 1_000_000)))
    burnt = await burn(tmp_path, SCALE, seed)

    assert burnt.is_flawless, f"seed {seed}: {burnt}"
    # The history holds more than anybody can have missed: nobody may be told of a gap.
    assert burnt.gaps == 0, f"seed {seed}: {burnt}"
    assert burnt.disturbances
