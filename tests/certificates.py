"""A certificate of our own, for servers on this machine."""

import subprocess
from pathlib import Path


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """For 127.0.0.1 and localhost, for two days: its file, and that of its key."""
    files = folder / "cert.pem", folder / "key.pem"
    options = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    options += " -addext subjectAltName=IP:127.0.0.1,DNS:localhost"
    options += f" -out {files[0]} -keyout {files[1]}"
    subprocess.run(["openssl", *options.split()], check=True, capture_output=True)  # noqa: S607  (wherever it is)
    return files
