"""A real cluster of Redis, each server a process on a free port."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from redis import Redis

from lastcall.broker.redis_slots import SLOTS
from tests.redis_process import RedisProcess
from tests.server_process import START_TIMEOUT, free_port, wait_until

MASTERS = 3


class Cluster:
    """Three masters, each with a third of the slots, and a replica of the first if wanted."""

    def __init__(
        self, directory: Path, stack: ExitStack, replicas: int, without: tuple[str, ...]
    ) -> None:
        self.servers = []
        # Short where somebody is to be replaced; else no busy machine shall make one look dead.
        patience = 1500 if replicas else 15_000
        forgotten = [word for name in without for word in ("--rename-command", name, "")]
        for number in range(MASTERS + replicas):
            bus = free_port()
            given = f"--cluster-enabled yes --cluster-port {bus} --cluster-node-timeout {patience}"
            given += " --repl-diskless-sync-delay 0"
            server = RedisProcess(directory / str(number), *given.split(), *forgotten)
            stack.callback(server.kill)
            server.start()
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            self.servers.append(server)
            self.servers[0].ask("CLUSTER", "MEET", "127.0.0.1", str(server.port), str(bus))
        self.masters = self.servers[:MASTERS]
        self._edges = edges = [number * SLOTS // MASTERS for number in range(MASTERS + 1)]
        for server, first, end in zip(self.masters, edges, edges[1:], strict=False):
            server.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(end - 1))
        wait_until(self._all_know_each_other, START_TIMEOUT)
        for server in self.servers[MASTERS:]:
            assert server.ask("CLUSTER", "REPLICATE", node_id(self.masters[0])) == "+OK"
            wait_until(
                lambda: f"connected_slaves:{replicas}" in _told(self.masters[0]), START_TIMEOUT
            )
        wait_until(self.is_ok, START_TIMEOUT)
        self.url = (
            f"redis+cluster://127.0.0.1:{self.masters[0].port},127.0.0.1:{self.masters[1].port}"
        )

    def is_ok(self) -> bool:
        """Whether all agree that each slot is served."""
        return all("cluster_state:ok" in each.ask("CLUSTER", "INFO") for each in self.servers)

    def owner(self, slot: int) -> RedisProcess:
        """Whoever has the slot at first."""
        return self.masters[sum(slot >= edge for edge in self._edges[1:-1])]

    def move(self, slot: int, source: RedisProcess, target: RedisProcess) -> None:
        """Move a slot as operators' tools do: key by key, and then for good."""
        with self.moving(slot, source, target):
            pass

    @contextmanager
    def moving(self, slot: int, source: RedisProcess, target: RedisProcess) -> Iterator[None]:
        """Move a slot; it has been announced and nothing was moved yet when the block begins."""
        ids = node_id(source), node_id(target)
        with Redis(port=source.port) as here, Redis(port=target.port) as there:
            there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
            here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
            yield
            while keys := here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
                here.execute_command(
                    "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys
                )
            for server in (there, here):
                server.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])

    def _all_know_each_other(self) -> bool:
        known = f"cluster_known_nodes:{len(self.servers)}"
        return all(known in each.ask("CLUSTER", "INFO") for each in self.servers)


def node_id(server: RedisProcess) -> str:
    """What a server calls itself in its cluster."""
    return server.ask("CLUSTER", "MYID")


def _told(server: RedisProcess) -> str:
    return server.ask("INFO", "replication")


@contextmanager
def run_cluster(replicas: int = 0, without: tuple[str, ...] = ()) -> Iterator[Cluster]:
    """Run a cluster until the block is left; its servers do not know some commands."""
    with TemporaryDirectory(prefix="lc-redis-") as directory, ExitStack() as stack:
        yield Cluster(Path(directory), stack, replicas, without)
