"""Programs that try to pass without being right, or to reach out of the sandbox. Run as a script it judges them all and prints one JSON report.

Each defines `f`, which is wrong (f(n) should be n + 1), and appends to ESCAPED whenever something worked that must not work.
SECRET, OUTSIDE and SUPERVISOR are given: a readable file and a writable folder outside, and the process to reach.
Needs the standard library only, so that an ordinary user's system interpreter can run it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
from pathlib import Path

HEAD = '''
import os, sys
ESCAPED = []
def attempt(name, action, *args):
    try:
        got = action(*args)
    except BaseException as error:
        return error
    ESCAPED.append([name, str(got)[:60]])
def raw(number, *args):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    got = libc.syscall(number, *args)
    if got < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return got
'''
WRONG = "\ndef f(n):\n    return -1\n"

VERDICT: dict[str, str] = {  # the judge is what is attacked
    "honestly wrong": "def f(n):\n    return n",
    "equal to everything": "class A:\n    def __eq__(s, o): return True\n    def __ne__(s, o): return False\n    __hash__ = None\ndef f(n):\n    return A()",
    "int that equals everything": "class A(int):\n    def __eq__(s, o): return True\n    __hash__ = int.__hash__\ndef f(n):\n    return A(-1)",
    "float that equals everything": "class A(float):\n    def __eq__(s, o): return True\n    __hash__ = float.__hash__\ndef f(n):\n    return A(-1)",
    "str that equals everything": "class A(str):\n    def __eq__(s, o): return True\n    __hash__ = str.__hash__\ndef f(n):\n    return A('x')",
    "list of everything": "class A(list):\n    def __eq__(s, o): return True\ndef f(n):\n    return A([n])",
    "dict of everything": "class A(dict):\n    def __eq__(s, o): return True\n    def items(s): return [(1, 2)]\ndef f(n):\n    return A()",
    "lies about its class": "class A:\n    __class__ = property(lambda s: int)\n    def __eq__(s, o): return True\n    def __index__(s): return 3\ndef f(n):\n    return A()",
    "metaclass": "class M(type):\n    def __eq__(s, o): return True\n    __hash__ = type.__hash__\nclass A(metaclass=M): pass\ndef f(n):\n    return A",
    "reduces to a command": "class A:\n    def __reduce__(s): return (__import__('os').system, ('touch ' + OUTSIDE + '/reduced',))\ndef f(n):\n    return A()",
    "nan": "def f(n):\n    return float('nan')",
    "exit at import": "import sys\nsys.exit(0)",
    "_exit at import": "import os\nos._exit(0)",
    "SystemExit in f": "def f(n):\n    raise SystemExit(0)",
    "_exit in f": "import os\ndef f(n):\n    os._exit(0)",
    "quit": "def f(n):\n    quit()",
    "KeyboardInterrupt": "def f(n):\n    raise KeyboardInterrupt",
    "GeneratorExit": "def f(n):\n    raise GeneratorExit",
    "closes everything": "import os\nos.closerange(0, 1024)\ndef f(n):\n    return -1",
    "forges records at import": "import os\nfor fd in range(3, 256):\n    for r in (b'[\"loaded\"]', b'[\"v\",0]', b'[\"v\",0]', b'[\"pass\"]'):\n        try: os.write(fd, len(r).to_bytes(4, 'big') + r)\n        except OSError: pass\nos._exit(0)",
    "forges a pass": "import os\ndef f(n):\n    for fd in range(3, 256):\n        r = b'[\"pass\"]'\n        try: os.write(fd, (len(r).to_bytes(4, 'big') + r) * 3)\n        except OSError: pass\n    os._exit(0)",
    "forges garbage": "import os\ndef f(n):\n    for fd in range(3, 256):\n        try: os.write(fd, b'\\xff' * 4096)\n        except OSError: pass\n    return -1",
    "forges short records": "import os\ndef f(n):\n    for fd in range(3, 256):\n        try: os.write(fd, b'\\0\\0\\0\\0' * 4096)\n        except OSError: pass\n    os._exit(0)",
    "forges odd JSON": "import os\ndef f(n):\n    for r in (b'null', b'[]', b'{}', b'[[[[', b'[\"v\"]', b'[\"v\",[\"l\"' , b'[\"v\",[\"F\",1,0]]'):\n        for fd in range(3, 256):\n            try: os.write(fd, len(r).to_bytes(4, 'big') + r)\n            except OSError: pass\n    return -1",
    "prints a pass": "def f(n):\n    print('[\"pass\"]')\n    print('all tests passed')\n    return -1",
    "walks the frames": "import sys\ndef f(n):\n    frame, seen = sys._getframe(), []\n    while frame:\n        seen += [v for k, v in {**frame.f_globals, **frame.f_locals}.items() if 'expect' in str(k)]\n        for k, v in list(frame.f_locals.items()):\n            if isinstance(v, dict) and 'calls' in v: seen += [v.get('expected')]\n            if isinstance(v, list) and k in ('records', 'results', 'cells'): v.append('passed')\n        frame = frame.f_back\n    return seen[0] if seen else -1",
    "walks the heap": "import gc\ndef f(n):\n    for o in gc.get_objects():\n        if isinstance(o, dict) and 'expected' in o: return o['expected']\n        if isinstance(o, list) and len(o) < 9 and 'loaded' in o: o[0] = 'pass'\n    return -1",
    "patches the codec": "import sys\nfor m in list(sys.modules.values()):\n    if hasattr(m, 'encode') and hasattr(m, 'Opaque'): m.encode = lambda *a: 3; m.dumps = lambda *a: b'3'\ndef f(n):\n    return -1",
    "patches json": "import json\njson.dumps = lambda *a, **k: '[\"pass\"]'\ndef f(n):\n    return -1",
    "patches os.write": "import os\nreal = os.write\nos.write = lambda fd, data: real(fd, data.replace(b'-1', b'3') if isinstance(data, bytes) else data)\ndef f(n):\n    return -1",
    "patches builtins": "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.len = lambda *a: 0\nbuiltins.AssertionError = ValueError\nbuiltins.all = lambda *a: True\ndef f(n):\n    return -1",
    "patches the exception": "class Never(BaseException):\n    pass\nimport builtins\nbuiltins.AssertionError = type('X', (BaseException,), {'__init__': lambda s, *a: None})\ndef f(n):\n    return -1",
    "patches math": "import math\nmath.isclose = lambda *a, **k: True\nmath.fabs = lambda *a: 0\ndef f(n):\n    return -1",
    "replaces candidate": "candidate = check = assert_equal = lambda *a: True\ndef f(n):\n    return -1",
    "defines check": "def check(candidate):\n    return True\ndef f(n):\n    return -1",
    "shadows the test's names": "range = lambda *a: []\ndef f(n):\n    return -1",
    "traces the runner": "import sys\ndef t(frame, event, arg):\n    for k in frame.f_locals:\n        if k == 'record': frame.f_locals[k] = ['v', 3]\n    return t\nsys.settrace(t); sys.setprofile(t)\ndef f(n):\n    return -1",
    "atexit": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(n):\n    return -1",
    "a value for each guess": "class A:\n    def __getattr__(s, k): return lambda *a, **k: 3\n    def __call__(s, *a): return s\n    def __bool__(s): return True\nf = A()",
    "deep value": "def f(n):\n    x = []\n    for _ in range(100000): x = [x]\n    return x",
    "cyclic value": "def f(n):\n    x = []\n    x.append(x)\n    return x",
    "colliding set": "def f(n):\n    return {i * (2**61 - 1) for i in range(20000)}",
    "huge int": "def f(n):\n    return 1 << (10**7)",
    "huge text": "def f(n):\n    return 'x' * (64 << 20)",
    "endless generator": "def f(n):\n    while True: yield n + 1",
    "surrogates": "def f(n):\n    return '\\ud800' * 10",
    "counts calls": "state = []\ndef f(n):\n    state.append(n)\n    return len(state)",
    "module stays": "import sys, types\nm = types.ModuleType('wire'); m.encode = lambda *a: 3; sys.modules['wire'] = m; sys.modules['child'] = m\ndef f(n):\n    return -1",
    "stops the encoder": "import sys\ndef f(n):\n    sys.setrecursionlimit(60)\n    return [[[[[[[[n]]]]]]]]",
    "error that lies": "class E(Exception):\n    def __str__(s): raise SystemExit(0)\n    __repr__ = __str__\ndef f(n):\n    raise E",
    "unicode entry": "def ｆ(n):\n    return -1",
}

ESCAPE: dict[str, str] = {  # the walls are what is attacked; appended to HEAD, followed by WRONG
    "read the secret": "attempt('secret', lambda: open(SECRET).read())",
    "read it through a link": "attempt('link', lambda: (os.symlink(SECRET, 'l'), open('l').read())[1])",
    "hard link": "attempt('hardlink', lambda: os.link(SECRET, 'h'))",
    "dot dot": "attempt('dots', lambda: open('../' * 20 + SECRET.lstrip('/')).read())",
    "write outside": "attempt('write', lambda: open(OUTSIDE + '/w', 'w').write('x'))",
    "make folders outside": "attempt('mkdir', lambda: os.mkdir(OUTSIDE + '/d'))",
    "rename outside": "open('r', 'w').close() if os.access('.', os.W_OK) and os.getcwd() != '/' else None\nattempt('rename', lambda: os.rename('r', OUTSIDE + '/r'))",
    "mknod": "import stat\nattempt('mknod', lambda: os.mknod('dev', 0o600 | stat.S_IFBLK, os.makedev(254, 0)))",
    "mkfifo outside": "attempt('fifo', lambda: os.mkfifo(OUTSIDE + '/fifo'))",
    "passwords": "attempt('shadow', lambda: open('/etc/shadow').read())",
    "sitecustomize": "import sysconfig\nattempt('site', lambda: open(sysconfig.get_path('stdlib') + '/sitecustomize.py', 'w'))",
    "pth": "import sysconfig\nattempt('pth', lambda: open(sysconfig.get_path('purelib') + '/x.pth', 'w'))",
    "conftest": "attempt('conftest', lambda: open(os.path.dirname(OUTSIDE) + '/conftest.py', 'w'))",
    "own memory file": "attempt('mem', lambda: open('/proc/self/mem', 'rb'))",
    "parent's memory": "attempt('pmem', lambda: open(f'/proc/{os.getppid()}/mem', 'rb'))",
    "supervisor's environment": "attempt('environ', lambda: open(f'/proc/{SUPERVISOR}/environ').read())",
    "supervisor's command line": "attempt('cmdline', lambda: open(f'/proc/{SUPERVISOR}/cmdline').read())",
    "descriptors": "attempt('fds', lambda: os.listdir('/proc/self/fd'))",
    "inherited descriptors": "for fd in list(range(3, 200)) + list(range(204, 1024)):\n    attempt('fd', os.fstat, fd)",
    "environment": "attempt('env', lambda: os.environ['SYNTH_CANARY'])",
    "/dev/shm": "attempt('shm', lambda: open('/dev/shm/synth-attack', 'w'))",
    "kernel knobs": "attempt('sysctl', lambda: open('/proc/sys/kernel/core_pattern', 'w'))\nattempt('oom', lambda: open('/proc/self/oom_score_adj', 'w'))",
    "cgroups": "attempt('cgroup', lambda: open('/sys/fs/cgroup/cgroup.procs'))",
    "block devices": "attempt('disk', lambda: open('/dev/vda', 'rb'))\nattempt('kmsg', lambda: open('/dev/kmsg', 'rb'))\nattempt('tty', lambda: open('/dev/tty', 'w'))",
    "tcp": "import socket\nattempt('tcp', lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))",
    "tcp6": "import socket\nattempt('tcp6', lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM))",
    "udp": "import socket\nattempt('udp', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))",
    "unix": "import socket\nattempt('unix', lambda: socket.socket(socket.AF_UNIX))",
    "vsock": "import socket\nattempt('vsock', lambda: socket.socket(40, socket.SOCK_STREAM))",
    "netlink": "import socket\nattempt('netlink', lambda: socket.socket(16, socket.SOCK_RAW))",
    "packet": "import socket\nattempt('packet', lambda: socket.socket(17, socket.SOCK_RAW))",
    "every family": "import socket\nfor family in range(64):\n    attempt('family', lambda: socket.socket(family, socket.SOCK_STREAM))\n    attempt('family', lambda: socket.socket(family, socket.SOCK_DGRAM))",
    "datagram pair": "import socket\nattempt('pair', lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))",
    "resolver": "import socket\nattempt('dns', lambda: socket.getaddrinfo('localhost', 80))\nimport urllib.request\nattempt('http', lambda: urllib.request.urlopen('http://127.0.0.1:9', timeout=1))",
    "raw socket call": "attempt('raw', lambda: raw(41 if os.uname().machine == 'x86_64' else 198, 2, 1, 0))",
    "io_uring": "attempt('io_uring', lambda: raw(425, 8, 0))",
    "ptrace": "attempt('ptrace', lambda: raw(101, 16, os.getppid(), 0, 0))",
    "read a process": "attempt('vm', lambda: raw(310, os.getppid(), 0, 0, 0, 0, 0))",
    "steal a descriptor": "attempt('pidfd', lambda: raw(434, os.getppid(), 0))\nattempt('getfd', lambda: raw(438, 3, 3, 0))",
    "signal the parent": "import signal\nattempt('kill', lambda: os.kill(os.getppid(), signal.SIGKILL))",
    "signal the supervisor": "import signal\nattempt('kill', lambda: os.kill(SUPERVISOR, signal.SIGKILL))",
    "signal everybody": "import signal\nattempt('kill', lambda: os.kill(-1, signal.SIGKILL))\nattempt('killpg', lambda: os.killpg(0, signal.SIGKILL))",
    "fork": "attempt('fork', lambda: os.fork() or os._exit(0))",
    "fork bomb": "while not isinstance(attempt('bomb', lambda: os.fork()), BaseException):\n    pass",
    "daemon": "def daemon():\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n            import time; time.sleep(60)\n        os._exit(0)\nattempt('daemon', daemon)",
    "vfork and clone": "attempt('vfork', lambda: raw(58))\nattempt('clone', lambda: raw(56, 17, 0, 0, 0, 0))\nattempt('clone3', lambda: raw(435, 0, 0))",
    "new session": "attempt('setsid', os.setsid)",
    "shell": "attempt('system', lambda: 1 / (os.system('true') == 0))\nimport posix\nattempt('posix', lambda: 1 / (posix.system('true') == 0))",
    "subprocess": "import subprocess\nattempt('run', lambda: subprocess.run(['/bin/true']))\nattempt('spawn', lambda: os.posix_spawn('/bin/true', ['true'], {}))",
    "multiprocessing": "import multiprocessing\nattempt('mp', lambda: multiprocessing.Pool(2))",
    "execve": "attempt('exec', lambda: os.execv('/bin/true', ['true']))",
    "reloaded os": "import importlib\nimportlib.reload(os)\nattempt('reload', lambda: 1 / (os.system('true') == 0))",
    "raw execve": "import ctypes\nattempt('raw exec', lambda: raw(59, b'/bin/true', 0, 0))\nattempt('execveat', lambda: raw(322, -100, b'/bin/true', 0, 0, 0))",
    "memfd": "attempt('memfd', lambda: os.memfd_create('x'))",
    "namespaces": "for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000):\n    attempt('unshare', lambda: raw(272, flag))\nattempt('setns', lambda: raw(308, 3, 0))",
    "mount and chroot": "attempt('mount', lambda: raw(165, b'none', b'/', b'tmpfs', 0, 0))\nattempt('chroot', lambda: os.chroot('/'))\nattempt('pivot', lambda: raw(155, b'/', b'/'))",
    "become root": "attempt('setuid', lambda: os.setuid(0))\nattempt('setresuid', lambda: os.setresuid(0, 0, 0))\nattempt('is root', lambda: [0][os.getuid()])",
    "capabilities": "attempt('capset', lambda: raw(126, b'\\x22\\x05\\x08\\x20\\0\\0\\0\\0', b'\\xff' * 24))",
    "undo its limits": "import resource\nfor limit in range(16):\n    attempt('rlimit', lambda: resource.setrlimit(limit, (1, 1)))",
    "prctl": "attempt('dumpable', lambda: raw(157, 4, 1, 0, 0, 0))\nattempt('pdeathsig', lambda: raw(157, 1, 0, 0, 0, 0))\nattempt('seccomp', lambda: raw(317, 0, 0, 0))",
    "kernel interfaces": "for number in (321, 298, 323, 248, 249, 250, 246, 169, 175, 304, 300, 253, 429, 428, 442):\n    attempt(number, lambda: raw(number, 0, 0, 0, 0, 0))",
    "shared memory": "attempt('shmget', lambda: raw(29, 1, 4096, 0o1666))\nattempt('mq', lambda: raw(240, b'/q', 0o102, 0o666, 0))\nfrom multiprocessing import shared_memory\nattempt('posix shm', lambda: shared_memory.SharedMemory(create=True, size=10))",
    "set the clock": "import time\nattempt('clock', lambda: time.clock_settime(time.CLOCK_REALTIME, 0))\nattempt('hostname', lambda: __import__('socket').sethostname('x'))",
    "priority": "attempt('nice', lambda: os.nice(-5))\nattempt('affinity', lambda: os.sched_setaffinity(0, {0}))",
    "terminal injection": "import fcntl\nattempt('TIOCSTI', lambda: fcntl.ioctl(0, 0x5412, b'x'))",
    "wrong architecture": "import ctypes\nattempt('x32', lambda: raw(0x40000000 + 41, 2, 1, 0))",
    "4 GB": "attempt('memory', lambda: len(bytearray(4 << 30)))",
    "a billion items": "attempt('list', lambda: len([0] * (10 ** 9)))",
    "many maps": "import mmap\nmaps = []\nattempt('mmap', lambda: [maps.append(mmap.mmap(-1, 1 << 28)) for _ in range(100)])",
    "fill the disk": "def fill():\n    for i in range(10000):\n        with open(f'fill{i}', 'wb') as file: file.write(b'x' * (1 << 20))\nattempt('disk', fill)",
    "a million files": "def files():\n    for i in range(10**6): open(f'n{i}', 'w').close()\nattempt('inodes', files)",
    "many threads": "import threading, time\ndef crowd():\n    for _ in range(5000): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\nattempt('threads', crowd)",
    "many descriptors": "held = []\nattempt('fds', lambda: [held.append(os.dup(0)) for _ in range(5000)])",
    "stubborn folder": "try:\n    os.makedirs('a/b/c'); os.chmod('a/b', 0); os.chmod('a', 0)\nexcept OSError: pass",
    "deep folders": "try:\n    for _ in range(3000): os.mkdir('d'); os.chdir('d')\nexcept OSError: pass",
    "leaves a note": "try:\n    open('note', 'w').write('3')\nexcept OSError: pass",
    "finds a note": "attempt('note', lambda: open('note').read())\nattempt('others', lambda: [].__getitem__(0 if not os.listdir('.') else 1) if os.getcwd() == '/' else os.listdir('.')[0])",
}

ENDLESS: dict[str, str] = {  # time and output are what is attacked
    "endless loop": "def f(n):\n    while True: pass",
    "loop that swallows all": "def f(n):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
    "loop at import": "while True: pass",
    "sleep": "import time\ndef f(n):\n    time.sleep(1000)",
    "waits for input": "import select\ndef f(n):\n    select.select([], [], [])",
    "ignores signals": "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\ndef f(n):\n    while True: pass",
    "big power": "def f(n):\n    return 10 ** 10 ** 10",
    "one long C call": "def f(n):\n    return sum(range(10 ** 12))",
    "regex": "import re\ndef f(n):\n    return re.match('(a+)+$', 'a' * 60 + 'b')",
    "recursion": "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(n):\n    return f(n + 1)",
    "C stack": "import sys\nsys.setrecursionlimit(10 ** 9)\nclass A:\n    def __repr__(s): return repr(s)\ndef f(n):\n    return repr(A())",
    "thread that stays": "import threading\ndef g():\n    while True: pass\nthreading.Thread(target=g).start()\ndef f(n):\n    return -1",
    "print flood": "def f(n):\n    while True: print('x' * 100000)",
    "record flood": "import os\ndef f(n):\n    while True:\n        for fd in range(200, 204):\n            try: os.write(fd, b'\\0\\0\\x10\\0' + b'x' * 4096)\n            except OSError: pass",
    "half a record": "import os\ndef f(n):\n    for fd in range(200, 204):\n        try: os.write(fd, b'\\0\\x7f\\xff\\xff' + b'x' * 4096)\n        except OSError: pass\n    while True: pass",
    "closes the pipe and loops": "import os\nos.closerange(3, 1024)\nwhile True: pass",
    "segfault": "import ctypes\ndef f(n):\n    ctypes.string_at(0)",
    "abort": "import os\ndef f(n):\n    os.abort()",
    "garbage that runs": "class A:\n    def __del__(s):\n        while True: pass\ndef f(n):\n    A()\n    return -1",
    "slow encoder": "class L(list):\n    def __iter__(s):\n        while True: pass\ndef f(n):\n    return L([1])",
    "slow exception": "class E(Exception):\n    def __str__(s):\n        while True: pass\ndef f(n):\n    raise E",
}

STDIN: dict[str, str] = {  # reads n, should print n + 1
    "prints nothing": "input()",
    "exits with success": "import sys\nsys.exit(0)",
    "_exit": "import os\nos._exit(0)",
    "prints all guesses": "for i in range(100): print(i)",
    "floods": "while True: print('x' * 100000)",
    "reads on": "import sys\nwhile True: sys.stdin.read()",
    "prints and hangs": "print(-1)\nwhile True: pass",
    "forges the end": "import os\nfor fd in range(3, 256):\n    try: os.write(fd, b'\\0\\0\\0\\x08[\"done\"]')\n    except OSError: pass\nos._exit(0)",
    "hangs at exit": "import threading, time\nthreading.Thread(target=lambda: time.sleep(1000)).start()",
    "bytes that are no text": "import os\nos.write(1, b'\\xff\\xfe' * 100)",
}

CALLS = [{"call": "f(2)", "expected": 3}, {"call": "f(10)", "expected": 11}]
PAIRS = [{"script": "assert f(2) == 3\nassert f(10) == 11"}]
SCRIPT = [{"script": "import math\nfor n in range(2, 12):\n    assert f(n) == n + 1\n    assert math.isclose(f(n), n + 1)\n    assert not f(n) != n + 1"}]


def programs(secret: str, outside: str, supervisor: int) -> dict[str, str]:
    given = f"SECRET, OUTSIDE, SUPERVISOR = {secret!r}, {outside!r}, {supervisor}\n"
    return {
        **{name: given + code for name, code in {**VERDICT, **ENDLESS}.items()},
        **{name: given + HEAD + code + WRONG for name, code in ESCAPE.items()},
    }


def marked(mark: str) -> list[int]:
    """Processes that carry this sandbox's mark in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def listing() -> dict[str, list[str]]:
    return {folder: sorted(os.listdir(folder)) for folder in ("/dev/shm", "/dev/mqueue", tempfile.gettempdir()) if os.path.isdir(folder)}


def assault(level: str) -> dict[str, object]:
    """Every attack in every form it fits, at one level; what passed, what escaped, what was left behind."""
    from filters.sandbox import levels, wire
    from filters.sandbox.checks import read_checks
    from filters.sandbox.jobs import Job, Limits
    from filters.sandbox.judging import judge, plan
    from filters.sandbox.pool import Sandbox

    os.environ["SYNTH_CANARY"] = "a secret of the environment"
    limits = Limits(test=0.15, total=0.6, output=1 << 20)
    surveyed = levels.best(level)
    began, passed, escaped, unfinished, judged = time.monotonic(), [], [], [], 0
    with levels._bait() as (secret, outside):
        before = listing()
        code = programs(str(secret), str(outside), os.getpid())
        cases = [(name, program, form) for name, program in code.items() for form in (CALLS, PAIRS, SCRIPT)]
        cases += [(name, program, [{"input": "2\n", "expected": "3\n"}]) for name, program in STDIN.items()]
        planned = []
        for name, program, tests in cases:
            checks = [c for group in read_checks(tests, entry="f") for c in group]
            planned += [(name, checks, item) for item in plan(program, checks, entry="f", limits=limits)]
        with Sandbox(surveyed.layers, surveyed.level, workers=2) as sandbox:
            marks = f"synth-sandbox-{os.getpid()}-"
            outcomes: dict[str, list[str]] = {}
            for (name, checks, item), result in zip(planned, sandbox.stream([item[0] for _, _, item in planned])):
                cells = judge(checks, item, result)
                outcomes.setdefault(f"{name} ({item[0].kind})", []).extend(c.outcome for c in cells)
            looks = [Job("calls", code[name], calls=("ESCAPED",), limits=limits) for name in ESCAPE]
            for name, result in zip(ESCAPE, sandbox.run(looks)):
                if len(result.records) == 2 and json.loads(result.records[1])[0] == "v":
                    found = wire.decode(json.loads(result.records[1])[1])
                    escaped += [f"{name}: {e}" for e in found]
                else:
                    unfinished.append(name)
            right = sandbox.run([Job("calls", "def f(n):\n    return n + 1", calls=("f(2)",))])[0]
            running = [p for p in marked(marks)]
            expected_running = 2 * len(sandbox.zygotes(2)) if surveyed.layers.namespaces else len(sandbox.zygotes(2))
        judged = len(outcomes)
        passed = [name for name, cells in outcomes.items() if all(c == "pass" for c in cells)]
        survivors = marked(marks)
        left = [str(p) for p in outside.iterdir()]
        after = listing()
    new = {k: sorted(n for n in set(after[k]) - set(before[k]) if "attack" in n or "canary" in n) for k in after}
    own = os.listdir("/proc/self/fd")
    sockets = [os.readlink(f"/proc/self/fd/{fd}") for fd in own if os.path.islink(f"/proc/self/fd/{fd}")]
    return {
        "level": surveyed.level,
        "walls": surveyed.name,
        "uid": os.getuid(),
        "attacks": len(VERDICT) + len(ESCAPE) + len(ENDLESS) + len(STDIN),
        "judged": judged,
        "passed": passed,
        "escaped": escaped,
        "unfinished": unfinished,
        "extra_processes": len(running) - expected_running,
        "survivors": survivors,
        "left_outside": left,
        "new_files": {k: v for k, v in new.items() if v},
        "sockets": [s for s in sockets if s.startswith("socket:")],
        "still_right": [r.decode() for r in right.records],
        "seconds": round(time.monotonic() - began, 1),
    }


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    assert socket  # what the attacks may not have
    print(json.dumps(assault(sys.argv[1] if len(sys.argv) > 1 else "")))
