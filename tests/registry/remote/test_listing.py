"""What a remote has, read there and not kept."""

from __future__ import annotations

import pytest

from nbmodel.errors import ModelNotFoundError
from tests.registry.remote.conftest import People


def test_models_are_listed_with_what_their_tags_tell(person: People) -> None:
    ann, ben = person("ann"), person("ben")
    for _ in range(3):
        ann.add()
    ann.add("team/fruit")
    ann.registry.set_alias("digits:2", "champion")
    ann.push(None)
    ben.add("digits")
    with ben.peer() as peer:
        models = {model.name: model for model in ben.registry.remote_models(peer)}
    assert set(models) == {"digits", "team/fruit"}
    digits = models["digits"]
    assert (digits.versions, digits.latest, digits.here) == (3, 3, 0)
    assert digits.aliases == ("champion",)
    assert digits.pushed.endswith("Z")
    assert [model.name for model in ben.registry.models()] == ["digits"]
    with ann.peer() as peer:
        assert {model.here for model in ann.registry.remote_models(peer)} == {3, 1}


@pytest.mark.slow
def test_many_models_are_asked_for_at_once(docker_person: People) -> None:
    ann = docker_person("ann")
    names = [f"model{number}" for number in range(20)]
    for name in names:
        ann.add(name, b"the same")
    ann.push(None)
    with ann.peer() as peer:
        assert [model.name for model in ann.registry.remote_models(peer)] == sorted(names)


def test_versions_are_listed_with_what_they_are_called_here(person: People) -> None:
    ann, ben = person("ann"), person("ben")
    for _ in range(2):
        ann.add()
    ann.registry.set_alias("digits:1", "champion")
    ann.push()
    with ben.peer() as peer:
        versions = ben.registry.remote_versions(peer, "digits")
        assert [(one.number, one.aliases, one.local) for one in versions] == [
            (2, (), None),
            (1, ("champion",), None),
        ]
        with pytest.raises(ModelNotFoundError, match="no model 'nothing'"):
            ben.registry.remote_versions(peer, "nothing")
    ben.sync()
    with ben.peer() as peer:
        versions = ben.registry.remote_versions(peer, "digits")
    assert [one.local for one in versions] == ["digits:2", "digits:1"]
