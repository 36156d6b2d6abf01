"""How `broker.nats` finds its server, is let in, and says why not."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import nats as nats_py
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lastcall.broker.base import HistoryLimits
from lastcall.broker.nats import NatsBroker
from lastcall.errors import SettingsError
from tests.nats_process import NatsProcess, needs_nats, run_nats
from tests.test_broker import RecordingEvents, running

pytestmark = [pytest.mark.anyio, needs_nats]

LIMITS = HistoryLimits(size=5000, ttl=600)


@pytest.fixture
def nats() -> Iterator[NatsProcess]:
    with run_nats() as server:
        yield server


async def is_away(broker: NatsBroker, caplog: pytest.LogCaptureFixture, why: str) -> None:
    """Run *broker* until it says why it cannot carry anything."""
    events = RecordingEvents()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tasks.start, broker.run, events)
            while why not in caplog.text:  # noqa: ASYNC110  (nobody tells a test)
                await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()
    assert events.availability == []


async def test_wrong_password_is_told_and_hidden(caplog: pytest.LogCaptureFixture) -> None:
    with run_nats("authorization { user: lastcall, password: right }") as nats:
        broker = NatsBroker(nats.url.replace("//", "//lastcall:hunter2@"), LIMITS)
        await is_away(broker, caplog, "Authorization Violation")
        assert "hunter2" not in caplog.text + broker.name
        url = nats.url.replace("//", "//lastcall:right@")
        async with running(NatsBroker(url, LIMITS)) as (worker,):
            assert (await worker.broker.publish("news", b"")).offset == 1


async def test_a_nats_without_jetstream_is_told(
    nats: NatsProcess, caplog: pytest.LogCaptureFixture
) -> None:
    await anyio.to_thread.run_sync(nats.kill)
    nats.has_jetstream = False
    await anyio.to_thread.run_sync(nats.start)
    await is_away(NatsBroker(nats.url, LIMITS), caplog, "JetStream is off")


async def test_replicas_of_an_older_nats_are_refused(
    nats: NatsProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """Two who append at the same time could both be told that they were first."""
    client = await nats_py.connect(nats.url)
    version = client.connected_server_version
    await client.close()
    if (version.major, version.minor, version.patch) >= (2, 9, 21):
        pytest.skip("this NATS is new enough")
    await is_away(
        NatsBroker(f"{nats.url}?replicas=3", LIMITS), caplog, "needs NATS 2.9.21 or newer"
    )


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_what_is_encrypted_is_carried_and_strangers_are_not_trusted(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = self_signed(tmp_path)
    with run_nats(f"tls {{ cert_file: {certificate}, key_file: {key} }}") as nats:
        url = f"{scheme}://localhost:{nats.port}"
        await is_away(NatsBroker(url, LIMITS), caplog, "certificate verify failed")

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with running(NatsBroker(url, LIMITS)) as (worker,):
            assert (await worker.broker.publish("news", bytes(100_000))).offset == 1


async def test_a_server_without_encryption_is_left_where_it_is_insisted_on(
    nats: NatsProcess, caplog: pytest.LogCaptureFixture
) -> None:
    url = nats.url.replace("nats:", "tls:")
    await is_away(NatsBroker(url, LIMITS), caplog, "NATS is away")


def self_signed(directory: Path) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = directory / "certificate.pem", directory / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_path, key_path


async def test_servers_are_tried_in_turn(nats: NatsProcess) -> None:
    url = nats.url.replace("127", "127.0.0.1:1,127")
    async with running(NatsBroker(url, LIMITS)) as (worker,):
        assert (await worker.broker.publish("news", b"")).offset == 1


@pytest.mark.parametrize(
    "url",
    [
        "nats://host:port",
        "nats://",
        "nats://a,,b",
        "nats://host/path",
        "nats://host?replicas=9",
        "nats://host?replicas=x",
        "nats://host?what=ever",
    ],
)
def test_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="LASTCALL_BROKER_URL"):
        NatsBroker(url, LIMITS)
