"""Generating tokens: prompts in pieces of one size, then one compiled burst of steps again and again."""

import math
import numbers
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from flare_jax import params as model_params
from flare_jax.checks import check_integer, check_seed
from flare_jax.models.language.decoder import DecoderState

# A cache of keys and values has room for a multiple of these tokens, so that few sizes are compiled.
_ROOM = 1024
# Least number that float32 keeps: lower temperatures and shares would be 0.
_LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn: at `temperature`, 0 for the likeliest one, among the `top_k` likeliest (0: all).

    `top_p` keeps the likeliest tokens that together have at least this probability. Raises ValueError for values out of
    range.
    """

    temperature: float | int = 1.0
    top_k: int = 0
    top_p: float | int = 1.0

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Real) or isinstance(value, bool):
                raise ValueError(f"{name} is {value!r} but must be a number; set {name} accordingly")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature is {self.temperature} but must be at least 0; 0 takes the likeliest token")
        check_integer("top_k", self.top_k, minimum=0)
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p} but must be above 0 and at most 1; 1 keeps all tokens")


class _Progress(NamedTuple):
    """Where generation is: states, logits of the next tokens, which rows go on, how many tokens are left `[B]`."""

    state: DecoderState
    logits: jax.Array
    active: jax.Array
    left: jax.Array


def sample_tokens(logits: Float[Array, "B V"], keys: Key[Array, "B"], sampling: Sampling) -> Int[Array, "B"]:
    """Return a token for every row, each from its own key."""
    if sampling.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    # Without their largest one, which is a common factor of what follows, no low temperature makes logits infinite.
    logits = logits - jnp.max(logits, axis=-1, keepdims=True)
    logits = logits / max(sampling.temperature, _LEAST)
    if 0 < sampling.top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, sampling.top_k)[0][:, -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if sampling.top_p < 1:
        order = -jnp.sort(-logits, axis=-1)
        before = jnp.cumsum(jax.nn.softmax(order, axis=-1), axis=-1) - jax.nn.softmax(order, axis=-1)
        # The likeliest token is always kept: nothing is before it.
        least = jnp.min(jnp.where(before < max(sampling.top_p, _LEAST), order, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def _in_compute_dtype(graphdef: nnx.GraphDef, params: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Return the parameters with the large matrices as products take them: single tokens are as fast as these are read.

    The map to what is kept computes in float32.
    """
    dtype = model_params.merge(graphdef, params).dtype

    def narrow(name: str) -> bool:
        large = name.endswith(("_proj.kernel", "lm_head.kernel", "embedding"))
        return large and not name.endswith("forget_proj.kernel")

    return {name: jnp.asarray(value, dtype if narrow(name) else None) for name, value in params.items()}


class Generator:
    """Continues batches of prompts with a decoder; compiles one piece of prompts and one burst per number of rows.

    `piece` is the number of prompt tokens that are read at a time, so that memory does not depend on their length, and
    `burst` the number of tokens between two looks at the result. Random keys depend on the seed, the prompt and
    the position alone: a prompt has the same continuation whatever stands beside it, and others have their own chance.
    """

    def __init__(
        self,
        graphdef: nnx.GraphDef,
        params: Mapping[str, Any],
        sampling: Sampling | None = None,
        *,
        stop: int | None = None,
        piece: int = 512,
        burst: int = 16,
    ):
        self._graphdef, self._params = graphdef, _in_compute_dtype(graphdef, params)
        self._vocab_size = model_params.merge(graphdef, params).vocab_size
        self._sampling, self._stop = sampling or Sampling(), stop
        self._piece, self._burst_size = check_integer("piece", piece), check_integer("burst", burst)
        self._read = jax.jit(self._read_piece, donate_argnums=(1, 2))
        self._burst = jax.jit(self._run_burst, donate_argnums=1)

    def __call__(self, prompts: Sequence[Sequence[int]], count: int, seed: int = 0) -> Iterator[list[list[int]]]:
        """Yield the next tokens of every prompt, burst by burst, until each has `count` of them or met the stop token.

        Raises ValueError, before anything is yielded, for an empty prompt, or none, and for what is no token.
        """
        check_integer("count", count)
        key = jax.random.key(check_seed("seed", seed))
        if not prompts or not all(len(prompt) for prompt in prompts):
            raise ValueError("a prompt is empty, and there is nothing to go on from; give at least one token")
        for prompt in prompts:
            for token in prompt:
                if not isinstance(token, numbers.Integral) or not 0 <= token < self._vocab_size:
                    raise ValueError(
                        f"a prompt holds {token!r}; its tokens are integers from 0 to {self._vocab_size - 1}"
                    )
        return self._continued(prompts, count, jax.vmap(partial(jax.random.fold_in, key))(_numbers(prompts)))

    def _continued(self, prompts: Sequence[Sequence[int]], count: int, keys: jax.Array) -> Iterator[list[list[int]]]:
        longest = max(map(len, prompts)) + count + self._burst_size
        state, logits = self._prefilled(prompts, -(-longest // _ROOM) * _ROOM)
        rows = len(prompts)
        progress = _Progress(state, logits, jnp.ones(rows, bool), jnp.full(rows, count, jnp.int32))
        while True:
            progress, tokens = self._burst(self._params, progress, keys)
            found = np.asarray(tokens)
            yield [[int(token) for token in row if token >= 0] for row in found.T]
            if not np.any(progress.active):
                return

    def _prefilled(self, prompts: Sequence[Sequence[int]], max_length: int) -> tuple[DecoderState, jax.Array]:
        """Return the state after the prompts, and the logits of what follows them."""
        lengths = np.array([len(prompt) for prompt in prompts])
        model = model_params.merge(self._graphdef, self._params)
        state = model.init_state(len(prompts), max_length)
        logits = jnp.zeros((len(prompts), model.vocab_size))
        piece = min(self._piece, max_length)
        ids = np.zeros((len(prompts), -(-lengths.max() // piece) * piece), np.int32)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt)] = prompt
        for start in range(0, ids.shape[1], piece):
            real = np.clip(lengths - start, 0, piece).astype(np.int32)
            state, logits = self._read(self._params, state, logits, ids[:, start : start + piece], real)
        return state, logits

    def _read_piece(
        self, params: Any, state: DecoderState, logits: jax.Array, ids: jax.Array, lengths: jax.Array
    ) -> tuple[DecoderState, jax.Array]:
        found, state = model_params.merge(self._graphdef, params).prefill(ids, state, lengths)
        return state, jnp.where((lengths > 0)[:, None], found, logits)

    def _run_burst(self, params: Any, progress: _Progress, row_keys: jax.Array) -> tuple[_Progress, jax.Array]:
        """Return the progress after a burst, and its tokens `[burst, B]`, -1 for rows that have ended."""
        model = model_params.merge(self._graphdef, params)

        def step(progress: _Progress, _: None) -> tuple[_Progress, jax.Array]:
            keys = jax.vmap(jax.random.fold_in)(row_keys, progress.state.position)
            tokens = sample_tokens(progress.logits, keys, self._sampling)
            going = progress.active
            if self._stop is not None:
                going = going & (tokens != self._stop)
            left = progress.left - going
            logits, state = model.decode_step(jnp.where(going, tokens, 0), progress.state, going)
            return _Progress(state, logits, going & (left > 0), left), jnp.where(going, tokens, -1)

        return jax.lax.scan(step, progress, None, self._burst_size)


def _numbers(prompts: Sequence[Sequence[int]]) -> np.ndarray:
    """Return a number for every prompt, equal for equal ones."""
    return np.array([zlib.crc32(np.asarray(prompt, np.int32).tobytes()) for prompt in prompts], np.uint32)
