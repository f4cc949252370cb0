import pytest

from mirror.config.model import RegistrySettings
from mirror.config.registries import WELL_KNOWN
from mirror.oci.names import canonical_registry


@pytest.mark.parametrize("name", WELL_KNOWN)
def test_each_stands_under_its_canonical_name_at_a_valid_https_url(name: str) -> None:
    assert canonical_registry(name) == name
    assert RegistrySettings(url=WELL_KNOWN[name]).urls == (WELL_KNOWN[name],)
    assert WELL_KNOWN[name].startswith("https://")


def test_the_ones_everybody_pulls_from_are_there() -> None:
    assert WELL_KNOWN["docker.io"] == "https://registry-1.docker.io"
    assert {"ghcr.io", "quay.io", "registry.k8s.io", "gcr.io", "mcr.microsoft.com", "public.ecr.aws"} <= set(WELL_KNOWN)
