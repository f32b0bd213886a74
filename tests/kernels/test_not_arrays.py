"""What is no array is refused by every operation in one sentence, by the name of its argument."""

import jax.numpy as jnp
import pytest

from kernels import (
    causal_flare,
    causal_linear_attention,
    flare_mixer,
    flarepp_mixer,
    gated_linear_attention,
    gather,
    residual_mlp,
    stablemax_flare,
    triple_attention,
)
from kernels.causal_flare import decode_step, init_state
from tests.shape_checks import paused

POINTS, TOKEN, LATENTS = jnp.ones((1, 5, 2, 4)), jnp.ones((1, 2, 4)), jnp.ones((2, 3, 4))
MIXER = {"q": LATENTS, "k": POINTS, "v": POINTS}
LINEAR = {"q": POINTS, "k": POINTS, "v": POINTS}
PLUS_PLUS = {"q0": LATENTS, "q_fixed": LATENTS, "gate": jnp.ones(2), "k0": POINTS, "k": POINTS, "v": POINTS}
MASK = ("mask",)
# The arrays of each operation, its other arguments, and the arrays that may be left out.
OPERATIONS = {
    flare_mixer: (MIXER, {"scale": 1.0}, ("mask", "q_decode", "k_decode")),
    gather: ({"q": LATENTS, "k": POINTS}, {}, ("mask", "v")),
    flarepp_mixer: (PLUS_PLUS, {"scale": 1.0}, ("mask", "v0")),
    causal_flare: (MIXER, {"scale": 1.0}, ("mask", "log_decay", "k_decode", "initial_state")),
    stablemax_flare: (MIXER, {"scale": 1.0}, ("mask", "write_gate", "initial_state")),
    decode_step: ({**MIXER, "k": TOKEN, "v": TOKEN, "state": init_state(1, 2, 3, 4)}, {"scale": 1.0}, ()),
    causal_linear_attention: (LINEAR, {}, ("mask", "initial_state")),
    gated_linear_attention: ({**LINEAR, "log_decay": -POINTS}, {}, ("mask", "initial_state")),
    triple_attention: ({**dict.fromkeys(("q1", "q2", "k1", "k2"), POINTS), "v": POINTS}, {}, ()),
    residual_mlp: ({"x": POINTS}, {"weights": [jnp.ones((4, 4))], "biases": [jnp.ones(4)],
                                   "residual_in": True, "residual_out": True}, ()),
}  # fmt: skip
CASES = [(op, name) for op, (arrays, _, more) in OPERATIONS.items() for name in (*arrays, *more)]


@pytest.mark.parametrize(("operation", "name"), CASES, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_one_sentence(operation, name):
    arrays, others, _ = OPERATIONS[operation]
    operation(**arrays, **others)
    with paused(), pytest.raises(ValueError, match=f"^({name}|the state's [a-z]+) is .*; give an array"):
        operation(**{**arrays, **others, name: [1.0]})
    if name in arrays:
        with paused(), pytest.raises(ValueError, match=f"^({name}|the state's [a-z]+) is None; give an array"):
            operation(**{**arrays, **others, name: None})


@pytest.mark.parametrize("weights", [[None], [jnp.ones((4, 4)), 2.0]])
def test_weights_are_arrays(weights):
    with paused(), pytest.raises(ValueError, match=r"weight \d is (None|a float); give an array"):
        residual_mlp(POINTS, weights, [jnp.ones(4)] * len(weights), residual_in=True, residual_out=True)
