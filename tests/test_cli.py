"""The command line as an operator types it: output, exit status, no traceback."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import jwt
import pytest

import lastcall
from tests.token_makers import SECRET

pytestmark = pytest.mark.slow

OPTIONS = """
    --host --port --workers --uds --fd --reload --reload-dir --log-level --log-config
    --access-log --proxy-headers --forwarded-allow-ips --root-path --ssl-keyfile --ssl-certfile
    --loop --http --ws --limit-concurrency --limit-max-requests --backlog --timeout-keep-alive
    --timeout-graceful-shutdown --header --factory --app-dir --env-file
"""
CHECKOUT = Path(__file__).parent.parent


def run(*arguments: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTCALL_")}
    return subprocess.run(
        [sys.executable, "-m", "lastcall", *arguments],
        cwd=directory,
        env=clean | {"PYTHONPATH": str(CHECKOUT), "NO_COLOR": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_check_settings_shows_value_and_origin(tmp_path: Path) -> None:
    (tmp_path / "lastcall.toml").write_text("max_backlog = 2048")
    ended = run("check-settings", directory=tmp_path, LASTCALL_API_KEY="hunter2")

    assert ended.returncode == 0
    assert "max_backlog in lastcall.toml" in ended.stdout
    assert "hunter2" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(("face", "interval"), [("--server", 10), ("--library", 0)])
def test_check_settings_as_json(face: str, interval: float, tmp_path: Path) -> None:
    ended = run("check-settings", face, "--json", directory=tmp_path)
    values = {row["setting"]: row["value"] for row in json.loads(ended.stdout)}

    assert ended.returncode == 0
    assert values["LASTCALL_HEARTBEAT_INTERVAL"] == interval


def test_check_settings_of_a_wrong_value_says_so_with_status_3(tmp_path: Path) -> None:
    ended = run("check-settings", directory=tmp_path, LASTCALL_HANDOVER="on")

    assert ended.returncode == 3
    assert ended.stdout == ""
    assert ended.stderr == "lastcall: LASTCALL_HANDOVER is 'on', but must be auto or off\n"


def test_check_settings_warns_of_an_unknown_variable(tmp_path: Path) -> None:
    ended = run("check-settings", directory=tmp_path, LASTCALL_HANDOFF="off")

    assert ended.returncode == 0
    assert "did you mean LASTCALL_HANDOVER?" in ended.stderr


def test_version(tmp_path: Path) -> None:
    ended = run("version", directory=tmp_path)

    assert ended.returncode == 0
    assert ended.stdout.startswith(f"lastcall {lastcall.__version__}, uvicorn ")


def test_serve_has_uvicorns_options_by_their_names(tmp_path: Path) -> None:
    ended = run("serve", "--help", directory=tmp_path)

    assert ended.returncode == 0
    for option in OPTIONS.split():
        assert option in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--bogus"], {}, "--bogus"),
        (["--workers", "0"], {}, "x>=1"),
        (["--workers", "four"], {}, "'four' is not a valid integer"),
        (["--header", "no-colon"], {}, "'no-colon' is not a Name:Value pair"),
        (["--ssl-certfile", "gone.pem"], {}, "'gone.pem' does not exist"),
        ([], {"WEB_CONCURRENCY": "four"}, "'four' is not a number of workers, 1 or more"),
    ],
)
def test_serve_says_which_option_is_wrong(
    arguments: list[str], environment: dict[str, str], words: str, tmp_path: Path
) -> None:
    ended = run("serve", "app:app", *arguments, directory=tmp_path, **environment)

    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_serve_says_what_uvicorn_does_not_accept(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text("{}")
    ended = run("serve", "app:app", "--log-config", "log.json", directory=tmp_path)

    assert ended.returncode == 3
    assert ended.stderr.startswith("lastcall: uvicorn does not accept the options: ")
    assert ended.stderr.count("\n") == 1


def test_serve_checks_the_settings_before_any_worker_starts(tmp_path: Path) -> None:
    ended = run(
        "serve", "--workers", "2", "--port", "0", directory=tmp_path, LASTCALL_HANDOVER="on"
    )

    assert ended.returncode == 3
    assert ended.stderr == "lastcall: LASTCALL_HANDOVER is 'on', but must be auto or off\n"


def test_application_that_does_not_exist(tmp_path: Path) -> None:
    ended = run("serve", "gone:app", "--port", "0", directory=tmp_path)

    assert ended.returncode == 3
    assert 'Could not import module "gone"' in ended.stderr
    assert "Traceback" not in ended.stderr


def test_token_is_made_with_the_secret_of_the_settings(tmp_path: Path) -> None:
    ended = run(
        *("token", "--user", "42", "--channel", "news", "--ttl", "7d", "--info", '{"name": "Al"}'),
        directory=tmp_path,
        LASTCALL_TOKEN_SECRET=SECRET,
        LASTCALL_TOKEN_AUDIENCE="chat",  # noqa: S106  (no secret)
        LASTCALL_TOKEN_ISSUER="shop",  # noqa: S106  (no secret)
    )
    claims = jwt.decode(ended.stdout.strip(), SECRET, ["HS256"], audience="chat", issuer="shop")

    assert ended.returncode == 0
    assert ended.stdout.count("\n") == 1
    assert claims["exp"] - claims["iat"] == 7 * 86_400
    assert len(claims["jti"]) >= 16
    assert {name: claims[name] for name in ("sub", "channel", "info")} == {
        "sub": "42",
        "channel": "news",
        "info": {"name": "Al"},
    }


def test_token_is_for_a_connection_and_an_hour_unless_asked_otherwise(tmp_path: Path) -> None:
    an_hour = run("token", "--user", "42", directory=tmp_path, LASTCALL_TOKEN_SECRET=SECRET)
    for_ever = run(
        "token", "--user", "", "--ttl", "0", directory=tmp_path, LASTCALL_TOKEN_SECRET=SECRET
    )
    claims = [jwt.decode(it.stdout.strip(), SECRET, ["HS256"]) for it in (an_hour, for_ever)]

    assert claims[0]["exp"] - claims[0]["iat"] == 3600
    assert claims[0].keys() == {"sub", "iat", "jti", "exp"}
    assert claims[1].keys() == {"sub", "iat", "jti"}


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("--ttl", "soon", "must be seconds"), ("--info", "{Al}", "must be JSON")],
)
def test_token_says_what_is_wrong_with_an_option(
    option: str, value: str, words: str, tmp_path: Path
) -> None:
    ended = run(
        "token", "--user", "42", option, value, directory=tmp_path, LASTCALL_TOKEN_SECRET=SECRET
    )

    assert ended.returncode == 2
    assert words in ended.stderr
    assert SECRET not in ended.stderr


def test_token_without_a_secret_says_so_with_status_3(tmp_path: Path) -> None:
    ended = run("token", "--user", "42", directory=tmp_path)

    assert ended.returncode == 3
    assert ended.stderr == (
        "lastcall: LASTCALL_TOKEN_SECRET is unset, so there is nothing to sign a token with\n"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("channels",), 1, "nothing answers at http://127.0.0.1:1/api/channels: "),
        (("publish", "news", "nonsense"), 2, "must be JSON"),
    ],
)
def test_command_that_cannot_reach_a_server_says_why(
    tmp_path: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    ended = run(
        *arguments, "--url", "http://127.0.0.1:1/api", directory=tmp_path, LASTCALL_API_KEY="k"
    )

    assert ended.returncode == status
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_command_without_a_key_says_so(tmp_path: Path) -> None:
    ended = run("disconnect", "42", directory=tmp_path)

    assert ended.returncode == 3
    assert ended.stderr == "lastcall: LASTCALL_API_KEY is unset, and the server API wants a key\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "answers 302 Found"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "is no server API of ours"),
        ("nonsense", "nothing answers at"),
    ],
)
def test_answer_of_a_stranger_is_no_traceback(tmp_path: Path, answer: str, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                while b"{" not in peer.recv(65_536):
                    pass
                peer.sendall(answer.encode())

        thread = threading.Thread(target=serve)
        thread.start()
        ended = run("channels", "--url", url, directory=tmp_path, LASTCALL_API_KEY="k")
        thread.join(10)

    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
