"""Real proxies in front of our servers, with the configurations that `deploy/` has for users."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.server_process import START_TIMEOUT, wait_until

DEPLOY = Path(__file__).parent.parent / "deploy"

_NGINX = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/lastcall.conf;
}}
"""


@contextmanager
def run_nginx(directory: Path, ports: tuple[int, int]) -> Iterator[int]:
    """Run `deploy/nginx.conf` in front of the servers at *ports*; give its own port."""
    port = free_port()
    site = (DEPLOY / "nginx.conf").read_text()
    site = at_ports(site, ports).replace("listen 80;", f"listen 127.0.0.1:{port};")
    (directory / "lastcall.conf").write_text(site)
    main = directory / "nginx.conf"
    main.write_text(_NGINX.format(directory=directory))
    with running("nginx", "-p", str(directory), "-c", str(main), "-e", "stderr", port=port):
        yield port


@contextmanager
def run_nginx_for_hosts(directory: Path, ports: Sequence[int]) -> Iterator[int]:
    """Run `deploy/nginx-hosts.conf` in front of the hosts at *ports*; give its own port."""
    port = free_port()
    site = (DEPLOY / "nginx-hosts.conf").read_text()
    assert "listen 80;" in site
    servers = "".join(f"server 127.0.0.1:{p} max_fails=1 fail_timeout=2s; " for p in ports)
    upstream = f"upstream lastcall {{ zone lastcall 128k; least_conn; {servers}keepalive 16; }}\n"
    (directory / "lastcall.conf").write_text(
        upstream + site.replace("listen 80;", f"listen 127.0.0.1:{port};")
    )
    main = directory / "nginx.conf"
    main.write_text(_NGINX.format(directory=directory))
    with running("nginx", "-p", str(directory), "-c", str(main), "-e", "stderr", port=port):
        yield port


@contextmanager
def run_haproxy(directory: Path, ports: tuple[int, int]) -> Iterator[int]:
    """Run `deploy/haproxy.cfg` in front of the servers at *ports*; give its own port."""
    port = free_port()
    site = (DEPLOY / "haproxy.cfg").read_text()
    site = at_ports(site, ports).replace("bind :80", f"bind 127.0.0.1:{port}")
    path = directory / "haproxy.cfg"
    path.write_text(site)
    with running("haproxy", "-f", str(path), "-db", port=port):
        yield port


def at_ports(site: str, ports: tuple[int, int]) -> str:
    """The configuration with other ports than a user's."""
    for written, real in zip((8000, 8001), ports, strict=True):
        name = f"127.0.0.1:{written}"
        assert name in site
        site = site.replace(name, f"127.0.0.1:{real}")
    return site


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(*command: str, port: int) -> Iterator[None]:
    """Run a proxy from when it listens to the end of the block."""
    with subprocess.Popen(command) as process:

        def listens() -> bool:
            assert process.poll() is None, f"{command[0]} ended with status {process.returncode}"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        try:
            wait_until(listens, START_TIMEOUT)
            yield
        finally:
            process.terminate()
            process.wait(10)
