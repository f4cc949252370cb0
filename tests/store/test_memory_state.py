from mirror.oci.digest import Digest
from mirror.oci.manifest import Role
from mirror.store.memory import MemoryCatalog
from tests.store.samples import ALPINE, CONFIG, NGINX, digest_of, hold_index, image, index


async def test_above_and_below_are_each_others_inverse() -> None:
    catalog = MemoryCatalog()
    children = [image("a", "base"), image("b", "base")]
    top = await hold_index(catalog, ALPINE, children)
    first, second = (child.descriptor.digest for child in children)
    assert catalog._above(digest_of("base")) == {first, second, top}
    assert catalog._above(digest_of("a")) == {first, top}
    assert catalog._above(digest_of("a"), Role.MANIFEST) == set()
    assert catalog._above(first, Role.MANIFEST) == {top}
    assert catalog._above(top) == set()
    blobs = {digest_of(text) for text in ("a", "b", "base")} | {Digest.of(CONFIG)}
    assert catalog._below(top) == {top, first, second, *blobs}
    for digest in catalog._below(top) - {top}:
        assert top in catalog._above(digest)


async def test_a_child_belongs_to_an_index_of_its_own_repository() -> None:
    catalog = MemoryCatalog()
    child = image("a")
    await hold_index(catalog, ALPINE, [child])
    assert catalog._is_child(ALPINE, child.descriptor.digest)
    assert not catalog._is_child(NGINX, child.descriptor.digest)
    assert not catalog._is_child(ALPINE, index([child]).descriptor.digest)
