"""Where the backend is asked, by the settings, and where it is not."""

import sys

import pytest

from lastcall import Lastcall
from lastcall.backend import Backend, form_of, transport_of
from lastcall.channel_hooks import ChannelHooks
from lastcall.channel_options import ChannelOptions
from lastcall.channels import Channels
from lastcall.errors import FeatureOff, SettingsError
from lastcall.protocol.base import SessionProtocol
from lastcall.protocol.centrifuge_json import CentrifugeJson
from lastcall.protocol.centrifuge_protobuf import CentrifugeProtobuf
from lastcall.protocol.centrifuge_uni import CentrifugeUni
from lastcall.settings import Settings
from lastcall.settings_source import load_settings
from lastcall.transport.base import Framing
from lastcall.transport.framing import WEBSOCKET, deflate_framing
from lastcall.transport.stream_forms import BYTES, EVENTS, LINES, MESSAGES
from tests.fakes import RecordingOwner, RecordingTransport, connect
from tests.session_client import serving, session

URL = "http://127.0.0.1:9/"
ASKED = ChannelOptions(subscribe_proxy_enabled=True, publish_proxy_enabled=True)


def hooks(settings: Settings) -> ChannelHooks:
    hooks = ChannelHooks()
    Backend(settings).answer_for(hooks, Channels(settings))
    return hooks


def test_nobody_is_asked_who_has_no_address() -> None:
    found = hooks(Settings())

    assert (found.who, found.refresh) == (None, None)
    assert found.for_subscribe("room:a") is None
    with pytest.raises(FeatureOff):
        found.for_rpc("any")


def test_backend_is_asked_where_the_namespace_says_so() -> None:
    settings = Settings(
        proxy_connect_url=URL,
        proxy_refresh_url=URL,
        proxy_subscribe_url=URL,
        proxy_publish_url=URL,
        proxy_rpc_url=URL,
        namespaces={"room": ASKED, "hall": ChannelOptions()},
    )
    found = hooks(settings)

    assert None not in {found.who, found.refresh, found.for_rpc("any")}
    for channel in ("hall:a", "nowhere:a", "a"):
        assert found.for_subscribe(channel) is None
        assert found.for_publish(channel) is None
    assert found.for_subscribe("room:a") is not None
    assert found.for_publish("room:a") is not None


@pytest.mark.parametrize(
    ("framing", "protocol", "name", "form"),
    [
        (WEBSOCKET, CentrifugeJson(), "websocket", "json"),
        (WEBSOCKET, CentrifugeProtobuf(), "websocket", "protobuf"),
        (deflate_framing(12), CentrifugeJson(), "websocket", "json"),
        (WEBSOCKET, CentrifugeUni(), "uni_websocket", "json"),
        (EVENTS, CentrifugeJson(), "sse", "json"),
        (LINES, CentrifugeJson(), "http_stream", "json"),
        (BYTES, CentrifugeProtobuf(), "http_stream", "protobuf"),
        (LINES, CentrifugeUni(), "uni_http_stream", "json"),
        (MESSAGES, CentrifugeUni(), "uni_sse", "json"),
    ],
)
def test_backend_hears_what_a_client_speaks_and_over_what(
    framing: Framing, protocol: SessionProtocol, name: str, form: str
) -> None:
    transport = RecordingTransport(framing)
    connection, _ = connect(RecordingOwner(), transport=transport, protocol=protocol)

    assert (transport_of(connection), form_of(connection)) == (name, form)


def test_function_of_the_application_comes_first() -> None:
    namespaceless = ChannelOptions(subscribe_proxy_enabled=True)
    settings = Settings(proxy_subscribe_url=URL, proxy_rpc_url=URL, channels=namespaceless)
    found = hooks(settings)
    backends = found.for_subscribe("room"), found.for_rpc("ours")

    found.on_subscribe("room", lambda _connection, _channel: True)
    found.on_rpc("ours", lambda _connection, _data: 1)

    assert found.for_subscribe("room") is not backends[0]
    assert found.for_rpc("ours") is not backends[1]
    assert found.for_subscribe("other") == backends[0]
    assert found.for_rpc("theirs") == backends[1]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"channels": {"subscribe_proxy_enabled": True}}, "needs proxy_subscribe_url"),
        ({"namespaces": {"room": {"publish_proxy_enabled": True}}}, "needs proxy_publish_url"),
        ({"proxy_headers": "Cookie, Content-Length"}, "names of headers"),
        ({"proxy_headers": "Sec-WebSocket-Key"}, "names of headers"),
        ({"proxy_emulated_headers": "a b"}, "names of headers"),
        ({"proxy_headers": "Authorization", "proxy_authorization": "x"}, "exclude each other"),
        ({"proxy_connect_url": "ftp://host/"}, "an address such as"),
    ],
)
def test_wrong_setting_stops_the_start(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        load_settings(**wrong)


def test_asking_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)

    Backend(Settings())
    with pytest.raises(SettingsError, match=r"lastcall\[proxy\]"):
        Backend(Settings(proxy_rpc_url=URL))


@pytest.mark.usefixtures("run_dir")
def test_backend_that_is_away_is_an_error_that_passes() -> None:
    lastcall = Lastcall(proxy_connect_url=URL)
    for _ in range(2):  # the same worker may be started again
        with serving(lastcall) as client, session(client) as speaker:
            assert speaker.connect() == {
                "error": {"code": 100, "message": "internal server error", "temporary": True}
            }
