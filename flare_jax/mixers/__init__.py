"""Token mixers [B, N, C] → [B, N, C], shared by the PDE and the sequence models."""

from flare_jax.mixers.adaptive_slice_attention import AdaptiveSliceAttention
from flare_jax.mixers.attention import softmax_attention
from flare_jax.mixers.block import PreNormBlock
from flare_jax.mixers.causal_attention import CausalAttention, CausalAttentionConfig
from flare_jax.mixers.causal_flare_attention import CausalFlareAttention, CausalFlareConfig
from flare_jax.mixers.cross_attention import CrossAttention, CrossAttentionBlock
from flare_jax.mixers.damped_ema import DampedEMA
from flare_jax.mixers.ema_attention import EmaAttention, EmaConfig
from flare_jax.mixers.flare_attention import FlareAttention, FlareAttentionConfig
from flare_jax.mixers.gated_linear_mixer import GatedLinearAttention, GatedLinearConfig
from flare_jax.mixers.learned_slice_attention import (
    DroppedSliceConfig,
    LearnedSliceAttention,
    MixedSliceAttention,
    MixedSliceConfig,
)
from flare_jax.mixers.linear_attention import (
    LinearAttention,
    LinearAttentionBlock,
    LinearAttentionConfig,
    linear_attention,
)
from flare_jax.mixers.linear_no import LinearNOAttention, LinearNOBlock, LinearNOConfig
from flare_jax.mixers.linformer import LinformerAttention, LinformerBlock, LinformerConfig
from flare_jax.mixers.mode_projection import modes_to_points, points_to_modes
from flare_jax.mixers.multilinear_attention import MultilinearAttention, MultilinearConfig
from flare_jax.mixers.normalized_linear_attention import NormalizedLinearAttention
from flare_jax.mixers.performer import PerformerAttention, PerformerBlock, PerformerConfig, redraw_features
from flare_jax.mixers.quad_attention import QuadAttention
from flare_jax.mixers.selective_scan import selective_scan
from flare_jax.mixers.self_attention import SelfAttention, SelfAttentionBlock, SelfAttentionConfig
from flare_jax.mixers.slice_attention import GridSliceConfig, SliceAttention, SliceConfig
from flare_jax.mixers.slice_tokens import SliceTokenAttention
from flare_jax.mixers.state_attention import StateBlockConfig
from flare_jax.mixers.state_space import BidirectionalMamba2, Hydra, StateSpaceSizes
from flare_jax.mixers.strassen_attention import StrassenAttention
from flare_jax.mixers.third_order_attention import ThirdOrderAttention, ThirdOrderConfig
from flare_jax.mixers.triple_attention import TripleAttention, TripleConfig

__all__ = [
    "AdaptiveSliceAttention",
    "BidirectionalMamba2",
    "CausalAttention",
    "CausalAttentionConfig",
    "CausalFlareAttention",
    "CausalFlareConfig",
    "CrossAttention",
    "CrossAttentionBlock",
    "DampedEMA",
    "DroppedSliceConfig",
    "EmaAttention",
    "EmaConfig",
    "FlareAttention",
    "FlareAttentionConfig",
    "GatedLinearAttention",
    "GatedLinearConfig",
    "GridSliceConfig",
    "Hydra",
    "LearnedSliceAttention",
    "LinearAttention",
    "LinearAttentionBlock",
    "LinearAttentionConfig",
    "LinearNOAttention",
    "LinearNOBlock",
    "LinearNOConfig",
    "LinformerAttention",
    "LinformerBlock",
    "LinformerConfig",
    "MixedSliceAttention",
    "MixedSliceConfig",
    "MultilinearAttention",
    "MultilinearConfig",
    "NormalizedLinearAttention",
    "PerformerAttention",
    "PerformerBlock",
    "PerformerConfig",
    "PreNormBlock",
    "QuadAttention",
    "SelfAttention",
    "SelfAttentionBlock",
    "SelfAttentionConfig",
    "SliceAttention",
    "SliceConfig",
    "SliceTokenAttention",
    "StateBlockConfig",
    "StateSpaceSizes",
    "StrassenAttention",
    "ThirdOrderAttention",
    "ThirdOrderConfig",
    "TripleAttention",
    "TripleConfig",
    "linear_attention",
    "modes_to_points",
    "points_to_modes",
    "redraw_features",
    "selective_scan",
    "softmax_attention",
]
