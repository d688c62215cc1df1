"""Why this host's sandbox has the level it has, attempt by attempt, and what would give it the next one. For `synth doctor`."""

from __future__ import annotations

import os
import shutil

from filters.sandbox import kernel, levels
from filters.sandbox.levels import LEVELS, Finding, Survey


def report() -> tuple[bool | None, list[str]]:
    """(programs run here: True, or None where they are refused; lines: a summary, each attempt of the canary, advice)."""
    url = os.environ.get("SYNTH_SANDBOX_URL", "")
    seen = levels.best()
    least = levels.minimum()
    enough = LEVELS.index(seen.level) >= LEVELS.index(least)
    stopped = sum(f.stopped for f in seen.findings)
    use = "" if enough else f"; programs are refused below {least}"
    lines = [f"{seen.level} here: {seen.name}; {stopped} of {len(seen.findings)} attempts of the canary stopped{use}"]
    if url:
        lines = [f"programs go to {url} (SYNTH_SANDBOX_URL), verdicts are stamped remote", f"without it: {lines[0]}"]
    for finding in seen.findings:
        met = finding.met if finding.stopped else f"NOT STOPPED: {finding.met}"
        lines.append(f"  {finding.attempt.level} {_wall(finding):<18} {finding.attempt.name:<28} {met}")
    return True if enough or url else None, [*lines, *advice(seen)]


def _wall(finding: Finding) -> str:
    """What stopped it: a file that is not even there was kept away by the namespaces, before Landlock was asked."""
    unseen = finding.met.startswith(("FileNotFoundError", "OSError: [Errno 30]"))
    return "namespaces" if unseen else finding.attempt.wall if finding.stopped else ""


def advice(seen: Survey) -> list[str]:
    """What stands between this host and the next level."""
    if seen.level == "L3":
        return []
    if seen.error.startswith("no sandbox on"):
        return [f"  to run programs: {seen.error}; use Linux on x86-64 or arm64, or an endpoint (SYNTH_SANDBOX_URL=http://host:8080)"]
    lines = []
    if kernel.landlock_abi() == 0 and LEVELS.index(seen.level) < 2:
        lines.append("  to reach L2: a kernel from 5.13 with Landlock on (boot parameter lsm=landlock,…; see /sys/kernel/security/lsm)")
    for layers in levels.candidates("L3"):
        tried = levels.surveyed(layers)
        breach = next((f"{f.attempt.name}: {f.met}" for f in tried.findings if not f.stopped), "")
        lines.append(f"  tried {tried.name}: {tried.error or breach or tried.level}")
    if shutil.which("bwrap") is None:
        lines.append("  to reach L3: install bubblewrap (Debian, Ubuntu, Fedora: package bubblewrap), which may make namespaces where you may not")
    lines.append("  or allow user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), user.max_user_namespaces > 0")
    lines.append("  in a container: start it with --security-opt seccomp=unconfined --security-opt apparmor=unconfined, or with CAP_SYS_ADMIN")
    return lines
