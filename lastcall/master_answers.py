"""What a master answers to `lastcall status`, and does for `reload`, `scale` and `stop`."""

import os
import platform
import signal
import time

from lastcall import __version__
from lastcall.control_socket import Answer, Request
from lastcall.deploy import Deploy
from lastcall.server_status import DeployStatus, MasterStatus
from lastcall.succession import Succession
from lastcall.worker_process import WorkerProcess
from lastcall.worker_status import WorkerStatus
from lastcall.workforce import Workforce


class MasterAnswers:
    """Answers for one *workforce*; all that it changes is done by the supervisor's next step."""

    def __init__(self, workforce: Workforce, succession: Succession, address: str) -> None:
        """Speak for the server at *address*."""
        self._workforce = workforce
        self._succession = succession
        self._address = address
        self._started_at = time.monotonic()

    def __call__(self, request: Request) -> Answer:
        """Answer at once."""
        workforce, now = self._workforce, time.monotonic()
        if request.command == "status":
            return Answer(status=self._status(now))
        if request.command == "stop":
            # The same way as for everybody else who asks for it.
            signal.raise_signal(signal.SIGTERM)
            return Answer()
        if workforce.is_stopping:
            return Answer(error="the server is stopping")
        return self._change(request, now)

    def _change(self, request: Request, now: float) -> Answer:
        upgrade = self._succession.under_way
        if upgrade is not None and request.command != "upgrade":
            return Answer(error=f"{upgrade.title} is under way: ask when it is over")
        if request.command == "reload":
            return Answer(deploy=self._workforce.replacements.want_reload())
        if request.command == "upgrade":
            return Answer(deploy=self._succession.want())
        if request.command == "scale" and request.workers is not None and request.workers > 0:
            self._workforce.scale(request.workers, now)
            return Answer()
        return Answer(error=f"this master cannot do that: {request.command}")

    def _status(self, now: float) -> MasterStatus:
        workforce = self._workforce
        places = {id(place.worker): place.number for place in workforce.places if place.worker}
        return MasterStatus(
            pid=os.getpid(),
            version=__version__,
            python=platform.python_version(),
            address=self._address,
            uptime=now - self._started_at,
            size=len(workforce.places),
            generation=workforce.replacements.generation,
            stopping=workforce.is_stopping,
            workers=[
                _worker(worker, places.get(id(worker)), now)
                for worker in workforce.workers
                if worker.status is None
            ],
            deploys=[_deploy(deploy) for deploy in workforce.replacements.deploys],
        )


def _worker(worker: WorkerProcess, place: int | None, now: float) -> WorkerStatus:
    state = "ready" if worker.ready else "starting"
    return WorkerStatus(
        pid=worker.pid,
        state="retiring" if worker.retiring else state,
        place=place,
        generation=worker.generation,
        uptime=now - worker.started_at,
    )


def _deploy(deploy: Deploy) -> DeployStatus:
    return DeployStatus(
        number=deploy.number,
        kind=deploy.kind,
        generation=deploy.generation,
        began=deploy.began,
        phase=deploy.phase,
        reason=deploy.reason,
        ready_after=deploy.ready_after,
        took=deploy.took,
        retired=deploy.retired,
        retiring=sorted(deploy.retiring),
        replaced=deploy.replaced,
    )
