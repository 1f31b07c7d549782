"""The supervised variational autoencoder: images to latent vectors and back, with the class read from these."""

import keras
import tensorflow as tf

SMALLEST_SPREAD = 1e-4  # of a latent value: softplus can give 0, whose logarithm is none


class SupervisedVAE(keras.Model):
    """Minimises KL + classification + reconstruction, each a sum over what an image has of it.

    The image's latent vector is drawn from N(mean, spread²) by reparametrisation; class and pixels are read from it.

    Args:
        encoder: images → (n, 2, d) means and spreads; decoder: (n, d) → logits of pixels; classifier: (n, d) → logits.
        seed: of the draws.

    Source: eq. 6 of the study; Kingma & Welling 2014; the Type I attack of Tang et al. 2019.
    """

    def __init__(self, encoder: keras.Model, decoder: keras.Model, classifier: keras.Model, *, seed: int) -> None:
        super().__init__(name="supervised_vae")
        self.encoder, self.decoder, self.classifier = encoder, decoder, classifier
        self.draws = keras.random.SeedGenerator(seed)
        names = ("loss", "divergence", "classification", "reconstruction", "accuracy")
        self.means = {name: keras.metrics.Mean(name=name) for name in names}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Means over an epoch, reset by Keras."""
        return list(self.means.values())

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """(n, h, w, channels) in [0, 1]: what the decoder makes of the mean latent vectors."""
        return tf.sigmoid(self.decoder(self.encoder(images, training=training)[:, 0], training=training))

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step on (images, labels)."""
        with tf.GradientTape() as tape:
            losses = self._losses_of(*data, is_drawn=True)
            loss = losses["loss"]
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return self._recorded(losses)

    def test_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The same losses of the mean latent vectors."""
        return self._recorded(self._losses_of(*data, is_drawn=False))

    def _losses_of(self, images: tf.Tensor, labels: tf.Tensor, *, is_drawn: bool) -> dict[str, tf.Tensor]:
        moments = self.encoder(images, training=is_drawn)
        mean, spread = moments[:, 0], moments[:, 1] + SMALLEST_SPREAD
        z = mean + spread * keras.random.normal(tf.shape(mean), seed=self.draws) if is_drawn else mean
        logits, pixels = self.classifier(z, training=is_drawn), self.decoder(z, training=is_drawn)
        variance = tf.square(spread)
        parts = {
            "divergence": tf.reduce_sum(tf.square(mean) + variance - tf.math.log(variance) - 1, axis=1) / 2,
            "classification": tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(labels, tf.int64), logits),
            "reconstruction": tf.reduce_sum(
                tf.nn.sigmoid_cross_entropy_with_logits(images, pixels), axis=tf.range(1, tf.rank(images))
            ),
        }
        means = {name: tf.reduce_mean(values) for name, values in parts.items()}
        is_right = tf.equal(tf.argmax(logits, axis=1), tf.cast(labels, tf.int64))
        return {
            "loss": tf.add_n(list(means.values())),
            **means,
            "accuracy": tf.reduce_mean(tf.cast(is_right, tf.float32)),
        }

    def _recorded(self, losses: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        for name, value in losses.items():
            self.means[name].update_state(value)
        return {name: metric.result() for name, metric in self.means.items()}  # pyright: ignore[reportReturnType]
