"""The box-constrained L-BFGS attack, with a search over its constant for every image, all images at once."""

from typing import Any

import numpy as np
import tensorflow as tf

from advlens.arrays import Array, checked_images
from advlens.attacks.gradient import GradientAttack
from advlens.attacks.inputs import MARGIN, BatchAttack, attacked_labels, check_number, check_whole_number
from advlens.progress import progress
from advlens.store import versioned

DOUBLINGS = 30  # of the constant, before an image counts as not attackable
ARMIJO = 1e-4  # share of the predicted decrease that a step must bring
SHORTEST = 0.1  # step, as a share of the quasi-Newton step, under which the search at this constant ends
TOLERANCE = 1e-5  # relative decrease of the objective, made or foreseen, under which it ends as well
TICKS = 32  # evaluations between two looks at which images are done

State = dict[str, Any]


@versioned(2)
class LBFGS(BatchAttack):
    """Minimises ‖x − x⁰‖² / d + c · CE(x, t) over [0, 1]^d, with the smallest c that leads to the class t.

    The constant weighs the cross-entropy, as in foolbox 2 (in Szegedy et al. it weighs the distance). It starts at
    2ε, is doubled up to 30 times until the minimiser is of class t, and is then bisected until the bracket is
    narrower than ε. The image returned is the nearest one of class t among all that were evaluated; untargeted, the
    gradient attack's own image of class t is one of these, so it is never farther than that.

    Every image has its own constant and its own projected L-BFGS iteration, and all images of a batch advance
    together in one compiled loop, one evaluation of the network a turn. As the objective's Hessian is 2/d plus c
    times that of the cross-entropy, the history keeps cross-entropy gradients, and so holds for the next constant,
    whose search starts where the last one ended. A finished image's place goes to the next image.

    Args:
        classifier: the network attacked.
        epsilon: the ε of the search over c.
        max_iter: L-BFGS iterations for one constant.
        history: pairs (s, y) that L-BFGS keeps, the m of the literature.
        margin: by which the logit of t must be above all others, for an image to be of class t.
        targeted: whether `y` of `generate` holds the classes t to reach rather than those to leave.
        batch_size: images attacked at once.

    Source: Szegedy et al. 2014, section 4.1; `LBFGSAttack` of foolbox 2 (Rauber et al. 2017); the direction is the
    compact form of Byrd, Nocedal & Schnabel 1994, on the pixels that no bound holds.
    """

    epsilon: float = 1e-5
    max_iter: int = 150
    history: int = 15
    margin: float = MARGIN
    targeted: bool = False  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]
    batch_size: int = 256

    def __init__(self, *given: Any, **parameters: Any) -> None:
        super().__init__(*given, **parameters)
        self._compile()

    def set_params(self, **kwargs) -> None:
        """Sets parameters by name, checked; the compiled loop holds their values, so it is compiled anew."""
        super().set_params(**kwargs)
        self._compile()

    def generate(self, x: Array, y: Array | None = None, **kwargs) -> Array:
        """The attacked images.

        Args:
            x: (n, h, w, channels) images in [0, 1].
            y: (n,) class numbers or (n, c) one-hot. Untargeted: the classes to leave, None for the network's
                decisions; the class t is then the one that a gradient attack finds, or the second most likely one
                where it finds none. Targeted: the classes t.
        Returns:
            (n, h, w, channels) float32 in [0, 1]; an image that could not be attacked is returned as it came.
        Raises:
            ValueError: for images or labels that are none, or for a targeted attack without labels.
        """
        x = checked_images(x, shape=self.estimator.input_shape)
        if self.targeted and y is None:
            raise ValueError("a targeted attack needs y, the classes to reach, got None")
        y = attacked_labels(self.estimator, x, y)
        t, known = (y, x) if self.targeted else self._found_classes(x, y)
        decided = self.estimator.predict(x).argmax(axis=1)
        todo = np.flatnonzero(decided != t if self.targeted else decided == y)
        x_adv = x.copy()
        x_adv[todo] = self._minimise(x[todo], t[todo], known[todo])
        return x_adv

    def _found_classes(self, x: Array, y: Array) -> tuple[Array, Array]:
        """(n,) classes that a gradient attack finds, the most likely other class where it finds none; its images."""
        attacked = GradientAttack(self.estimator, margin=self.margin).generate(x, y)
        found = self.estimator.predict(attacked).argmax(axis=1)
        others = self.estimator.predict(x)
        others[np.arange(len(x)), y] = -np.inf
        return np.where(found != y, found, others.argmax(axis=1)), attacked

    def _minimise(self, x0: Array, t: Array, known: Array) -> Array:
        """The loop over places: advances them, takes out the images that are done, puts in new ones.

        Args:
            known: (n, h, w, channels) images of class t to start from as the best; the image itself where none is.
        """
        results, waiting = x0.copy(), np.arange(len(x0))
        index, state = waiting[:0], None
        with progress(description="l-bfgs", unit="image", total=len(x0)) as bar:
            while len(waiting) or len(index):
                new, waiting = np.split(waiting, [self.batch_size - len(index)])
                started = self._start(x0[new], t[new], known[new])
                state = started if state is None else {k: np.concatenate([state[k], started[k]]) for k in started}
                index = np.concatenate([index, new])
                state = {name: value.numpy() for name, value in self._advance(state).items()}
                done = state["done"]
                results[index[done]] = state["best"][done].reshape(-1, *x0.shape[1:])
                bar.update(int(done.sum()))
                index, state = index[~done], {name: value[~done] for name, value in state.items()}
        return results

    def _compile(self) -> None:
        blank = np.zeros((1, *self.estimator.input_shape), np.float32)
        one = self._start(blank, np.zeros(1, int), blank)
        rows = {name: tf.TensorSpec((None, *value.shape[1:]), value.dtype) for name, value in one.items()}
        self._advance = tf.function(self._ticks, input_signature=[rows])

    def _start(self, x0: Array, t: Array, known: Array) -> State:
        """The state of images before their first evaluation, one row an image."""
        n, d = len(x0), int(np.prod(x0.shape[1:]))
        x0, known = x0.reshape(n, d), known.reshape(n, d)
        distance = np.square(known - x0).sum(axis=1)
        zeros, rows = np.zeros(n, np.float32), np.zeros((n, d), np.float32)
        return {
            "x0": x0, "target": np.eye(self.estimator.nb_classes, dtype=np.float32)[t],
            "c": zeros + 2 * self.epsilon, "low": zeros, "high": zeros + np.inf, "doublings": zeros.astype(int),
            "x": x0, "ce": zeros + np.inf, "g_ce": rows, "reached": zeros > 0, "iteration": zeros.astype(int),
            "direction": rows, "step": zeros + 1,
            "pairs": np.zeros((n, 2 * self.history, d), np.float32), "count": zeros.astype(int),
            "best": known, "best_distance": np.where(distance > 0, distance, np.inf).astype(np.float32),
            "done": zeros > 0,
        }  # fmt: skip

    def _ticks(self, state: State) -> State:
        """`TICKS` evaluations of the network at every image, as one graph."""
        _, state = tf.while_loop(
            lambda tick, state: (tick < TICKS) & ~tf.reduce_all(state["done"]),
            lambda tick, state: (tick + 1, self._tick(state)),
            (0, state),
            shape_invariants=(tf.TensorShape(()), {name: value.shape for name, value in state.items()}),
        )
        return state

    def _tick(self, state: State) -> State:
        """Evaluates one trial image each, takes or shortens the step, moves on to the next constant or direction."""
        s = dict(state)
        d = s["x0"].shape[1]
        trial = tf.clip_by_value(s["x"] + s["step"][:, None] * s["direction"], 0, 1)
        ce, g_ce, reached = self._cross_entropy(trial, s["target"])
        distance = tf.reduce_sum((trial - s["x0"]) ** 2, axis=1)
        nearer = reached & (distance < s["best_distance"]) & ~s["done"]
        s["best"] = tf.where(nearer[:, None], trial, s["best"])
        s["best_distance"] = tf.where(nearer, distance, s["best_distance"])

        κ = d * s["c"]  # the objective, times d: ‖x − x⁰‖² + κ CE
        moved = trial - s["x"]
        f = tf.reduce_sum((s["x"] - s["x0"]) ** 2, axis=1) + κ * s["ce"]
        g = 2 * (s["x"] - s["x0"]) + κ[:, None] * s["g_ce"]
        decrease = f - (distance + κ * ce)
        slope = tf.reduce_sum(g * moved, axis=1)
        taken = (decrease >= -ARMIJO * slope) & ~s["done"]
        s["pairs"] = _remembered(s["pairs"], s["count"], moved, g_ce - s["g_ce"], taken)
        s["count"] += tf.cast(taken, s["count"].dtype)
        s["iteration"] += tf.cast(taken, s["iteration"].dtype)
        s["x"] = tf.where(taken[:, None], trial, s["x"])
        s["g_ce"] = tf.where(taken[:, None], g_ce, s["g_ce"])
        s["ce"], s["reached"] = tf.where(taken, ce, s["ce"]), tf.where(taken, reached, s["reached"])
        shorter = tf.clip_by_value(-slope / (2 * (-decrease - slope)), 0.1, 0.5)  # where a parabola is lowest
        s["step"] = tf.where(taken, 1.0, s["step"] * shorter)

        converged = tf.where(taken, decrease, -slope) <= TOLERANCE * f
        ended = converged | (s["iteration"] >= self.max_iter) | (s["step"] < SHORTEST)
        s = self._next_constant(s, ended & ~s["done"])
        s["direction"] = tf.where((taken | ended)[:, None], _direction(s, self.history), s["direction"])
        return s

    def _next_constant(self, s: State, ended: tf.Tensor) -> State:
        """Where a search has ended: narrows the bracket of c, and starts the next search or calls the image done."""
        s = dict(s)
        c = s["c"]
        s["high"] = tf.where(ended & s["reached"], c, s["high"])
        s["low"] = tf.where(ended & ~s["reached"], c, s["low"])
        unbounded = tf.math.is_inf(s["high"])
        s["doublings"] += tf.cast(ended & unbounded, s["doublings"].dtype)
        s["done"] |= ended & ((s["high"] - s["low"] < self.epsilon) | (s["doublings"] >= DOUBLINGS))
        s["c"] = tf.where(ended, tf.where(unbounded, 2 * c, (s["low"] + s["high"]) / 2), c)
        s["iteration"] = tf.where(ended, tf.zeros_like(s["iteration"]), s["iteration"])
        s["step"] = tf.where(ended, 1.0, s["step"])
        return s

    def _cross_entropy(self, x: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """(n,) CE(x, t), (n, d) its gradient, and (n,) whether x is of class t."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            logits = self.estimator.model(tf.reshape(x, (-1, *self.estimator.input_shape)), training=False)
            ce = tf.nn.softmax_cross_entropy_with_logits(target, logits)
        others = tf.reduce_max(tf.where(target > 0, -np.inf, logits), axis=1)
        return ce, tape.gradient(ce, x), tf.reduce_sum(target * logits, axis=1) - others >= self.margin  # pyright: ignore[reportReturnType]

    def _check_params(self) -> None:
        check_whole_number(self, "max_iter", "history", "batch_size")
        check_number(self, "epsilon")
        check_number(self, "margin", zero=True)
        if not isinstance(self.targeted, bool):
            raise ValueError(f"targeted must be True or False, got {self.targeted!r}")


def _remembered(pairs: tf.Tensor, count: tf.Tensor, moved: tf.Tensor, change: tf.Tensor, taken: tf.Tensor) -> tf.Tensor:
    """(n, 2m, d) pairs, with s = `moved` and Δ∇CE = `change` in place of the oldest pair where `taken`."""
    m = pairs.shape[1] // 2  # pyright: ignore[reportOptionalOperand]
    rows = tf.cast(tf.where(taken), tf.int32)[:, 0]
    slot = tf.gather(tf.cast(count, tf.int32), rows) % m
    at = tf.concat([tf.stack([rows, slot], 1), tf.stack([rows, slot + m], 1)], axis=0)
    values = tf.concat([tf.gather(moved, rows), tf.gather(change, rows)], axis=0)
    return tf.tensor_scatter_nd_update(pairs, at, values)


def _orders(count: tf.Tensor, m: int) -> tuple[tf.Tensor, tf.Tensor]:
    """(n, 2m) places in the ring of pairs by age, oldest first, and ages by place."""
    places, count = tf.range(m)[None], tf.cast(count, tf.int32)[:, None]
    by_age, by_place = (places + count) % m, (places - count) % m
    return tf.concat([by_age, by_age + m], axis=1), tf.concat([by_place, by_place + m], axis=1)


def _direction(s: State, m: int) -> tf.Tensor:
    """(n, d) quasi-Newton direction on the pixels that no bound holds, from at most m pairs.

    With S, Y (m, d) in order of age, R the upper triangle of SYᵀ, D its diagonal and H⁰ = ½ I:
    H g = ½ g + Sᵀ R⁻ᵀ ((D + ½ YYᵀ) R⁻¹ Sg − ½ Yg) − ½ Yᵀ R⁻¹ Sg.
    """
    κ = s["x0"].shape[1] * s["c"][:, None, None]
    g = 2 * (s["x"] - s["x0"]) + κ[:, 0] * s["g_ce"]
    free = tf.cast(~(((s["x"] <= 0) & (g > 0)) | ((s["x"] >= 1) & (g < 0))), tf.float32)
    g *= free
    pairs = s["pairs"] * free[:, None]
    slots, ages = _orders(s["count"], m)
    products = tf.gather(tf.matmul(pairs, pairs, transpose_b=True), slots, batch_dims=1)
    products = tf.gather(products, slots, axis=2, batch_dims=1)
    with_g = tf.gather(tf.matmul(pairs, g[:, :, None]), slots, batch_dims=1)
    ss, sc, cc = products[:, :m, :m], products[:, :m, m:], products[:, m:, m:]
    sy = 2 * ss + κ * sc
    yy = 4 * ss + 2 * κ * (sc + tf.linalg.matrix_transpose(sc)) + κ**2 * cc
    sg, yg = with_g[:, :m], 2 * with_g[:, :m] + κ * with_g[:, m:]

    D = tf.linalg.diag_part(sy)
    usable = tf.greater(D, 1e-6 * tf.linalg.diag_part(yy))  # positive curvature
    both = tf.cast(usable[:, :, None] & usable[:, None, :], tf.float32)
    R = tf.linalg.set_diag(sy * both, tf.where(usable, D, 1.0))
    R = tf.linalg.band_part(R, 0, -1)
    sg, yg = (tf.where(usable[:, :, None], v, 0.0) for v in (sg, yg))
    u = tf.linalg.triangular_solve(R, sg, lower=False)
    v = tf.linalg.diag(tf.where(usable, D, 0.0)) + 0.5 * yy * both
    v = tf.linalg.triangular_solve(R, tf.matmul(v, u) - 0.5 * yg, lower=False, adjoint=True)
    coefficients = tf.concat([v - u, -0.5 * κ * u], axis=1)  # Y = 2S + κ Δ∇CE
    coefficients = tf.gather(coefficients, ages, batch_dims=1)
    Hg = 0.5 * g + tf.matmul(pairs, coefficients, transpose_a=True)[:, :, 0]
    downhill = tf.reduce_sum(Hg * g, axis=1, keepdims=True) > 0
    return -tf.where(downhill, Hg, 0.5 * g)
