import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import programs
from benchmarks.programs import Program, compile_all, largest_bytes, loop, needed_mebibytes, too_large


def test_what_does_not_trace_is_a_reason_beside_what_compiles():
    def wrong(x):
        raise TypeError("cannot be expressed\nin detail")

    good, bad = compile_all([(jnp.sin, (jnp.ones(3),)), (wrong, (jnp.ones(3),))])
    np.testing.assert_allclose(good.compiled(jnp.zeros(3)), 0.0)
    assert bad == Program(None, "TypeError: cannot be expressed")
    assert needed_mebibytes(bad) is None


def test_memory_is_arguments_results_and_temporaries():
    (program,) = compile_all([(lambda x: x * 2, (jax.ShapeDtypeStruct((1024, 1024), jnp.float32),))])
    assert needed_mebibytes(program) == pytest.approx(8.0, abs=0.1)


def test_programs_beyond_the_memory_are_not_run(monkeypatch):
    (program,) = compile_all([(lambda x: x * 2, (jax.ShapeDtypeStruct((1024, 1024), jnp.float32),))])
    assert too_large(program) == ""
    monkeypatch.setattr(programs, "memory_limit", lambda: 2**22)
    assert too_large(program).startswith("out of memory: needs 0.0 GiB")


def test_programs_with_an_array_of_half_the_memory_are_not_compiled(monkeypatch):
    monkeypatch.setattr(programs, "memory_limit", lambda: 2**22)
    many = jax.ShapeDtypeStruct((2**10, 1), jnp.float32)
    compiled, refused = compile_all([(jnp.sin, (many,)), (lambda x: jnp.sum(x @ x.T), (many,))])
    assert compiled.compiled is not None
    assert refused.error.startswith("out of memory: one array")


def test_arrays_inside_of_loops_and_custom_rules_count():
    def body(_, x):
        return x + jax.nn.relu(jnp.outer(x, x)).sum(0)

    jaxpr = jax.make_jaxpr(lambda x: jax.lax.fori_loop(0, 3, body, x))(jnp.ones(50)).jaxpr
    assert largest_bytes(jaxpr) == 4 * 50 * 50


def test_a_loop_gives_what_one_call_gives():
    def function(x, y):
        return x @ y, jnp.sin(x)

    arguments = jnp.arange(4.0).reshape(2, 2), jnp.ones((2, 2))
    looped, _ = jax.jit(loop(function, 5))(*arguments)
    jax.tree.map(np.testing.assert_array_equal, looped, function(*arguments))


def test_fatal_errors_are_told_from_others():
    assert programs.is_fatal("XlaRuntimeError: INTERNAL: CUDA error: CUDA_ERROR_ILLEGAL_ADDRESS")
    assert not programs.is_fatal("XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory")
