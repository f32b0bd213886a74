"""Arguments that do not fit are refused in one sentence with the value and the remedy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from kernels.residual_mlp import HeadNorm, Norm, Projection, residual_mlp, residual_mlp_branches
from kernels.residual_mlp.validation import check_activation, check_branches

X = jnp.zeros((5, 8))
WEIGHTS = (jnp.zeros((8, 12)), jnp.zeros((12, 12)), jnp.zeros((12, 4)))
BIASES = (jnp.zeros(12), jnp.zeros(12), jnp.zeros(4))
NORM = Norm(scale=jnp.ones(8), bias=jnp.zeros(8), kind="layer", epsilon=1e-5)
PROJECTION = Projection(weight=jnp.zeros((8, 8)), bias=jnp.zeros(8), skip=jnp.zeros((5, 8)))

REFUSED = {
    "no weights": ({"weights": (), "biases": ()}, r"0 weights and 0 biases; give at least one weight"),
    "bias missing": ({"biases": BIASES[:2]}, r"3 weights and 2 biases; .* one bias for each"),
    "width of x": ({"x": jnp.zeros((5, 9))}, r"weight 0 has shape \(8, 12\), but x has the width 9; give"),
    "chain": ({"weights": (WEIGHTS[0], WEIGHTS[2], WEIGHTS[2])}, r"weight 1 has shape \(12, 4\)|bias 1 has shape"),
    "inner not square": (
        {
            "weights": (WEIGHTS[0], jnp.zeros((12, 10)), jnp.zeros((10, 4))),
            "biases": (BIASES[0], jnp.zeros(10), BIASES[2]),
        },
        r"weight 1 has shape \(12, 10\); inner weights are residual, make it square",
    ),
    "bias shape": ({"biases": (BIASES[0], BIASES[0], BIASES[0])}, r"bias 2 has shape \(12,\); give \(4,\)"),
    "weight of rank 1": ({"weights": (jnp.zeros(8), *WEIGHTS[1:])}, r"weight 0 has shape \(8,\)"),
    "scale": ({"norm": replace(NORM, scale=jnp.ones(7))}, r"norm.scale has shape \(7,\); give \(8,\)"),
    "norm bias": ({"norm": replace(NORM, bias=jnp.ones(7))}, r"norm.bias has shape \(7,\); give \(8,\)"),
    "epsilon": ({"norm": replace(NORM, epsilon=0.0)}, r"norm.epsilon is 0.0; give a positive number"),
    "projection weight": (
        {"projection": replace(PROJECTION, weight=jnp.zeros((9, 8)))},
        r"projection.weight has shape \(9, 8\) and x has \(5, 8\); give a weight \[8, C\]",
    ),
    "projection bias": (
        {"projection": replace(PROJECTION, bias=jnp.zeros(9))},
        r"projection.bias has shape \(9,\); give \(8,\)",
    ),
    "skip": ({"projection": replace(PROJECTION, skip=jnp.zeros((4, 8)))}, r"projection.skip has shape \(4, 8\)"),
    "dtype of skip": (
        {"projection": replace(PROJECTION, skip=jnp.zeros((5, 8), jnp.bfloat16))},
        r"projection.skip has shape .* dtype bfloat16; give .* float32",
    ),
    "outer residual": ({"outer_residual": True}, r"outer_residual adds an input of width 8 to a result of width 4"),
    "precision": ({"precision": "precise"}, r"precision is 'precise'; give 'default'"),
    "implementation": ({"implementation": "cuda"}, r"implementation is 'cuda'; give one of reference, pallas"),
    "empty": ({"x": jnp.zeros((0, 8)), "implementation": "pallas"}, r"'pallas' cannot serve x of shape \(0, 8\)"),
    "float16": (
        {"x": jnp.zeros((5, 8), jnp.float16), "implementation": "pallas"},
        r"'pallas' cannot serve x of dtype float16, only float32 and bfloat16; use 'reference'",
    ),
    "too wide": (
        {
            "weights": (jnp.zeros((8, 300)), jnp.zeros((300, 4))),
            "biases": (jnp.zeros(300), jnp.zeros(4)),
            "implementation": "pallas",
        },
        r"'pallas' cannot serve width 300, only up to 256",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_arguments_are_refused(changes, message):
    arguments = {"x": X, "weights": WEIGHTS, "biases": BIASES} | changes
    with pytest.raises(ValueError, match=message) as error:
        residual_mlp(**arguments, residual_in=True, residual_out=True)
    assert "\n" not in str(error.value)


def test_what_types_would_refuse_is_refused_without_them_too():
    # The suite checks types at run time; these are the sentences that users see.
    with pytest.raises(ValueError, match=r"activation is 'gelu'; give one of gelu_tanh, gelu_erf, silu"):
        check_activation("gelu")
    with pytest.raises(ValueError, match=r"branches is empty; give at least one pair"):
        check_branches([])
    with pytest.raises(ValueError, match=r"branch 1 is a tuple; give a pair"):
        check_branches([(WEIGHTS, BIASES), (WEIGHTS, BIASES, BIASES)])


def test_the_branch_at_fault_is_named():
    with pytest.raises(ValueError, match=r"weight 0 of branch 1 has shape \(12, 4\)"):
        residual_mlp_branches(X, [(WEIGHTS, BIASES), (WEIGHTS[2:], BIASES[2:])], residual_in=True, residual_out=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, r"head_norms\[0\] has 3 heads for a result of width 4; give a divisor of it"),
        ({"heads": 0}, r"head_norms\[0\] has 0 heads for a result of width 4"),
        ({"scale": jnp.ones(4)}, r"head_norms\[0\].scale has shape \(4,\); give \(2,\)"),
        ({"epsilon": -1.0}, r"head_norms\[0\].epsilon is -1.0; give a positive number"),
    ],
    ids=["heads", "none", "scale", "epsilon"],
)
def test_norms_of_heads_that_do_not_fit_are_refused(changes, message):
    norm = replace(HeadNorm(scale=None, bias=None, kind="layer", epsilon=1e-5, heads=2), **changes)
    flags = {"residual_in": True, "residual_out": True}
    with pytest.raises(ValueError, match=message) as error:
        residual_mlp_branches(X, [(WEIGHTS, BIASES)], head_norms=[norm], **flags)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"there are 1 head_norms for 2 branches; give one, or None, for each"):
        residual_mlp_branches(X, 2 * [(WEIGHTS, BIASES)], head_norms=[None], **flags)


def test_configured_precision_that_only_xla_knows():
    arguments = {"x": X, "weights": WEIGHTS, "biases": BIASES, "residual_in": True, "residual_out": True}
    with jax.default_matmul_precision("BF16_BF16_F32"), pytest.raises(ValueError, match=r"precision 'BF16_BF16_F32'"):
        residual_mlp(**arguments, implementation="pallas")
