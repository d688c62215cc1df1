"""The recipe's `[engine]`: what generates."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pipelines.part import Part, Positive


class EnginePart(Part):
    kind: Literal["local"] = "local"
    """`local` is the embedded engine: any machine, no server."""
    threads: Annotated[int, Field(ge=0, le=256)] = 1
    """CPU threads for generation and training; 0 = all cores. Part of the recipe because sums depend on it."""
    batch_rows: Positive = 512
    """Rows decoded side by side; part of the recorded shard plan."""

    def lineage(self) -> dict[str, Any]:
        """What the policy's lineage counts of it: what moves a number on the embedded engine. Which engine answers, and how it is reached, is not
        in the lineage: a ledger answers the same requests wherever they were first sent."""
        return {"threads": self.threads, "batch_rows": self.batch_rows}
