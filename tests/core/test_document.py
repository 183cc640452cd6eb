from __future__ import annotations

import json

import pytest

from nbmodel.core.document import unique_keys


def test_an_object_is_read_as_it_is() -> None:
    text = '{"a": {"b": [1, {}]}, "c": null}'
    assert json.loads(text, object_pairs_hook=unique_keys) == json.loads(text)


@pytest.mark.parametrize("text", ['{"a": 1, "b": 2, "a": 1}', '[{"x": {"a": 1, "a": 2}}]'])
def test_a_key_given_twice_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="key 'a' is given twice"):
        json.loads(text, object_pairs_hook=unique_keys)
