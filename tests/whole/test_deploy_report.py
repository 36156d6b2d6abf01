"""What a deploy did to the clients can be read afterwards: from the command line and as metrics."""

import os
import re
import signal
from typing import Any

import pytest

from tests.clients import Client, clients
from tests.server_process import ServerProcess, run_server
from tests.whole.moving import clients_of, gone, until
from tests.whole.test_control import lastcall, status
from tests.whole.test_workers import MASTERS

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

QUIET: dict[str, Any] = {"announcements": False, "heartbeat_interval": 0, "shutdown_timeout": 60}


def metric(server: ServerProcess, name: str, **labels: object) -> float:
    """The sum of the series that have these labels."""
    code, headers, text = server.get("/metrics")
    assert (code, headers["content-type"][:10]) == (200, "text/plain")
    found = re.findall(rf"^lastcall_{name}\{{(.*)\}} (\S+)$", text, flags=re.MULTILINE)
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    return sum(float(value) for has, value in found if wanted <= set(has.split(",")))


async def hear_each_other(connected: list[Client]) -> None:
    await connected[-1].send("all are here")
    for client in connected:
        await client.hear("all are here")


async def test_who_left_says_what_became_of_its_clients() -> None:
    """Asked of whichever worker answers, and under a master that is not ours."""
    with run_server(workers=2, **QUIET) as server:
        async with clients(server.websocket_url, 12) as connected:
            await hear_each_other(connected)
            counts = clients_of(server)
            leaving = max(counts, key=lambda pid: counts[pid])
            os.kill(leaving, signal.SIGTERM)
            await gone(server, leaving)
            await until(lambda: len(server.worker_pids()) == 2, server)

            (seen,) = status(server.run_dir)
            (left,) = seen["left"]
            assert (left["pid"], left["state"]) == (leaving, "left")
            report = left["drain"]
            assert (report["why"], report["finished"]) == ("stop", True)
            assert report["at_start"] == report["handed_over"] == counts[leaving]
            assert report["closed"] == report["cut"] == report["told"] == 0
            assert 0 < report["longest_pause"] < 5
            assert (
                f"worker {leaving} left after" in lastcall("status", run_dir=server.run_dir).stdout
            )

            for _ in range(4):
                assert metric(server, "connections") == 12
                drained = metric(
                    server, "drain_clients_total", worker=leaving, outcome="handed_over"
                )
                assert drained == counts[leaving]
                received = metric(server, "handover_received_total")
                assert received == counts[leaving]
            assert metric(server, "deliveries_total") >= 12
            assert metric(server, "worker_state", state="ready") == 2
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        assert server.leftovers() == []


@MASTERS
async def test_a_reload_adds_up_what_its_workers_did(command: tuple[str, ...]) -> None:
    with run_server(command=command, workers=2, **QUIET) as server:
        async with clients(server.websocket_url, 10) as connected:
            await hear_each_other(connected)
            before = set(server.worker_pids())
            server.send_signal(signal.SIGHUP)

            def are_new() -> bool:
                return len(server.worker_pids()) == 2 and not before & {
                    *server.records(),
                    *server.records("DONE"),
                }

            await until(are_new, server, 60)
            (seen,) = status(server.run_dir)
            reports = {worker["pid"]: worker["drain"] for worker in seen["left"]}
            assert set(reports) == before
            if seen["supervisor"] is not None:
                (deploy,) = seen["supervisor"]["deploys"]
                assert deploy["drain"]["workers"] == 2
                assert deploy["drain"]["handed_over"] == deploy["drain"]["at_start"] == 10
                text = lastcall("status", run_dir=server.run_dir).stdout
                total = "of 10 clients 0 went by themselves, 10 were handed over"
                assert total in text
                done = rf"Reload 1 complete: 2 workers retired in \d+\.\d s: {total}"
                await until(lambda: re.search(done, server.log), server)
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        assert server.leftovers() == []
