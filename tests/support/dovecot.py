"""A Dovecot of the tests' own: a real IMAP server on a free port, its mail in a directory that goes afterwards."""

from __future__ import annotations

import getpass
import imaplib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

PASSWORD = "of-the-tests"
START_S = 20.0


@dataclass(slots=True)
class Dovecot:
    """A running server. Every user name is taken, with `PASSWORD`; each has a mailbox of its own."""

    directory: Path
    port: int  # plain, and STARTTLS
    tls_port: int
    certificate: Path  # what its TLS is trusted by
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls) -> Dovecot:
        """In a directory that its own users can enter, and with a short name, for its sockets: neither is true of
        pytest's. Raises `OSError` or `RuntimeError` where no Dovecot can be started."""
        binary = shutil.which("dovecot") or ("/usr/sbin/dovecot" if Path("/usr/sbin/dovecot").exists() else "")
        if not binary:
            raise OSError("dovecot is not installed (Debian: dovecot-imapd)")
        version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.split()[0]
        if not version.startswith("2.3."):
            raise RuntimeError(f"Dovecot {version} reads another configuration than 2.3, which the tests write")
        directory = Path(tempfile.mkdtemp(prefix="gateway-dovecot-"))
        directory.chmod(0o755)
        port, tls_port = free_port(), free_port()
        certificate = certify(directory)
        config = directory / "dovecot.conf"
        config.write_text(_configuration(directory, port, tls_port), "utf-8")
        log = (directory / "log").open("wb")
        with log:
            process = subprocess.Popen([binary, "-F", "-c", str(config)], stdout=log, stderr=log)
        server = cls(directory, port, tls_port, certificate, process)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(OSError, imaplib.IMAP4.error):
                imaplib.IMAP4("127.0.0.1", port, 5.0).logout()
                return server
            time.sleep(0.05)
        words = (directory / "log").read_text("utf-8", "replace")[-500:]
        server.stop()
        raise RuntimeError(f"Dovecot does not start: {words}")

    def stop(self) -> None:
        """End it and all it started; its mail goes too."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Dovecot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def open(self, user: str) -> Box:
        """Look into somebody's mailbox, as their own program would."""
        client = imaplib.IMAP4("127.0.0.1", self.port, 30.0)
        client.login(user, PASSWORD)
        return Box(client)

    def kick(self, user: str) -> None:
        """Cut every connection of a user, as a restart of the server would."""
        command = [str(shutil.which("doveadm") or "/usr/bin/doveadm"), "-c", str(self.directory / "dovecot.conf")]
        subprocess.run([*command, "kick", user], capture_output=True, check=False)


@dataclass(slots=True)
class Box:
    """A mailbox, opened by a person."""

    client: imaplib.IMAP4

    def put(self, raw: bytes, folder: str = "INBOX") -> None:
        """Deliver a mail."""
        status, answer = self.client.append(folder, "", "", raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        assert status == "OK", answer

    def make(self, folder: str) -> None:
        """A new folder; one of that name is thrown away before: the new one numbers its mails anew."""
        self.client.delete(folder)
        status, answer = self.client.create(folder)
        assert status == "OK", answer

    def flags(self, folder: str = "INBOX") -> list[str]:
        """The flags of each mail."""
        self.client.select(folder, readonly=True)
        _, found = self.client.uid("FETCH", "1:*", "(FLAGS)")
        return [] if found == [None] else [item.decode().partition("FLAGS ")[2] for item in found if item]

    def close(self) -> None:
        with suppress(OSError, imaplib.IMAP4.error):
            self.client.logout()
        with suppress(OSError):
            self.client.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def certify(directory: Path) -> Path:
    """A certificate for 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dovecot of the tests")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2)).add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "key.pem").write_bytes(secret)
    (directory / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    return directory / "cert.pem"


def _configuration(directory: Path, port: int, tls_port: int) -> str:
    """Started as root, Dovecot wants its own users, and never reads mail as root; else all is done as ourselves."""
    me = getpass.getuser()
    mailer = me
    extra = f"default_internal_user = {me}\ndefault_login_user = {me}\ndefault_internal_group = {_group()}\n"
    extra += "".join(f"service {name} {{\n  chroot =\n}}\n" for name in ("anvil", "imap-login"))
    if os.geteuid() == 0:
        mailer, extra = "nobody", ""
    account = pwd.getpwnam(mailer)
    mail = directory / "mail"
    mail.mkdir()
    os.chown(mail, account.pw_uid, account.pw_gid)
    return f"""
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{directory}/cert.pem
ssl_key = <{directory}/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login
first_valid_uid = {min(account.pw_uid, 500)}
first_valid_gid = {min(account.pw_gid, 100)}
mail_max_userip_connections = 100
mail_location = maildir:{mail}/%u
{extra}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
passdb {{
  driver = static
  args = password={{PLAIN}}{PASSWORD}
}}
userdb {{
  driver = static
  args = uid={account.pw_uid} gid={account.pw_gid} home={mail}/%u
}}
namespace inbox {{
  inbox = yes
}}
"""


def _group() -> str:
    import grp

    return grp.getgrgid(os.getegid()).gr_name
