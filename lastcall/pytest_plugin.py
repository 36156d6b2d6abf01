"""`simulate_deploy` as a fixture: ``pytest_plugins = ["lastcall.pytest_plugin"]`` in a conftest."""

from collections.abc import Callable

import pytest

from lastcall import testing
from lastcall.testing import DeployOutcome


@pytest.fixture
def simulate_deploy() -> Callable[..., DeployOutcome]:
    """`lastcall.testing.simulate_deploy`: connect clients, deploy, see what became of them."""
    return testing.simulate_deploy
