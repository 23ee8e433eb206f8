"""A Redis of the tests' own: nothing kept on disk, killed, halted and started again at will."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from tests.support.dovecot import certify, free_port

START_S = 15.0
PASSWORD = "canaryOfRedis"  # in its address only


@dataclass(slots=True)
class RedisServer:
    """A running `redis-server`; its port stays the same when it is started again."""

    binary: str
    directory: Path
    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    certificate: Path = field(init=False)
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls) -> RedisServer:
        """Raises `OSError` or `RuntimeError` where none can be started."""
        binary = shutil.which("redis-server") or ""
        if not binary:
            raise OSError("redis-server is not installed (Debian: redis-server)")
        server = cls(binary, Path(tempfile.mkdtemp(prefix="gateway-redis-")))
        server.certificate = certify(server.directory)
        try:
            server.begin()
        except BaseException:
            server.stop()
            raise
        return server

    @property
    def url(self) -> str:
        """By TCP, with the password."""
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    @property
    def addresses(self) -> dict[str, str]:
        """The same Redis, by each way."""
        return {
            "tcp": self.url,
            "tls": f"rediss://:{PASSWORD}@127.0.0.1:{self.tls_port}/0?ssl_ca_certs={self.certificate}",
            "socket": f"unix://:{PASSWORD}@{self.directory}/socket?db=0",
        }

    def begin(self) -> None:
        """Start it; it knows what `save` wrote, and else nothing."""
        here = str(self.directory)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                 "--dir", here, "--unixsocket", f"{here}/socket", "--requirepass", PASSWORD,
                 "--tls-port", str(self.tls_port), "--tls-cert-file", f"{here}/cert.pem", "--tls-key-file",
                 f"{here}/key.pem", "--tls-ca-cert-file", f"{here}/cert.pem", "--tls-auth-clients", "no"],
                stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(redis.RedisError):
                self.do("PING")
                return
            time.sleep(0.02)
        words = (self.directory / "log").read_text("utf-8", "replace")[-500:]
        raise RuntimeError(f"Redis does not start: {words}")

    def do(self, *command: str | int) -> Any:
        """One command, by somebody else."""
        with redis.Redis.from_url(self.url, protocol=2) as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        """End it as a crash would; what was not saved is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def halt(self) -> None:
        """It no longer answers, and no connection breaks."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """The end of `halt`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it; its files go too."""
        if self.process is not None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
