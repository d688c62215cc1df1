"""Prompts from Jinja templates, in two dialects: `instruct` (chat models) and `compact` (the shipped policies).

The same template and variables give the same text anywhere: nothing about time, host or locale is within reach, nothing is
escaped (a prompt is not HTML), and a missing variable is an error rather than an empty string.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.errors import UserError

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

DIALECTS = ("compact", "instruct")


class Renderer:
    """Templates `<folder>/<dialect>/<name>.j2`; the first folder that has one wins, so a user's own goes before ours."""

    def __init__(self, folders: Sequence[Path | str], dialect: str) -> None:
        if dialect not in DIALECTS:
            raise UserError(f"prompt dialect {dialect!r} is none of {', '.join(DIALECTS)}")
        self.folders = tuple(Path(folder) for folder in folders)
        self.dialect = dialect
        self._env = _environment(self.folders, dialect)

    def names(self) -> list[str]:
        """Names of the templates of this dialect."""
        return sorted(name.removesuffix(".j2") for name in self._env.list_templates() if name.endswith(".j2"))

    def render(self, name: str, **variables: Any) -> str:
        """The text of template `name`; UserError names the template and the variable or the line that is wrong."""
        import jinja2

        try:
            return self._env.get_template(f"{name}.j2").render(**variables)
        except jinja2.TemplateNotFound as error:
            where = ", ".join(str(folder / self.dialect) for folder in self.folders)
            missing = str(error.name or name).removesuffix(".j2")
            raise UserError(
                f"no template {missing!r} in dialect {self.dialect!r}: looked in {where}; there are {', '.join(self.names()) or 'none'}"
            ) from error
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"template {name!r} ({self.dialect}), line {error.lineno}: {error.message}") from error
        except jinja2.UndefinedError as error:
            given = ", ".join(sorted(variables)) or "none"
            raise UserError(f"template {name!r} ({self.dialect}): {error.message}; variables given: {given}") from error
        except jinja2.exceptions.SecurityError as error:
            raise UserError(f"template {name!r} ({self.dialect}) reaches for something unsafe: {error}") from error


def render(folders: Sequence[Path | str], dialect: str, name: str, **variables: Any) -> str:
    """One template, see `Renderer`."""
    return Renderer(folders, dialect).render(name, **variables)


@cache
def _environment(folders: tuple[Path, ...], dialect: str) -> SandboxedEnvironment:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    env = ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader([str(folder / dialect) for folder in folders]),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
        auto_reload=False,
    )
    env.filters.pop("random", None)  # the one filter that gives another text each time
    env.globals.pop("lipsum", None)
    return env
