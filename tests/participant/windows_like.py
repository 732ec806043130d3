"""The agent's files where there is no POSIX, as far as another system than Windows can be made to look like it.

windows_like.py FOLDER: what Windows lacks is taken away, and what it has instead put in its place, before anything of
ours is imported; then a site's files are made, locked, written and read again.
"""

from __future__ import annotations

import fcntl
import os
import sys
import types
from pathlib import Path
from typing import Any

# Libraries know Windows by themselves: they are loaded as here, and ours, that load them, once more later.
import participant.agent
import participant.doctor.keys
import participant.setup  # noqa: F401

OURS = ("participant", "models", "crypto")
FOLDER = Path(sys.argv[1])
LACKING = (
    "fchmod", "fchown", "chown", "getuid", "geteuid", "getgid", "pread", "pwrite", "sched_getaffinity", "fork", "nice",
    "mkfifo", "statvfs", "sync", "fdatasync", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "getloadavg",
)  # fmt: skip


def become_windows() -> None:
    """Ours are imported anew after this."""
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    for name in LACKING:
        if hasattr(os, name):
            delattr(os, name)
    sys.modules.update(dict.fromkeys(("fcntl", "pwd", "grp", "resource", "termios")))  # type: ignore[arg-type]
    sys.modules["msvcrt"] = msvcrt()
    real_open = os.open

    def without_folders(path: Any, *arguments: Any, **named: Any) -> int:
        if os.path.isdir(path):  # noqa: PTH112 - as the system does, whatever it is given
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *arguments, **named)

    os.open = without_folders
    os.O_BINARY = 0  # type: ignore[attr-defined]
    sys.platform = "win32"


def msvcrt() -> types.ModuleType:
    """Its locks: of a region that begins at the file's position, mandatory there, advisory here."""
    made = types.ModuleType("msvcrt")
    made.LK_LOCK, made.LK_NBLCK = 1, 2  # type: ignore[attr-defined]

    def locking(descriptor: int, mode: int, octets: int) -> None:
        assert os.lseek(descriptor, 0, os.SEEK_CUR) > os.fstat(descriptor).st_size, "nobody else could read the file"
        fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if mode == 2 else 0))
        assert octets == 1

    made.locking = locking  # type: ignore[attr-defined]
    return made


def work() -> None:
    from crypto.identity import Identity
    from participant import logs, setup
    from participant.agent import only_one
    from participant.doctor import keys
    from participant.files import write_whole
    from participant.keys import Keyring
    from participant.ledger import Ledger
    from participant.model_store import ModelStore
    from participant.opened import OpenedStore
    from participant.policy import Refused
    from participant.record import Record
    from participant.sealed import SealedStore
    from participant.settings import Config, Home

    home = Home(FOLDER / "Krankenhaus Süd" / "pleura home")
    identity = setup.make_home(home, Config(name="süd", coordinator="http://127.0.0.1:9", data=str(FOLDER)), "ask")
    home.identity.chmod(0o666)  # as Windows tells of any file that may be written
    assert Identity.load(home.identity).public == identity.public
    assert home.load_config().name == "süd"
    write_whole(home.config, home.config.read_bytes())

    def start() -> str:
        try:
            with only_one(home.lock):
                return "runs"
        except Refused as refused:
            return refused.code

    with only_one(home.lock):
        assert start() == "already-running"
    assert start() == "runs"
    ledger = Ledger(home.ledger)
    for number in range(3):
        ledger.append("sent", number=number)
    with home.ledger.open("ab") as file:
        file.write(b'{"torn')
    ledger.append("sent", number=3)
    assert ledger.verify() == 5, "four lines, and one about the torn one"
    assert len(ledger.head()) == 64
    record = Record(home.record, fresh=True)
    SealedStore(home.sealed, home.residuals, record, home.local_state)
    record.close()
    for make, folder in ((Keyring, home.keys), (ModelStore, home.models), (OpenedStore, home.opened)):
        make(folder)
    logs.keep(home.log)
    (finding,) = keys.identity(home)
    assert "Windows" in finding.words


if __name__ == "__main__":
    become_windows()
    work()
    print("all of it works")
