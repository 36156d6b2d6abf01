"""Namespaces whose clients want the latest only: what the official SDKs get of them."""

import pytest

from tests.sdk.python_client import python_sdk
from tests.sdk.server import OWN, SDKS, SETTINGS, token, url_of
from tests.sdk.story import Sdk
from tests.server_process import run_server

pytestmark = [pytest.mark.anyio, pytest.mark.whole]

QUOTE = "quote:a"


@SDKS
async def test_sdk_that_comes_back_hears_the_latest_and_goes_on(sdk: Sdk) -> None:
    with run_server(command=OWN, workers=2, **SETTINGS) as server:
        url = url_of(server)
        async with sdk(url, token=token()) as client, python_sdk(url, token=token()) as speaker:
            for each in (client, speaker):
                await each.connect()
                await each.story.next("connected")
            await client.subscribe(QUOTE)
            await client.story.next("subscribed", QUOTE)
            await speaker.publish(QUOTE, 0)
            await client.story.next("publication", QUOTE)

            await client.disconnect()
            await client.story.next("disconnected")
            for price in range(1, 6):
                await speaker.publish(QUOTE, price)
            await client.connect()
            again = await client.story.next("subscribed", QUOTE)
            assert (again["was_recovering"], again["recovered"]) == (True, True)
            await speaker.publish(QUOTE, 6)
            heard = [await client.story.next("publication", QUOTE) for _ in range(2)]
            assert [(each["data"], each["offset"]) for each in heard] == [(5, 6), (6, 7)]

            # It has heard the latest: nothing comes twice.
            await client.disconnect()
            await client.connect()
            assert (await client.story.next("subscribed", QUOTE))["recovered"]
            await speaker.publish(QUOTE, 7)
            assert (await client.story.next("publication", QUOTE))["data"] == 7
