"""How many workers, hosts and engines a load takes, by what was measured: pure.

All constants stand in `COSTS` and in `LIMITS`, and nowhere else; docs/scaling.md says how to read
the outcome.
"""

import math
from dataclasses import dataclass

MICROSECONDS = 1e6
MIB = 2**20
GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one of each takes: microseconds of one core, or bytes."""

    deliver: float
    """To write one publication to one client, alone in its turn; several together cost less."""
    hear: float
    """On a worker that has subscribers of it: to take one publication from the engine."""
    publish: float
    """To give one publication to the engine, and its position to the publisher."""
    connect: float
    """A handshake, the connect command and a subscription, without the application's own work."""
    subscribe: float
    """Each further subscription, with the question to the engine."""
    idle: float
    """A connection for a second: its pings, and their answers."""
    connection_bytes: float
    """A connection with one subscription."""
    socket_bytes: float
    """The kernel's part of an idle connection."""
    subscription_bytes: float
    """Each further one."""
    channel_bytes: float
    """A channel on a worker that has subscribers of it."""
    worker_bytes: float
    """A worker without clients."""
    engine_publish: float
    """In the engine: one publication with history."""
    engine_tell: float
    """In the engine: to tell one worker of one publication."""
    engine_read: float
    """In the engine: to say where a channel stands."""
    engine_subscribe: float
    """In the engine: to tell a worker of a channel from now on, and where it stands."""
    engine_channel_bytes: float
    """In the engine: a channel without its history."""
    engine_entry_bytes: float
    """In the engine: a publication in a history, beside its data."""


COSTS = Costs(
    # benchmarks/results/centrifuge/2026-11-23-1410.json: Centrifuge JSON
    deliver=5.5,
    connect=290,
    connection_bytes=3009,
    # benchmarks/results/2026-11-23-1436.json: 28.75 us a connection and minute
    idle=0.48,
    # Linux 6.18: the growth of its slabs by 16,000 idle ends of TCP connections
    socket_bytes=4700,
    # benchmarks/results/engines/redis-2026-11-30-2220.json: Redis 7.0, 128 bytes with history;
    # three workers that hear 2,000 publications a second; 100,000 channels with a client each
    publish=17,
    hear=43,
    subscribe=162,
    channel_bytes=1418,
    engine_publish=22,
    engine_subscribe=18,
    # Measured by hand: 40 more subscriptions of 200 clients in channels that all hear; telling a
    # worker of a publication on its own; what `MEMORY USAGE` says of a head, a stream and an entry
    subscription_bytes=250,
    worker_bytes=62 * MIB,
    engine_tell=6,
    engine_read=18,
    engine_channel_bytes=4400,
    engine_entry_bytes=17,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where other things end before the processor does."""

    connections: int = 50_000
    """Connections of one worker: below the usual 65,536 descriptors, and soon enough let go."""
    ports: int = 28_000
    """Connections from one proxy's address to one host's: the ports that Linux gives out."""
    looks: float = 500
    """Channels of one worker that are compared with the engine, a second at most."""
    look_seconds: float = 30
    sign_seconds: float = 2
    """Between two signs of life, which all workers hear of all."""


LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is expected of the server."""

    connections: int
    publications: float
    """A second, in all channels."""
    channels: int
    """In all, with at least one subscriber."""
    subscriptions: float = 1
    """Of each connection."""
    data: int = 128
    """Bytes of a publication."""
    history_size: int = 1000
    history_ttl: float = 300
    """What the settings say."""

    @property
    def audience(self) -> float:
        """How many hear a publication."""
        return self.connections * self.subscriptions / self.channels

    @property
    def kept(self) -> float:
        """Publications in the history of a channel."""
        return min(self.history_size, self.publications / self.channels * self.history_ttl)

    @property
    def deliveries(self) -> float:
        """A second."""
        return self.publications * self.audience


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What it is to be served with."""

    cores: int = 4
    """Of a host; each has one worker."""
    memory: float = 8
    """GiB of a host."""
    busy: float = 0.5
    """The part of a core, and of the memory, that is used while everything is well."""
    spare: int = 1
    """Hosts that may be away, for a deploy or a failure, while the others carry all."""
    release_rate: float = 100
    """Clients a second that are let go while hosts leave."""
    rush: float = 60
    """Seconds in which all clients of a lost host have come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What it takes."""

    deliveries: float
    workers: int
    """That carry everything while the spare hosts are away."""
    hosts: int
    """The spare ones included."""
    busy: float
    """The part of its core that a worker uses then."""
    connections: int
    """Of one host then."""
    memory: float
    """GiB of one host then."""
    leave: float
    """Seconds until the clients of a host are let go, when it leaves."""
    engine_busy: float
    """Cores of the engine."""
    engine_told: float
    """Messages a second from the engine to workers."""
    engine_memory: float
    """GiB in the engine."""
    engines: int
    """Masters of it, none busier than `Means.busy`."""


def size(load: Load, means: Means, costs: Costs = COSTS, limits: Limits = LIMITS) -> Sizing:
    """Work out what *load* takes, at *costs*."""
    workers = 1
    # More workers mean more that hear a publication, and so a little more work: it settles soon.
    while (needed := _workers(load, means, workers, costs, limits)) > workers:
        workers = needed
    hosts = math.ceil(workers / means.cores)
    workers = hosts * means.cores if hosts > 1 else workers
    told = load.publications * _hearing(load, workers) + workers**2 / limits.sign_seconds
    engine = _engine(load, means, workers, told, costs=costs, limits=limits)
    entry = load.data + costs.engine_entry_bytes
    connections = math.ceil(load.connections / hosts)
    return Sizing(
        deliveries=load.deliveries,
        workers=workers,
        hosts=hosts + means.spare,
        busy=_work(load, means, workers, costs) / workers,
        connections=connections,
        memory=_memory(load, workers, costs) / hosts / GIB,
        leave=math.ceil(load.connections / (hosts + means.spare)) / means.release_rate,
        engine_busy=engine,
        engine_told=told,
        engine_memory=load.channels * (costs.engine_channel_bytes + load.kept * entry) / GIB,
        engines=max(1, math.ceil(engine / means.busy)),
    )


def _workers(load: Load, means: Means, workers: int, costs: Costs, limits: Limits) -> int:
    """How many are needed, if there were *workers*."""
    hosts = _memory(load, workers, costs) / (means.memory * GIB * means.busy)
    return max(
        math.ceil(_work(load, means, workers, costs) / means.busy),
        math.ceil(load.connections / limits.connections),
        math.ceil(hosts * means.cores) if hosts > 1 else 1,
    )


def _work(load: Load, means: Means, workers: int, costs: Costs) -> float:
    """Cores that all of *workers* use together."""
    come_back = costs.connect + max(0.0, load.subscriptions - 1) * costs.subscribe
    microseconds = (
        load.deliveries * costs.deliver
        + load.publications * (costs.publish + _hearing(load, workers) * costs.hear)
        + load.connections * costs.idle
        + _returning(load, means, workers) * come_back
    )
    return microseconds / MICROSECONDS


def _returning(load: Load, means: Means, workers: int) -> float:
    """Clients a second that come back while those of a lost host do."""
    hosts = max(2, math.ceil(workers / means.cores) + means.spare)
    return load.connections / hosts / means.rush


def _hearing(load: Load, workers: int) -> float:
    """How many of *workers* have a subscriber of a channel; its subscribers are anywhere."""
    return workers * (1 - math.pow(1 - 1 / workers, load.audience))


def _memory(load: Load, workers: int, costs: Costs) -> float:
    """Bytes that all of *workers* use together."""
    further = max(0.0, load.subscriptions - 1) * costs.subscription_bytes
    return (
        load.connections * (costs.connection_bytes + costs.socket_bytes + further)
        + load.channels * _hearing(load, workers) * costs.channel_bytes
        + workers * costs.worker_bytes
    )


def _engine(
    load: Load, means: Means, workers: int, told: float, *, costs: Costs, limits: Limits
) -> float:
    """Cores that the engine uses."""
    channels = load.channels * _hearing(load, workers) / workers
    looks = workers * min(limits.looks, channels / limits.look_seconds)
    microseconds = (
        load.publications * costs.engine_publish
        + told * costs.engine_tell
        + looks * costs.engine_read
        + _returning(load, means, workers) * load.subscriptions * costs.engine_subscribe
    )
    return microseconds / MICROSECONDS


def warnings(load: Load, means: Means, found: Sizing, limits: Limits = LIMITS) -> list[str]:
    """What has to be seen to beside the number of hosts."""
    said = []
    if found.hosts - means.spare == 1:
        said.append("one host carries this: several are for its failure, not for the load")
    if found.connections > limits.ports:
        said.append(
            f"a proxy has {limits.ports:,} ports to one address of a host: give hosts several "
            "addresses, or the proxy"
        )
    if found.leave > means.rush * 5:
        said.append(
            f"a host takes {found.leave / 60:.0f} min to leave at {means.release_rate:g} clients a "
            "second: raise LASTCALL_RELEASE_RATE, or take more and smaller hosts"
        )
    if found.engines > 1:
        said.append(
            f"one core of the engine does not do: {found.engines} of them, or fewer and larger "
            "publications"
        )
    if load.audience < 1:
        said.append("there are more channels than subscriptions: count those that are heard")
    return said
