from __future__ import annotations

import base64
import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from nbmodel.core.machine import MachineConfig
from nbmodel.errors import FormatError, InferenceError, StorageUnavailableError
from nbmodel.runtime.repository import (
    MAX_FILES,
    LoadRequest,
    Overlay,
    Override,
    OverrideFolder,
    check_name,
    read_override,
)

MODEL = (1, PurePosixPath("model.onnx"))


def config(*names: str, version: str = "1", **attributes: Any) -> MachineConfig:
    return MachineConfig.from_json(
        {
            "packages": [
                {"name": "p", "package": "local/p", "version": version, "type": "ml_model"},
            ],
            "services": [
                {
                    "name": name,
                    "api": "rdk:service:mlmodel",
                    "model": "onnx_cpu",
                    "attributes": {"model_path": "${packages.ml_model.p}", **attributes},
                }
                for name in names
            ],
        }
    )


def test_files_that_cannot_be_kept_leave_nothing(tmp_path: Path) -> None:
    folder = OverrideFolder(tmp_path / "overrides")
    both = {MODEL: b"a file", (1, PurePosixPath("model.onnx/too")): b"and a folder"}
    with pytest.raises(StorageUnavailableError, match="cannot keep"):
        folder.write(both)
    assert list((tmp_path / "overrides").iterdir()) == []


class TestWhatALoadAsksFor:
    def test_files_come_as_base64_or_as_bytes(self) -> None:
        text = base64.b64encode(b"\x00\xff").decode()
        request = LoadRequest.from_parameters(
            {"config": "{}", "file:1/model.onnx": text, "file:12/a/b.bin": b"raw"}
        )
        assert request.config == "{}"
        assert request.files == {MODEL: b"\x00\xff", (12, PurePosixPath("a/b.bin")): b"raw"}

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("file:model.onnx", id="no version"),
            pytest.param("file:0/model.onnx", id="version 0"),
            pytest.param("file:-1/model.onnx", id="a negative version"),
            pytest.param("file:v1/model.onnx", id="a version in letters"),
            pytest.param("file:1/", id="no name"),
            pytest.param("file:1/../model.onnx", id="the folder above"),
            pytest.param("file:1//etc/passwd", id="from the root"),
            pytest.param("file:1/a/./b", id="a dot"),
            pytest.param("file:1/a\\b", id="a backslash"),
            pytest.param("file:1/a\nb", id="a line break"),
            pytest.param("file:1/a\0b", id="a NUL"),
            pytest.param("file:1/" + "a/" * 8 + "b", id="deep folders"),
            pytest.param("x", id="another parameter"),
        ],
    )
    def test_an_unsafe_name_is_refused(self, name: str) -> None:
        with pytest.raises(FormatError, match="file:"):
            LoadRequest.from_parameters({name: ""})

    @pytest.mark.parametrize("name", ["file:1/" + "é" * 128, "file:" + "A" * 256])
    def test_a_name_too_long_for_a_file_is_the_repositorys_failure(self, name: str) -> None:
        with pytest.raises(InferenceError, match="failed to poll from model repository"):
            LoadRequest.from_parameters({name: ""})

    @pytest.mark.parametrize("text", ["a", "é", "YQ==!"])
    def test_what_is_no_base64_is_refused(self, text: str) -> None:
        with pytest.raises(FormatError, match="base64"):
            LoadRequest.from_parameters({"file:1/a": text})

    def test_too_many_files_are_refused(self) -> None:
        with pytest.raises(FormatError, match=f"at most {MAX_FILES}"):
            LoadRequest.from_parameters({f"file:1/{i}": "" for i in range(MAX_FILES + 1)})


class TestHowAServiceRunsDifferently:
    def test_nothing_asked_is_nothing_different(self) -> None:
        assert read_override("m", LoadRequest(), None) is None

    def test_fields_of_tritons_config_are_attributes(self) -> None:
        text = json.dumps(
            {
                "name": "m",
                "max_batch_size": "16",
                "instance_group": [{"count": 2}, {"kind": "KIND_CPU"}],
                "dynamic_batching": {
                    "max_queue_delay_microseconds": "100",
                    "default_queue_policy": {"max_queue_size": 7},
                },
                "parameters": {"intra_op_thread_count": {"string_value": "4"}},
            }
        )
        assert read_override("m", LoadRequest(text), None) == Override(
            {
                "max_batch_size": 16,
                "instances": 3,
                "max_queue_delay_microseconds": 100,
                "max_queue_size": 7,
                "num_threads": 4,
            }
        )

    def test_the_newest_of_the_files_runs(self, tmp_path: Path) -> None:
        files = {MODEL: b"", (2, PurePosixPath("a.txt")): b"", (2, PurePosixPath("m.onnx")): b""}
        assert read_override("m", LoadRequest("{}", files), tmp_path) == Override(
            {"model_path": str(tmp_path / "2" / "m.onnx")}, "onnx_cpu", tmp_path
        )

    @pytest.mark.parametrize(
        ("given", "backend", "file"),
        [
            pytest.param({}, "onnx_cpu", "model.onnx", id="model.onnx comes first"),
            pytest.param(
                {"default_model_filename": "b.onnx"}, "onnx_cpu", "b.onnx", id="a file named"
            ),
            pytest.param({"backend": "mine"}, "mine", "model.onnx", id="a backend named"),
            pytest.param(
                {"platform": "onnxruntime_onnx"}, "onnx_cpu", "model.onnx", id="a platform named"
            ),
        ],
    )
    def test_its_config_says_what_runs_it(
        self, given: dict[str, Any], backend: str, file: str, tmp_path: Path
    ) -> None:
        request = LoadRequest(json.dumps(given), {MODEL: b"", (1, PurePosixPath("b.onnx")): b""})
        override = read_override("m", request, tmp_path)
        assert override is not None
        assert (override.backend, override.attributes["model_path"]) == (
            backend,
            str(tmp_path / "1" / file),
        )

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            pytest.param("{", "no JSON", id="malformed"),
            pytest.param("[]", "a JSON object", id="an array"),
            pytest.param("[" * 99999, "no JSON", id="deep"),
            pytest.param('{"x": ' * 101 + "1" + "}" * 101, "100 levels", id="101 levels"),
            pytest.param('{"max_batch": 1}', "no such field.*max_batch", id="an unknown field"),
            pytest.param('{"name": "n"}', "is of model 'n'", id="another model's"),
            pytest.param('{"max_batch_size": -1}', "expected a number", id="negative"),
            pytest.param('{"max_batch_size": true}', "expected a number", id="a flag"),
            pytest.param('{"instance_group": {}}', None, id="no groups"),
            pytest.param('{"instance_group": [1]}', "expected an object", id="no group"),
            pytest.param('{"dynamic_batching": 1}', "expected an object", id="no batching"),
        ],
    )
    def test_a_config_that_cannot_be_used_is_refused(self, text: str, says: str | None) -> None:
        if says is None:
            assert read_override("m", LoadRequest(text), None) == Override()
            return
        with pytest.raises(FormatError, match=says):
            read_override("m", LoadRequest(text), None)

    def test_files_need_a_config_and_a_model(self, tmp_path: Path) -> None:
        for request in (
            LoadRequest(None, {MODEL: b""}),
            LoadRequest("{}", {(1, PurePosixPath("a.txt")): b""}),
            LoadRequest('{"default_model_filename": "b.onnx"}', {MODEL: b""}),
        ):
            with pytest.raises(InferenceError, match="failed to load 'm'"):
                read_override("m", request, tmp_path)


class TestTheOverlay:
    def test_an_override_lies_over_the_entrys_attributes(self) -> None:
        overlay = Overlay().with_loaded("a", Override({"instances": 2}))
        first, second = overlay.applied(config("a", "b", instances=1, num_threads=3)).services
        assert first.attributes["instances"] == 2
        assert first.attributes["num_threads"] == 3
        assert second.attributes["instances"] == 1

    def test_files_stand_in_for_the_entrys_model(self, tmp_path: Path) -> None:
        override = Override({"model_path": "f"}, "tflite_cpu", tmp_path)
        (service,) = Overlay().with_loaded("a", override).applied(config("a")).services
        assert (service.model, service.attributes) == ("tflite_cpu", {"model_path": "f"})

    def test_a_service_may_be_in_the_overlay_alone(self, tmp_path: Path) -> None:
        override = Override({"model_path": "f"}, "onnx_cpu", tmp_path)
        overlay = Overlay().with_loaded("new", override)
        assert [one.name for one in overlay.applied(config("a")).services] == ["a", "new"]
        gone = overlay.with_unloaded("new", config("a"))
        assert gone == Overlay()

    def test_loading_again_ends_the_override_and_the_unloading(self) -> None:
        overlay = Overlay().with_loaded("a", Override({"instances": 2}))
        overlay = overlay.with_unloaded("a", config("a"))
        assert overlay == Overlay(frozenset({"a"}))
        assert overlay.with_loaded("a", None) == Overlay()

    @pytest.mark.parametrize(
        ("new", "left"),
        [
            pytest.param(config("a", "b"), {"a", "b"}, id="the same"),
            pytest.param(config("b", "a"), {"a", "b"}, id="another order"),
            pytest.param(config("b"), {"b"}, id="one is gone"),
            pytest.param(config("a", "b", num_threads=2), set(), id="attributes changed"),
            pytest.param(config("a", "b", version="2"), set(), id="its package changed"),
        ],
    )
    def test_a_changed_entry_is_followed_again(self, new: MachineConfig, left: set[str]) -> None:
        overlay = Overlay(frozenset({"a"})).with_loaded("b", Override({"instances": 2}))
        after = overlay.after(config("a", "b"), new)
        assert after.unloaded | after.overrides.keys() == left

    def test_a_service_of_the_overlay_alone_outlives_a_config(self) -> None:
        overlay = Overlay().with_loaded("new", Override({}, "onnx_cpu"))
        assert overlay.after(config("a"), config("b")) == overlay
        assert overlay.after(config("a"), config("new")) == Overlay()


def test_files_are_kept_in_folders_of_their_own(tmp_path: Path) -> None:
    folder = OverrideFolder(tmp_path / "overrides")
    first = folder.write({MODEL: b"a"})
    second = folder.write({MODEL: b"b", (2, PurePosixPath("x/y")): b"c"})
    assert (first / "1" / "model.onnx").read_bytes() == b"a"
    assert (second / "2" / "x" / "y").read_bytes() == b"c"
    folder.remove(first)
    folder.remove(None)
    assert not first.exists()
    assert second.exists()
    OverrideFolder(tmp_path / "overrides")
    assert not second.exists()


def test_a_name_that_no_service_can_have_is_refused() -> None:
    check_name("digits-2_b")
    for name in ("a/b", "..", "", "x" * 61):
        with pytest.raises(FormatError, match="failed to load"):
            check_name(name)
