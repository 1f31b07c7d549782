"""Opening a user's network: which kind of file it is, and that opening it runs no code."""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

PARTS = "layers|models|ops|activations|initializers|regularizers|constraints|dtype_policies"
OF_KERAS = re.compile(rf"keras(\.src)?\.({PARTS})(\.\w+)*|keras")
PLAIN = ("__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__", "__bytes__")
LAMBDA = ("Lambda", "__lambda__")  # the layer, and what it holds where that has no name
RUNS_CODE = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
NOT_BUILT = ("build_config", "compile_config")  # parts of a configuration of which no layer is made
PASS_FILE = 'network.save("mine.keras") and pass that file (--model mine.keras)'
REBUILD = (
    'in the Keras that wrote it call model.save_weights("mine.weights.h5"), in Keras 3 build the same network, '
    f'network.load_weights("mine.weights.h5"), {PASS_FILE}'
)


def open_network(path: str | Path, *, trust_lambda: bool = False) -> keras.Model:
    """The network in a .keras file of Keras 3, whose configuration is read before anything is built.

    Args:
        trust_lambda: whether the code of Lambda layers, which the file holds, may run.
    Raises:
        ValueError: for any other file, saying which kind it is and what to do, and for a network with a Lambda or a
            class that is neither Keras' nor registered by `keras.saving.register_keras_serializable`.
    """
    path = Path(path).expanduser()
    if (path / "saved_model.pb").is_file():
        raise ValueError(f"{path} is a SavedModel, which has functions and no layers: {REBUILD}")
    if path.is_file():
        with path.open("rb") as file:
            if file.read(4) == b"\x89HDF":
                raise ValueError(f"{path} {_hdf5_kind(file.read())}")
    if path.suffix != ".keras" or not path.is_file():
        raise ValueError(
            f"network must be a Keras model or the path of a .keras file, got {str(path)!r}"
            + (f": {PASS_FILE}" if path.exists() else ": there is no such file")
        )
    config, version = _read(path)
    if version.startswith("2."):
        raise ValueError(f"{path} was written by Keras {version}, whose layers Keras 3 can't take: {REBUILD}")
    found = set(_foreign(config)) - (set(LAMBDA) if trust_lambda else set())
    if found:
        shown = ", ".join(sorted(found - {LAMBDA[1]}))
        raise ValueError(f"{path} holds {shown}, whose code opening it would run: if you trust it, {_trusting(found)}")
    try:
        network = keras.models.load_model(path, compile=False, safe_mode=not trust_lambda)
    except Exception as error:  # a damaged file fails in as many ways as it has bytes
        raise ValueError(f"{path} can't be opened ({' '.join(str(error).split())[:300]}): save it again") from error
    if not isinstance(network, keras.Model):
        raise ValueError(f"{path} holds a {type(network).__name__}, which is no network: {PASS_FILE}")
    return network


def _trusting(found: set[str]) -> str:
    """What to do to open a file that holds these."""
    todo = ["register what is yours (--trust-module my_layers)"] if found - set(RUNS_CODE) - set(LAMBDA) else []
    todo += ["let Lambdas run (--trust-lambda)"] if found & set(LAMBDA) else []
    todo += ["open it by keras.models.load_model(path, safe_mode=False) and pass the network"]
    return f"{', '.join(todo[:-1])}, or {todo[-1]}" if len(todo) > 1 else todo[0]


def _hdf5_kind(content: bytes) -> str:
    if b"model_config" in content:  # the name of an attribute of files that hold more than weights
        return (
            f"holds a network in Keras' former format: network = keras.models.load_model(path), {PASS_FILE}; where "
            "Keras 3 can't load it, build the same network, and network.load_weights(path) before that"
        )
    return f"holds weights alone: build the network that they are of, network.load_weights(path), {PASS_FILE}"


def _read(path: Path) -> tuple[Any, str]:
    """The configuration in a .keras file, and the version of Keras that wrote it."""
    try:
        with zipfile.ZipFile(path) as archive:
            config, about = (json.loads(archive.read(name)) for name in ("config.json", "metadata.json"))
            return config, str(about["keras_version"])
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no .keras file, or a damaged one ({error}): save it again") from error


def _foreign(config: Any) -> Iterator[str]:
    """What in a configuration would run code that is not Keras' own."""
    if isinstance(config, list):
        for part in config:
            yield from _foreign(part)
    elif isinstance(config, dict):
        name = config.get("class_name")
        if name is not None and name not in PLAIN:
            shown = config.get("config") if name == "function" else name
            registered = shown if name == "function" else config.get("registered_name")
            is_known = keras.saving.get_registered_object(str(registered)) is not None
            if name in RUNS_CODE or not (is_known or OF_KERAS.fullmatch(str(config.get("module")))):
                yield str(shown) if isinstance(shown, str) else str(name)
        for key, part in config.items():
            if key not in NOT_BUILT:
                yield from _foreign(part)
