"""Rebuilds a described network in tf_keras; runs in the worker process only."""

import tensorflow as tf

from advlens.explanations.describe import IMAGE, Description

layers, Model = tf.keras.layers, tf.keras.Model  # tf_keras: the worker's environment says so

RENAMED = {"negative_slope": "alpha"}  # in Keras 3 → in tf_keras


def rebuild(description: Description, *, start: str = IMAGE, end: str | None = None) -> tf.keras.Model:
    """The part of a network between two of its tensors, weights included, in the current graph.

    Args:
        start: tensor that becomes the input, `IMAGE` or a layer's name.
        end: tensor that becomes the output, by default the logits.
    Raises:
        ValueError: if a path leads to `end` past `start`.
    """
    end = end or description.output
    needed = description.between(start, end)
    shape = description.input_shape
    if start != IMAGE:
        shape = rebuild(description, end=start).output_shape[1:]
    tensors = {start: layers.Input(shape)}
    built = []
    for number, layer in enumerate(description.layers):
        if layer.name in needed:
            # Numbered names: tf_keras takes fewer characters in names than Keras 3 does.
            config = {RENAMED.get(key, key): value for key, value in layer.config.items()}
            made = getattr(layers, layer.kind)(**config, name=f"layer_{number}")
            inputs = [tensors[name] for name in layer.inputs]
            tensors[layer.name] = made(inputs if len(inputs) > 1 else inputs[0])
            built.append((made, layer.weights))
    model = Model(tensors[start], tensors[end])
    for made, weights in built:
        made.set_weights(weights)
    return model
