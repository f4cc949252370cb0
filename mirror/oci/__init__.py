"""The protocol: what registries and their clients say to each other, as types. No I/O, no state.

- `digest`: `Digest`, the name of bytes by their hash
- `names`: the grammar of names; `Name`, `Repository`, `Reference`
- `manifest`: `Descriptor`, `Manifest`, media types
- `routes`: request paths to `Route` and back
- `ranges`: `Range` and `Content-Range`
- `challenge`: `WWW-Authenticate`

Text is parsed here, at the edge, and travels inward as these types. Whatever the text, a parser raises only
the `MirrorError`s that its docstring names. Standard library and `mirror.errors` only.
"""
