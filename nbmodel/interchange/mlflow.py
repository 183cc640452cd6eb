"""Words of MLflow's models.

Source: MLflow's documentation, "MLflow Models: Storage Format", "Model Signatures".
"""

from __future__ import annotations

from collections.abc import Mapping

MARKER = "MLmodel"
#: What MLflow puts beside a model, and is none of it.
OWN_FILES = frozenset(
    (MARKER, "conda.yaml", "python_env.yaml", "requirements.txt", "registered_model_meta",
     "input_example.json", "serving_input_example.json", "input_example_metadata.json")
)  # fmt: skip
#: numpy's names, as a tensor of a signature has them.
DATATYPES: Mapping[str, str] = {
    "bool": "BOOL",
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    **dict.fromkeys(("str", "object", "bytes"), "BYTES"),
}  # fmt: skip
