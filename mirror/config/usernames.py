"""What a user of the mirror can be called: what a line of an htpasswd file, and a rule, can hold."""

ANY_USER = "*"
_LONGEST = 255


def check_username(name: str) -> str:
    """The same name. Raises ValueError with a sentence that says what is wrong."""
    if not name or len(name) > _LONGEST or not name.isprintable() or ":" in name or name.strip() != name:
        raise ValueError(f"{name[:50]!r} is no user name: it has 1 to {_LONGEST} printable characters, no colon")
    if name == ANY_USER or name.startswith("#"):
        raise ValueError(f"{name[:50]!r} is no user name: * stands for every user, # begins a comment")
    return name
