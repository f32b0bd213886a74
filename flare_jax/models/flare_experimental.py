"""FLARE under a second name, so that experiments can diverge from the published model."""

from jaxtyping import Array, Bool, Float

from flare_jax.models.flare import FLARE


class FLAREExperimental(FLARE):
    """Same arguments, mathematics and parameter names as FLARE, without the scores."""

    def __call__(
        self, x: Float[Array, "B N C_in"], mask: Bool[Array, "B N"] | None = None
    ) -> Float[Array, "B N C_out"]:
        """Return the prediction in float32."""
        return super().__call__(x, mask)
