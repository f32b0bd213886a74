"""All operations, for tests that go over their tables."""

from kernels._operation import Operation
from kernels.causal_flare import table as causal_flare
from kernels.causal_linear_attention import table as causal_linear_attention
from kernels.flare_mixer import table as flare_mixer
from kernels.gather import table as gather
from kernels.residual_mlp import table as residual_mlp
from kernels.triple_attention import table as triple_attention

TABLES = (flare_mixer, gather, residual_mlp, triple_attention, causal_linear_attention, causal_flare)
OPERATIONS: dict[str, Operation] = {
    x.name: x for x in [*(table.OPERATION for table in TABLES), causal_linear_attention.GATED]
}
