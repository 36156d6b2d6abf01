"""A real Redis with replicas and sentinels that watch it, each a process on a free port."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.redis_process import RedisProcess, answer_of
from tests.server_process import START_TIMEOUT, free_port, wait_until

SERVICE = "shop"


class Sentinels:
    """A master, a replica, and three sentinels of which two have to agree."""

    def __init__(self, directory: Path, down_after: float, stack: ExitStack) -> None:
        options = ("--repl-diskless-sync-delay", "0")
        self.servers = [RedisProcess(directory / str(n), *options) for n in range(2)]
        for server in self.servers:
            stack.callback(server.kill)
            server.start()
        self.servers[1].ask("REPLICAOF", "127.0.0.1", str(self.master.port))
        wait_until(self.is_synchronised, START_TIMEOUT)
        started = [_sentinel(directory, self.master.port, down_after, stack) for _ in range(3)]
        self.ports, self._processes = [port for port, _ in started], [each for _, each in started]
        wait_until(self._all_know_each_other, START_TIMEOUT)
        places = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        login = "sentinel_username=guard&sentinel_password=secret"
        self.url = f"redis+sentinel://{places}/{SERVICE}?{login}"

    @property
    def master(self) -> RedisProcess:
        """The one that was the master first."""
        return self.servers[0]

    def is_synchronised(self) -> bool:
        """Whether the replica has what the master has."""
        return "state=online" in self.master.ask("INFO", "replication")

    def has_demoted(self) -> bool:
        """Whether the first master is a replica now."""
        return "role:slave" in self.master.ask("INFO", "replication")

    def fail_over(self) -> None:
        """Have a replica promoted although nothing is wrong with the master."""
        assert answer_of(self.ports[0], "SENTINEL", "FAILOVER", SERVICE) == "+OK"

    def kill_sentinel(self) -> None:
        """End the sentinel that is named last; the others are enough."""
        self._processes[-1].kill()

    def has_promoted(self) -> bool:
        """Whether the replica is the master now."""
        return "role:master" in self.servers[1].ask("INFO", "replication")

    def _all_know_each_other(self) -> bool:
        told = [answer_of(port, "INFO", "sentinel") for port in self.ports]
        return all("slaves=1,sentinels=3" in each for each in told)


def _sentinel(
    directory: Path, master: int, down_after: float, stack: ExitStack
) -> "tuple[int, subprocess.Popen[bytes]]":
    port = free_port()
    file = directory / f"sentinel-{port}.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {master} 2\n"
        f"sentinel down-after-milliseconds {SERVICE} {down_after * 1000:.0f}\n"
        f"sentinel failover-timeout {SERVICE} 5000\n"
        "user guard on >secret ~* &* +@all\n"
    )
    with file.with_suffix(".log").open("ab") as log:
        command = ["redis-server", str(file), "--sentinel"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return port, process


@contextmanager
def run_sentinels(down_after: float = 60) -> Iterator[Sentinels]:
    """Run them all until the block is left; a master may be silent for so many seconds."""
    with TemporaryDirectory(prefix="lc-redis-") as directory, ExitStack() as stack:
        yield Sentinels(Path(directory), down_after, stack)
