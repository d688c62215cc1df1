"""First stage of a zygote: makes its namespaces and its small read-only world, then becomes (or waits for) the zygote.

Run as a script by `filters.sandbox.supervisor` with one argument, a JSON plan:
`{"namespaces": bool, "control": fd, "prefixes": [paths], "code": folder of these files, "python": executable, "stack": bytes, "core":
number or null, "zygote": {…}}`.
With namespaces: user (only as an ordinary user), mount, pid, net, ipc, uts; the new root is a tmpfs that holds the interpreter read-only, four
devices and a small writable folder, no /proc and no /sys. The zygote is pid 1 there, so whatever runs with it dies with it.
Standard library only; nothing in process imports it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from typing import Any

DEVICES = ("null", "zero", "urandom", "random")
BOX, CODE = "/box", "/synth-sandbox"  # the one writable folder; these files, inside
# Not as a script: that would be compiled in the zygote, which stays larger for it; an imported module has been compiled before, where it can be.
START = "import sys; sys.path.insert(0, sys.argv[2]); import zygote; zygote.main(sys.argv[1])"
SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/etc/ld.so.cache", "/etc/localtime")


def make_world(prefixes: list[str], code: str, tmp_bytes: int) -> None:
    """Pivots into a fresh root. Needs CAP_SYS_ADMIN in this mount namespace."""
    import kernel

    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    base = "/tmp"
    kernel.mount("tmpfs", base, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755,size=1m")
    for name in ("new", "old"):
        os.mkdir(f"{base}/{name}")
    kernel.mount(f"{base}/new", f"{base}/new", None, kernel.MS_BIND)
    kernel.enter_root(base, f"{base}/old")
    for path in dict.fromkeys((*SYSTEM, *prefixes)):
        show_read_only(path, path)
    show_read_only(code, CODE)
    os.makedirs("/new/dev", exist_ok=True)
    for name in DEVICES:
        os.close(os.open(f"/new/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o644))
        kernel.mount(f"/old/dev/{name}", f"/new/dev/{name}", None, kernel.MS_BIND)
    os.mkdir(f"/new{BOX}")
    if not os.path.lexists("/new/tmp"):  # an interpreter below /tmp keeps its place
        os.symlink(BOX, "/new/tmp")
    kernel.unmount("/old")
    kernel.mount("tmpfs", f"/new{BOX}", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode=1777,size={tmp_bytes},nr_inodes=4096")
    os.chdir("/new")
    kernel.enter_root("/new", f"/new{BOX}")
    kernel.unmount(BOX)  # the first pivot's root, stacked over ours
    os.chdir(BOX)


def show_read_only(path: str, shown: str) -> None:
    """Bind the host's `path` as `shown`; a symbolic link is made anew, what does not exist is left out."""
    import kernel

    source, target = f"/old{path}", f"/new{shown}"
    if os.path.lexists(target):
        return
    if os.path.islink(source):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(source), target)
    elif os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
        kernel.bind_read_only(source, target)
    elif os.path.exists(source):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        kernel.bind_read_only(source, target)


def enter_namespaces() -> None:
    import kernel

    flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
    if os.geteuid() == 0:
        try:
            kernel.unshare(flags)
            return
        except PermissionError:
            pass  # root without CAP_SYS_ADMIN (a container): like an ordinary user
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(flags | kernel.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {uid} 1"), ("gid_map", f"65534 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def become_zygote(plan: dict[str, Any], code: str) -> None:
    arguments = [plan["python"], "-P", "-s", "-S", "-B", "-c", START, json.dumps(plan["zygote"]), code]
    environment = {"PYTHONHASHSEED": "0", "PYTHONIOENCODING": "utf-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/tmp", "PATH": "/usr/bin:/bin"}
    environment |= {"LD_BIND_NOW": "1"}  # nothing is left to be bound in every job anew
    if code == CODE:
        environment |= {"HOME": BOX, "TMPDIR": BOX}
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    stack = plan["stack"] if hard == resource.RLIM_INFINITY else min(plan["stack"], hard)
    resource.setrlimit(resource.RLIMIT_STACK, (stack, hard))
    os.set_inheritable(plan["control"], True)
    os.execve(plan["python"], arguments, environment)


def main() -> None:
    plan = json.loads(sys.argv[1])
    sys.path.insert(0, plan["code"])
    import kernel

    with contextlib.suppress(OSError):  # a container may forbid it; then only the order of sets of objects may vary
        kernel.no_randomisation()
    if plan["core"] is not None:
        with contextlib.suppress(OSError):  # the core may have gone meanwhile
            os.sched_setaffinity(0, [plan["core"]])
    os.umask(0o022)
    if not plan["namespaces"]:
        os.chdir("/")
        become_zygote(plan, plan["code"])
    enter_namespaces()
    child = os.fork()
    if child == 0:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        make_world(plan["prefixes"], plan["code"], plan["tmp"])
        become_zygote(plan, CODE)
    os.close(plan["control"])
    status = os.waitpid(child, 0)[1]
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main()
