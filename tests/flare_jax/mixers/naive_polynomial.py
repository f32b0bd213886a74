"""The mixers of third order and with polynomial states, written down plainly in numpy float64, as a second opinion."""

import numpy as np

EPSILON = {"layer": 1e-5, "rms": 1.1920929e-07}


def in_float64(params, x):
    """Return parameters and input as numpy arrays."""
    return {name: np.asarray(value, np.float64) for name, value in params.items()}, np.asarray(x, np.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def linear(params, name, x):
    return x @ params[f"{name}.kernel"] + params[f"{name}.bias"]


def activation(name):
    """Return the activation of the residual MLPs."""
    if name == "silu":
        return lambda x: x * sigmoid(x)
    return lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def projection(params, name, x, act):
    if f"{name}.fc.kernel" in params:
        return x + linear(params, f"{name}.fc", x)
    h = x + act(linear(params, f"{name}.fc1", x))
    for layer in range(sum(f"{name}.fcs.{j}.kernel" in params for j in range(10))):
        h = h + act(linear(params, f"{name}.fcs.{layer}", h))
    return h + linear(params, f"{name}.fc2", h)


def norm(params, name, x):
    """Layer norm if there is a bias, RMS norm otherwise."""
    if f"{name}.bias" not in params:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON["rms"]) * params[f"{name}.scale"]
    x = x - x.mean(-1, keepdims=True)
    scaled = x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON["layer"])
    return scaled * params[f"{name}.scale"] + params[f"{name}.bias"]


def features(params, kernel, x):
    match kernel:
        case "identity":
            return x
        case "elu":
            return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))
        case "hadamard":
            return linear(params, "kernel.layer1", x) * linear(params, "kernel.layer2", x)
        case "swiglu":
            value, gate = np.split(linear(params, "kernel.layer1", x), 2, axis=-1)
            return linear(params, "kernel.layer3", value * gate * sigmoid(gate))
        case "hedgehog":
            z = linear(params, "kernel.layer", x)
            weights = np.exp(np.concatenate([2 * z, -2 * z], axis=-1))
            return weights / weights.sum(-1, keepdims=True)
    raise AssertionError(kernel)


class Naive:
    """Queries, keys and values of one mixer, by the name of their projection."""

    def __init__(self, params, x, mask, *, num_heads, kernel, norm_q, norm_k, act):
        self.params, self.x, self.heads = params, x, num_heads
        self.real = np.ones(x.shape[:2]) if mask is None else np.asarray(mask, np.float64)
        self.kernel, self.unit, self.act = kernel, {"q": norm_q, "k": norm_k}, activation(act)

    def __call__(self, name):
        z = projection(self.params, name, self.x, self.act).reshape(*self.x.shape[:2], self.heads, -1)
        if name[0] in "qk":
            z = features(self.params, self.kernel, z)
            if self.unit[name[0]]:
                z = z / (np.sqrt((z**2).sum(-1, keepdims=True)) + 1e-6)
        return z * self.real[..., None, None]

    def output(self, y):
        merged = y.reshape(self.x.shape)
        return linear(self.params, "out_proj", norm(self.params, "norm", merged))


def state(k, v):
    return np.einsum("bnhi,bnhj->bhij", k, v) / k.shape[1]


def multilinear(naive, num_states=2):
    states = [state(naive(f"k_projs.{s}"), naive(f"v_projs.{s}")) for s in range(num_states)]
    return naive.output(np.einsum("bnhi,bhij->bnhj", naive("q_proj"), np.prod(states, axis=0)))


def strassen(naive):
    q, v1, v2 = naive("q_proj"), naive("v1_proj"), naive("v2_proj")
    s1, s2 = state(naive("k1_proj"), v1), state(naive("k2_proj"), v2)
    gates = [naive.params[f"g{i}"][:, None] for i in range(1, 5)]
    terms = (
        np.einsum("bnhi,bhij->bnhj", q, s1) * v2.mean(1)[:, None],
        (s1 * s2).sum(2)[:, None],
        np.einsum("bnhi,bhij->bnhj", q, s2) * v1.mean(1)[:, None],
        np.einsum("bnhi,bhij->bnhj", q, s1 * s2),
    )
    return naive.output(sum(gate * term for gate, term in zip(gates, terms, strict=True)))


def products(naive, count):
    """Triple and quad attention without their state: token n weighs token m by the product of its scores."""
    scores = np.prod(
        [np.einsum("bnhi,bmhi->bhnm", naive(f"q{i}_proj"), naive(f"k{i}_proj")) for i in range(1, count + 1)], axis=0
    )
    v = naive("v_proj")
    return naive.output(np.einsum("bhnm,bmhj->bnhj", scores, v) / v.shape[1])


def third_order(params, x, mask, *, num_heads, method, epsilon):
    """Return the mixed tokens of either method, following the original, with masked pairs of weight zero."""
    batch, n, channels = x.shape
    d = channels // num_heads
    real = np.ones((batch, n), bool) if mask is None else np.asarray(mask)
    y = np.zeros((batch, n, num_heads, d))
    parts = linear(params, "att_proj", x).reshape(batch, n, num_heads, 5, d)
    for b in range(batch):
        for h in range(num_heads):
            a, k1, k2, v1, v2 = (parts[b, real[b], h, i] for i in range(5))
            if len(a) == 0:
                continue
            if method == "third_order":
                logits = np.einsum("id,jd,ld->ijl", a, k1, k2) / np.sqrt(d)
                weights = np.exp(logits - logits.max((1, 2), keepdims=True))
                total = weights.sum((1, 2))
            else:
                first, second, third = a @ k1.T / np.sqrt(d), k1 @ k2.T / np.sqrt(d), k2 @ a.T / np.sqrt(d)
                first = np.exp(first - first.max(1, keepdims=True))
                second = np.exp(second - second.max())
                third = np.exp(third - third.max(0, keepdims=True))
                weights = np.einsum("ij,jl,li->ijl", first, second, third)
                total = weights.sum((1, 2)) + epsilon
            y[b, real[b], h] = np.einsum("ijl,jd,ld->id", weights, v1, v2) / total[:, None]
    return linear(params, "out_proj", y.reshape(x.shape))


def damped_ema(params, x, prefix=""):
    """Return the exact filter of both directions, token by token."""
    alpha, delta, beta = (sigmoid(params[f"{prefix}{name}_logits"]) for name in ("alpha", "delta", "beta"))

    def run(sequence):
        s = np.zeros((x.shape[0], *alpha.shape))
        outputs = []
        for token in sequence.swapaxes(0, 1):
            s = (1 - alpha * delta) * s + alpha * beta * token[..., None]
            outputs.append((s * params[f"{prefix}eta"]).sum(-1))
        return np.stack(outputs, axis=1)

    both = np.concatenate([run(x), run(x[:, ::-1])[:, ::-1]], axis=-1)
    return linear(params, f"{prefix}proj", both)


def ema_attention(params, x, mask=None, *, masked_ema=False):
    real = np.ones(x.shape[:2], bool) if mask is None else np.asarray(mask)
    e = damped_ema(params, x * real[..., None] if masked_ema else x, "ema.")
    silu = activation("silu")
    q, k, v = (silu(linear(params, f"{name}_proj", z)) for name, z in (("query", e), ("key", e), ("value", x)))
    logits = q @ k.swapaxes(1, 2) / np.sqrt(x.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True)) * real[:, None]
    a = weights @ v / weights.sum(-1, keepdims=True) * real[..., None]
    gate1, gate2 = sigmoid(linear(params, "gate_proj1", e)), sigmoid(linear(params, "gate_proj2", e))
    h = silu(e @ params["Wh"] + (a * gate1) @ params["Uh"] + params["bh"])
    return h * gate2 + (1 - gate2) * x
