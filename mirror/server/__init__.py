"""The server: `/v2/` (registry), `/api/v1/`, metrics. Handlers read like the protocol and hold no business rules.

- `http`            one connection's protocol, the listeners
- `dispatch`        one catch-all handler: who asks, what for, which file answers
- `authentication`  who asks: a stranger, loopback, the socket
- `registry/`       one file per resource of the OCI distribution specification
- `api/`            one file per resource of `/api/v1/`
- `send`            one loop that sends hot, cold and remote blobs alike
- `failures`        the one place that renders errors
- `metrics`, `access_log`, `pull_log`   what is told about it all
"""
