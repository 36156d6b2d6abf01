"""What `lastcall status --all` shows: the workers of every host, asked over their broker."""

import anyio
import msgspec

from lastcall.broker.base import Broker
from lastcall.channels import ChannelRetention
from lastcall.neighbourhood import broker_of_hosts
from lastcall.outsider import Answers, Outsider
from lastcall.process_identity import ProcessIdentity
from lastcall.server_status import ServerStatus, as_text
from lastcall.settings import Settings
from lastcall.settings_source import cannot_start, settings_or_exit
from lastcall.worker_status import StatusAnswer


class AllHosts(msgspec.Struct, kw_only=True):
    """Every server of one broker, by host."""

    servers: list[ServerStatus]
    silent: list[str]
    """Workers that others know and that did not answer in time, by their names."""

    def as_text(self) -> str:
        """For people."""
        hosts = {server.host for server in self.servers}
        workers = [worker for server in self.servers for worker in server.workers]
        connections = sum(worker.connections or 0 for worker in workers)
        lines = [as_text(self.servers)]
        lines += [f"no answer from {name}\n" for name in self.silent]
        lines.append(
            f"hosts: {len(hosts)}, servers: {len(self.servers)}, workers: {len(workers)}, "
            f"connections: {connections}\n"
        )
        return "\n".join(lines)


def all_hosts() -> AllHosts:
    """Ask every worker of the server that the settings of this process are of.

    Raises:
        BrokerUnavailable: nobody could be asked.
        SettingsError: what speaks to the broker cannot be used.
        SystemExit: with status 3, after one sentence, if no broker of several hosts is set.
    """
    settings = settings_or_exit(Settings)
    if "//" not in settings.broker_url:
        cannot_start("LASTCALL_BROKER_URL names nothing that several hosts could share")
    broker, _ = broker_of_hosts(settings, ChannelRetention(settings))
    return anyio.run(ask_all, broker)


async def ask_all(broker: Broker) -> AllHosts:
    """Ask every worker that hears *broker*; nobody there is no error.

    Raises:
        BrokerUnavailable: nobody could be asked.
    """
    answers = await Outsider(broker).ask(StatusAnswer.QUESTION, _is_complete)
    servers: dict[tuple[str, str], ServerStatus] = {}
    for name, answer in sorted(_read(answers).items()):
        # Machines may have the same host name; their part of the workers' names is their own.
        key = (name.partition("/")[0], answer.master or name)
        server = servers.setdefault(key, _server(answer))
        server.workers.append(answer.worker)
    for server in servers.values():
        server.workers.sort(key=lambda worker: worker.pid)
    return AllHosts(
        servers=sorted(servers.values(), key=lambda server: (server.host, server.master or 0)),
        silent=sorted(_missing(answers)),
    )


def _missing(answers: Answers) -> set[str]:
    """Who is known to the others and has not answered."""
    read = _read(answers)
    return {name for answer in read.values() for name in answer.knows} - {*read}


def _is_complete(answers: Answers) -> bool:
    return bool(_read(answers)) and not _missing(answers)


def _read(answers: Answers) -> dict[str, StatusAnswer]:
    """What was answered, but by workers of a release that has no answer."""
    return {
        name: msgspec.json.decode(body, type=StatusAnswer) for name, body in answers.items() if body
    }


def _server(answer: StatusAnswer) -> ServerStatus:
    master = ProcessIdentity.parse(answer.master).pid if answer.master else None
    return ServerStatus(directory="", master=master, supervisor=None, workers=[], host=answer.host)
