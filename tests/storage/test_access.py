"""With what registries are entered: whose the token of the environment is."""

from __future__ import annotations

import pytest

from nbmodel.storage.access import Access


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("s3cret", ("s3cret", "s3cret"), id="for each"),
        pytest.param("registry.example:5000=s3cret", ("s3cret", None), id="for one"),
        pytest.param("Registry.Example:5000=a=b==", ("a=b==", None), id="any case, any token"),
        pytest.param("registry.example=s3cret", (None, None), id="another port"),
        pytest.param("c2VjcmV0==", ("c2VjcmV0==", "c2VjcmV0=="), id="base 64"),
        pytest.param("", (None, None), id="none"),
    ],
)
def test_a_token_may_be_for_one_registry_alone(
    given: str, expected: tuple[str | None, str | None]
) -> None:
    access = Access.of({"NBMODEL_REGISTRY_TOKEN": given})
    hosts = ("registry.example:5000", "elsewhere.example:5000")
    assert tuple(map(access.token_for, hosts)) == expected
    assert "s3cret" not in repr(access)
