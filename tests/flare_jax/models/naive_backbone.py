"""FLARE++ and its rivals written down plainly in numpy float64 from their PyTorch state_dict, as a second opinion.

Points are [B, H, N, D]. `options` are those of the model's configuration.
"""

import numpy as np

from tests.flare_jax.models.naive_attention import sigmoid
from tests.flare_jax.models.naive_flare import activation, feed_forward_activation, linear, merge_heads, residual_mlp
from tests.flare_jax.models.naive_flare import split_heads as split
from tests.flare_jax.models.naive_transolver import adaptive_attention, slice_means, softmax

EPSILON = 1e-6


def norm(state, name, x, options, on=True, epsilon=EPSILON):
    """Layer norm or RMS norm, with the parameters that the state has of it."""
    if not on:
        return x
    if options.get("rmsnorm"):
        y = x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)
    else:
        y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return y * state.get(f"{name}.weight", 1.0) + state.get(f"{name}.bias", 0.0)


def attend(q, k, v, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return softmax(scale * q @ k.swapaxes(-1, -2), -1) @ v


def project(state, name, x):
    """The linear map `name`, or x + `name`.fc x."""
    if f"{name}.fc.weight" in state:
        return x + linear(state, f"{name}.fc", x)
    return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0.0)


def route(state, name, q, k, v, scale=None):
    return linear(state, f"{name}.out_proj", merge_heads(attend(k, q, attend(q, k, v, scale), scale)))


def mha(state, name, x, o):
    q, k, v = (split(part, o["num_heads"]) for part in np.split(linear(state, f"{name}.qkv_proj", x), 3, axis=-1))
    q, k = (norm(state, f"{name}.{n}_norm", t, o, o["qk_norm"]) for n, t in (("q", q), ("k", k)))
    return linear(state, f"{name}.out_proj", merge_heads(attend(q, k, v)))


def flare(state, name, x, o):
    k, v = (split(project(state, f"{name}.{part}_proj", x), o["num_heads"]) for part in "kv")
    q = norm(state, f"{name}.q_norm", state[f"{name}.latent_q"], o, o["qk_norm"])
    return route(state, name, q, norm(state, f"{name}.k_norm", k, o, o["qk_norm"]), v)


def simplifiedflarepp(state, name, x, o):
    r0, k, v = (split(project(state, f"{name}.{part}_proj", x), o["num_heads"]) for part in ("k0", "k", "v"))
    v0 = r0 if o["share_k0_v0"] else split(project(state, f"{name}.v0_proj", x), o["num_heads"])
    q0 = norm(state, f"{name}.q0_norm", state[f"{name}.latent_q0"], o, o["qk0_norm"])
    q = attend(q0, norm(state, f"{name}.k0_norm", r0, o, o["qk0_norm"]), v0)
    q, k = (norm(state, f"{name}.{n}_norm", t, o, o["qk_norm"]) for n, t in (("q", q), ("k", k)))
    return route(state, name, q, k, v)


def gated(state, name, x, o, maps=project):
    """`flarepp`; `maps` are those of the points, deep ones in `flare_pp`."""
    k0, k, v = (split(maps(state, f"{name}.{part}_proj", x), o["num_heads"]) for part in ("k0", "k", "v"))
    k0 = v0 = norm({}, "", k0, o)
    if not o["share_k0_v0"]:
        v0 = norm({}, "", split(maps(state, f"{name}.v0_proj", x), o["num_heads"]), o)
    q0 = norm(state, f"{name}.q0_norm", state[f"{name}.latent_q0"], o)
    fixed = norm({}, "", state[f"{name}.latent_q_fixed"], o, o["q_fixed_norm"])
    scale = {"sqrt": None}.get(o.get("attn_scale", "sqrt"), o.get("attn_scale"))
    q = fixed + sigmoid(state[f"{name}.gate_logit"])[:, None, None] * attend(q0, k0, v0, scale)
    return route(state, name, q, norm(state, f"{name}.k_norm", k, o, o["k_norm"]), v, scale)


def flare_pp(state, name, x, o):
    act = activation(o["act"])
    return gated(state, name, x, o, lambda state, name, x: residual_mlp(state, name, x, act))


def flarepp_ablations(state, name, x, o):
    r0, k, v = (split(project(state, f"{name}.{part}_proj", x), o["num_heads"]) for part in ("k0", "k", "v"))
    v0 = r0 if o["share_k0_v0"] else split(project(state, f"{name}.v0_proj", x), o["num_heads"])

    def normed(part, t):
        return norm(state, f"{name}.{part}_norm", t, o, o[f"{part}_norm"])

    q = attend(normed("q0", state[f"{name}.latent_q0"]), normed("k0", r0), normed("v0", v0))
    if o["use_gate"]:
        q = normed("q_fixed", state[f"{name}.latent_q_fixed"]) + state[f"{name}.gate_logit"][:, None, None] * q
    return route(state, name, normed("q", q), normed("k", k), v)


def token_attention(state, name, tokens):
    return attend(*(tokens @ state[f"{name}.to_{part}.weight"].T for part in "qkv"))


def transolver(state, name, x, o):
    u, w = (split(linear(state, f"{name}.in_project_{part}", x), o["num_heads"]) for part in ("fx", "x"))
    temperature = np.clip(state[f"{name}.temperature"], 0.1, 5)
    a = softmax(linear(state, f"{name}.in_project_slice", w) / temperature, -1)
    return linear(state, f"{name}.to_out.0", merge_heads(a @ token_attention(state, name, slice_means(a, u))))


def transolverpp(state, name, x, o):
    return adaptive_attention(state, name, x, o["num_heads"], o.get("uniforms"))


def transolver3(state, name, x, o):
    """As the formula has it: projections of slices; halves of `in_project` are the value and the slice map."""
    c, h = x.shape[-1], o["num_heads"]
    weight, bias = state[f"{name}.in_project.weight"], state[f"{name}.in_project.bias"]
    w = split(x @ weight[c:].T + bias[c:], h)
    a = softmax(linear(state, f"{name}.in_project_slice", w) / state[f"{name}.temperature"], -1)
    means = np.einsum("bhnm,bnc->bhmc", a, x) / (a.sum(2)[..., None] + 1e-5)
    maps = weight[:c].reshape(h, -1, c)
    tokens = np.einsum("bhmc,hdc->bhmd", means, maps) + bias[:c].reshape(h, 1, -1)
    out = state[f"{name}.to_out_linear.weight"].reshape(c, h, -1)
    read = np.einsum("bhmd,chd->bhmc", token_attention(state, name, tokens), out)
    return np.einsum("bhnm,bhmc->bnc", a, read) + state[f"{name}.to_out_linear.bias"]


def set_attention(state, name, a, b, o):
    """The block of the Set Transformer: queries a, keys b."""
    q, k, v = (linear(state, f"{name}.fc_{part}", t) for part, t in (("q", a), ("k", b), ("v", b)))
    heads = (split(t, o["num_heads"]) for t in (q, k, v))
    y = q + merge_heads(attend(*heads, scale=q.shape[-1] ** -0.5))
    y = norm(state, f"{name}.ln0", y, {})
    hidden = feed_forward_activation(o["act"])(linear(state, f"{name}.fc_o", y))
    return norm(state, f"{name}.ln1", y + hidden, {})


def set_transformer(state, name, x, o):
    inducing = np.broadcast_to(state[f"{name}.I"], (len(x), *state[f"{name}.I"].shape[1:]))
    return set_attention(state, f"{name}.mab1", x, set_attention(state, f"{name}.mab0", inducing, x, o), o)


def luna_attention(state, name, x, p, o):
    def heads(part, t, normed=None):
        t = split(linear(state, f"{name}.{part}_proj", t), o["num_heads"])
        return t if normed is None else norm(state, f"{name}.{normed}_norm", t, o, o["qk_norm"])

    yp = merge_heads(attend(heads("pq", p, "q"), heads("pk", x, "k"), heads("pv", x)))
    yx = merge_heads(attend(heads("q", x, "q"), heads("k", yp, "k"), heads("v", yp)))
    return linear(state, f"{name}.out_proj", yx), yp


MIXERS = {
    "backbone_mha": mha,
    "backbone_flare": flare,
    "backbone_simplifiedflarepp": simplifiedflarepp,
    "backbone_flarepp": gated,
    "backbone_flarepp_ablations": flarepp_ablations,
    "backbone_transolver": transolver,
    "backbone_transolverpp": transolverpp,
    "backbone_transolver3": transolver3,
    "flarepp": gated,
    "flare_pp": flare_pp,
    "set_transformer": set_transformer,
}
# Models whose feed-forward parts have residuals where the widths agree.
_RESIDUAL = ("flarepp", "flare_pp")


def forward(model_type, state, x, options):
    """Return the prediction of any of the models from its complete options."""
    state = {name: np.asarray(value, np.float64) for name, value in state.items()}
    act, epsilon = activation(options["act"]), 2.0**-23 if model_type == "set_transformer" else EPSILON
    residual = model_type in _RESIDUAL
    attention, mlp = ("attn", "ffn") if model_type == "set_transformer" else ("mixer", "ffn")
    attention, mlp = ("att", "mlp") if model_type == "luna" else (attention, mlp)
    x = residual_mlp(state, "in_proj", np.asarray(x, np.float64), act, input_residual=False)
    packed = np.broadcast_to(state.get("packed_embed", 0.0), (len(x), *np.shape(state.get("packed_embed", 0.0))))
    for i in range(options["num_blocks"]):
        block = f"blocks.{i}"
        normed = norm(state, f"{block}.norm1", x, options, epsilon=epsilon)
        if model_type == "luna":
            p = norm(state, f"{block}.norm_p", packed, options)
            mixed, read = luna_attention(state, f"{block}.att", normed, p, options)
            packed = packed + read
        else:
            mixed = MIXERS[model_type](state, f"{block}.{attention}", normed, options)
        x = x + mixed
        normed = norm(state, f"{block}.norm2", x, options, epsilon=epsilon)
        x = x + residual_mlp(state, f"{block}.{mlp}", normed, act, residual, residual)
    x = norm(state, "out_proj.0", x, options, on=options["out_proj_norm"], epsilon=epsilon)
    return residual_mlp(state, "out_proj.1", x, act, output_residual=False)
