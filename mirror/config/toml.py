"""Values as TOML writes them, for messages and for `config show`. Reading is the standard library's `tomllib`."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_key(*parts: str) -> str:
    """A dotted key: `toml_key("registries", "docker.io", "url")` is `registries."docker.io".url`."""
    return ".".join(part if _BARE.fullmatch(part) else toml_string(part) for part in parts)


def toml_string(text: str) -> str:
    """A basic string on one line; everything but printable ASCII is escaped, so that it is safe on a terminal."""
    quoted = json.dumps(text, ensure_ascii=True).replace("\x7f", "\\u007f")
    return re.sub(r"\\ud([89ab]..)\\ud([c-f]..)", _astral, quoted)


def _astral(pair: re.Match[str]) -> str:
    """JSON writes characters beyond U+FFFF as two escapes, TOML as one."""
    high, low = int("d" + pair[1], 16), int("d" + pair[2], 16)
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"


def toml_value(value: object) -> str:
    """A value on one line. What TOML has no form for (None, dates inside a message) is named in words."""
    match value:
        case bool():
            return "true" if value else "false"
        case str() | Path():
            return toml_string(str(value))
        case int() | float():
            return repr(value)
        case list() | tuple():
            return "[" + ", ".join(toml_value(item) for item in value) + "]"
        case Mapping():
            return "a table"
        case None:
            return "nothing"
        case _:
            return f"a {type(value).__name__}"
