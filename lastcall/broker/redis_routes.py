"""How questions find the server of a cluster that answers them, each channel's in their order.

All questions of a slot go to the server that owns it, one behind the other. What happens when it
does not own it any more, or not yet, is a `Detour`.
"""

import asyncio
from operator import attrgetter

from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError, TryAgainError

from lastcall.broker.heard_channels import ANSWER_SECONDS
from lastcall.broker.redis_address import Place
from lastcall.broker.redis_detour import Detour
from lastcall.broker.redis_node import RedisNode
from lastcall.broker.redis_question import Question
from lastcall.broker.redis_shards import Shards
from lastcall.broker.redis_slots import slot_of

PAUSE_SECONDS = 0.02
"""Before a question is asked again where it was refused."""
SLOTS_A_PAUSE = 100
"""That are asked for again at so short a time; of more each waits longer."""
OVERTAKEN = "Redis refused it while a slot moved, and has done what was asked after it"


class Routes:
    """Asks the owner of each question's slot, or waits until there is one."""

    def __init__(self, shards: Shards) -> None:
        """Ask these servers."""
        self._shards = shards
        self._under_way: dict[int, tuple[RedisNode, int]] = {}
        """Of each slot: who is asked at present, and how many questions."""
        self._detours: dict[int, Detour[Question]] = {}
        self._pause: asyncio.TimerHandle | None = None

    def put(self, question: Question) -> None:
        """Ask; a plain call, so that the order of calls is the order of a channel's answers."""
        if question.slot < 0:
            question.slot = slot_of(question.key)
        slot = question.slot
        detour = self._detours.get(slot)
        if detour is not None:
            detour.put(question)
            return
        owner = self._shards.owner(slot)
        asked, number = self._under_way.get(slot, (owner, 0))
        if owner is None or asked is not owner:
            # It moves: what the other has been asked comes first.
            self._detour(slot).put(question)
            self._go_on(slot)
            return
        self._under_way[slot] = (owner, number + 1)
        owner.put(question)

    def is_passed_on(self, place: Place, question: Question, refusal: ResponseError) -> bool:
        """Whether a question that was refused at *place* is taken, to be asked again."""
        if question.slot < 0 or question.until <= asyncio.get_running_loop().time():
            return False
        aside: Place | None = None
        match refusal:
            case MovedError():
                self._shards.moved(question.slot, (refusal.host or place[0], refusal.port))
            case AskError():
                aside = (refusal.host or place[0], refusal.port)
            case ClusterDownError():
                self._shards.look_again()
            case TryAgainError():
                pass
            case _:
                return False
        detour = self._detour(question.slot)
        detour.refused(question, aside)
        # Servers may send us to and fro until all of them have heard where the slot is.
        if aside is not None or (isinstance(refusal, MovedError) and not detour.has_asked):
            self._go_on(question.slot)
        else:
            self._go_on_soon()
        return True

    def settled(self, question: Question) -> None:
        """A question was answered, or nobody knows what became of it."""
        slot = question.slot
        detour = self._detours.get(slot)
        if detour is None:
            self._count_out(slot)
            return
        for overtaken in detour.answered(question):
            overtaken.fail(OVERTAKEN)
        self._go_on(slot)

    def reroute(self) -> None:
        """Find the way again for what has not left yet: the map has changed."""
        taken = [
            question for node in self._shards.nodes.values() for question in node.line.take_back()
        ]
        again = []
        for question in reversed(taken):
            if detour := self._detours.get(question.slot):
                detour.returned(question)
            else:
                self._count_out(question.slot)
                again.append(question)
        for question in reversed(again):
            self.put(question)
        self.go_on()

    def go_on(self) -> None:
        """Ask what waits, where it can be asked now."""
        for slot in list(self._detours):
            self._go_on(slot)

    def expire(self, now: float) -> None:
        """Fail what has waited too long."""
        for slot, detour in list(self._detours.items()):
            for question in detour.expired(lambda question: question.until <= now):
                question.fail("no server of the cluster answers for it")
            self._go_on(slot)

    def close(self, reason: str) -> None:
        """Fail all that waits."""
        detours, self._detours = self._detours, {}
        for detour in detours.values():
            for question in detour.rest():
                question.fail(reason)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _detour(self, slot: int) -> Detour[Question]:
        detour = self._detours.get(slot)
        if detour is None:
            _, number = self._under_way.pop(slot, (None, 0))
            detour = self._detours[slot] = Detour(attrgetter("key"), number)
        return detour

    def _go_on(self, slot: int) -> None:
        detour = self._detours[slot]
        if detour.is_over:
            del self._detours[slot]
            for question in detour.rest():
                self.put(question)
            return
        for question, aside in detour.round():
            node = self._shards.nodes.get(aside) if aside else self._shards.owner(slot)
            if node is None:
                detour.returned(question)
                self._need(aside)
                self._go_on_soon()
            else:
                question.is_aside = aside is not None
                node.put(question)

    def _need(self, aside: Place | None) -> None:
        if aside is None:
            self._shards.look_again()
        else:
            self._shards.need(aside, asyncio.get_running_loop().time() + ANSWER_SECONDS)

    def _go_on_soon(self) -> None:
        if self._pause is None:
            pause = PAUSE_SECONDS * (1 + len(self._detours) / SLOTS_A_PAUSE)
            self._pause = asyncio.get_running_loop().call_later(pause, self._pause_is_over)

    def _pause_is_over(self) -> None:
        self._pause = None
        self.go_on()

    def _count_out(self, slot: int) -> None:
        asked = self._under_way.get(slot)
        if asked is not None:
            node, number = asked
            if number > 1:
                self._under_way[slot] = (node, number - 1)
            else:
                del self._under_way[slot]
