"""What makes it a mirror. Nothing here knows HTTP servers, SQL or a concrete store.

- `names`      which repository a request means
- `rights`     who asks, and what he may do: one deny-by-default table
- `proofs`     which bytes a principal may see under a repository, and how the right is established (design.md §4)
- `flights`    one download per digest and source, any number of readers; `flight` is one of them, `states` its states,
               `partial` what it leaves for a later one
- `readers`    a blob as one reader sees it: following a flight, or straight through from upstream
- `content`    open what may be seen
- `manifests`  manifests by digest: memory, store, upstream
- `tags`       manifests by tag: freshness, revalidation, stale answers
- `listings`   tag lists and referrers, upstream's and ours
- `transfer`   an image sent on to a registry: only what is missing there; `parcel` is what there is to be sent of it,
               `delivery` one blob on its way, `referring` lists of referrers where a registry keeps none
- `outbox`     pushes that wait for their registry
"""
