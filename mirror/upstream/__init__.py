"""The upstream ring: a client of other registries. Knows nothing of the store.

The map, from what others use down to the wire:

- `protocols`    the contracts: `Source`, `Download`, `Fetched`, `Destination`, `Session`, `Upstreams`
- `registries`   `Registries`: builds sources and destinations from the settings; states, probe, start and close
- `client`       `RegistrySource`: blobs, manifests, tags, referrers
- `destination`  `RegistryDestination`: uploads, mounts, manifests, deletes;  `upload`: the body of a PATCH
- `complaints`   what a registry says when it refuses, as a sentence
- `failover`     how each of its operations runs: one URL after the other; how the source is doing
- `download`     an open blob body;  `listing`: pages of tags;  `bodies`: small bodies with a cap
- `endpoints`    a registry's URLs and their rests;  `breaker`: when nobody waits any more;  `limits`: 429 and quotas
- `exchange`     one operation: authentication and redirects, hop by hop, and what a status means
- `auth`         challenges and what a refusal means;  `tokens`: the token service;  `realms`: who may see credentials
- `credentials`  the settings, a password file;  `docker_config`: `config.json` and its helpers
- `transport`    one request: sessions, TLS, timeouts;  `guard`: where we may be led;  `proxies`;  `loops`
- `translate`    every way a connection fails, as one `UpstreamError`
"""
