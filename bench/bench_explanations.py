"""Measures native explanation maps against iNNvestigate's worker process, and what their gradient costs.

Run from the project as `python -m bench.bench_explanations`, or by `make bench`.
"""

import advlens  # first, as it silences TensorFlow's start

# isort: split

import numpy as np
import tensorflow as tf

from advlens import networks
from advlens.explanations import explain, native
from bench.bench_attacks import DATA
from bench.harness import report, seconds

IMAGES, BATCH = 2000, 100


def main() -> None:
    with np.load(DATA) as archive:
        images = np.resize(archive["x"][..., None].astype(np.float32) / 255, (IMAGES, 28, 28, 1))
    print(f"advlens {advlens.__version__}, {'maps':27s} {'advlens':>8s} {'library':>10s} {'ratio':>10s}")
    for name in ("two_conv_cnn", "average_pooling_cnn"):
        network = networks.build(name)
        for method in ("deep_taylor", "lrp.z", "guided_backprop"):
            times = []
            for engine in ("native", "innvestigate"):
                again = lambda engine=engine, method=method, network=network: explain(  # noqa: E731
                    network, images, method=method, engine=engine
                )
                again()
                times.append(seconds(again, 3)[0])
            report(f"{method}, {name}", *times, f"{IMAGES} images, iNNvestigate in its process")
        batch, maps = tf.constant(images[:BATCH]), native.explainer(network, softplus=30.0)

        @tf.function
        def loss_gradient(batch: tf.Tensor, maps=maps) -> tf.Tensor:
            with tf.GradientTape() as tape:
                tape.watch(batch)
                loss = tf.reduce_sum(maps(batch) ** 2)
            return tape.gradient(loss, batch)

        loss_gradient(batch)
        ours, _ = seconds(lambda batch=batch, call=loss_gradient: call(batch).numpy(), 5)
        print(f"{'gradient of smooth Deep Taylor':38s} {ours * 1e3:8.1f} ms for {BATCH} images", flush=True)


if __name__ == "__main__":
    main()
