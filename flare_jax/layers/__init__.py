"""Small parts shared by the mixers and models."""

from flare_jax.layers.coordinate_embedding import embed_coordinates
from flare_jax.layers.depthwise_convolution import DepthwiseConvolution
from flare_jax.layers.dropout import dropout
from flare_jax.layers.embeddings import LearnedPositions, SinusoidalPositions, TokenEmbedding
from flare_jax.layers.feature_maps import FEATURE_MAPS, make_feature_map
from flare_jax.layers.feed_forward import FeedForward
from flare_jax.layers.gated_norm import GatedRMSNorm
from flare_jax.layers.linear import Linear
from flare_jax.layers.norms import LayerNorm, RMSNorm, make_norm
from flare_jax.layers.output_projection import OutputProjection
from flare_jax.layers.padding import zero_padding
from flare_jax.layers.pointwise_mlp import PointwiseMLP
from flare_jax.layers.residual_mlp import ResidualMLP, apply_branches
from flare_jax.layers.rotary import RotaryEmbedding
from flare_jax.layers.structured_grid import GridConvolution, check_grid_points, check_grid_shape
from flare_jax.layers.supernode_pooling import SupernodePooling
from flare_jax.layers.supernodes import draw_supernodes, nearest_within, spread_supernodes
from flare_jax.layers.time_embedding import TimeEmbedding, check_time, sinusoidal_embedding
from flare_jax.layers.unified_position import check_unified_position, unified_position_dim, unified_positions

__all__ = [
    "FEATURE_MAPS",
    "DepthwiseConvolution",
    "FeedForward",
    "GatedRMSNorm",
    "GridConvolution",
    "LayerNorm",
    "LearnedPositions",
    "Linear",
    "OutputProjection",
    "PointwiseMLP",
    "RMSNorm",
    "ResidualMLP",
    "RotaryEmbedding",
    "SinusoidalPositions",
    "SupernodePooling",
    "TimeEmbedding",
    "TokenEmbedding",
    "apply_branches",
    "check_grid_points",
    "check_grid_shape",
    "check_time",
    "check_unified_position",
    "draw_supernodes",
    "dropout",
    "embed_coordinates",
    "make_feature_map",
    "make_norm",
    "nearest_within",
    "sinusoidal_embedding",
    "spread_supernodes",
    "unified_position_dim",
    "unified_positions",
    "zero_padding",
]
