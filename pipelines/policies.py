"""Where policies lie: shipped ones by name, others by folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from data.errors import UserError

SHIPPED_POLICIES = Path(__file__).parent.parent / "data" / "policies"


def shipped_policies() -> list[str]:
    return sorted(p.parent.name for p in SHIPPED_POLICIES.glob("*/config.json"))


def policy_folder(name: str, key: str = "policy.path") -> Path:
    """A local model folder, or a shipped policy by name; an error names the recipe's `key`."""
    for path in (Path(name), SHIPPED_POLICIES / name):
        if (path / "config.json").is_file():
            return path.resolve()
    raise UserError(f"{key}: no model at {name!r} (a folder with config.json); shipped policies: {', '.join(shipped_policies()) or 'none'}")


def weights_fingerprint(folder: Path) -> str:
    """12 hex digits over the weight files' bytes: tells two models apart in the ledger."""
    digest = hashlib.blake2b(digest_size=6)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"policy.path: {folder} holds no .safetensors weights")
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()
