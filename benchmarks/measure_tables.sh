#!/bin/bash
# Measures on one GPU, in about nine minutes, what rows of kernels/*/table.py are filled from:
#     bash benchmarks/measure_tables.sh [FOLDER] [PYTHON]
# The tests of the kernels on a GPU (tests.log); gather and the mixer of FLARE++ against PyTorch's calls of fused attention
# (flarepp/); causal FLARE at 1024 tokens, Pallas against XLA, and causal linear attention in float32, Triton against
# Pallas (causal/); other launches of the gather, with a bound of the logits in the place of the maximum among them
# (search/), and the same for the mixer's kernels (search_mixer/). Each part stops by itself and keeps what it has.
set -u
out=${1:-out/tables}
python=${2:-python}
mkdir -p "$out"
timeout 150 "$python" -m pytest -q -m gpu tests/kernels > "$out/tests.log" 2>&1
tail -n 3 "$out/tests.log"
"$python" -m benchmarks.kernels --op=causal_flare,causal_linear_attention --shape=text_1k,long_d64 --seconds=80 \
    --implementations=xla,pallas,triton --out="$out/causal"
"$python" -m benchmarks.kernels --op=gather,flarepp_mixer --seconds=130 --implementations=xla,pallas,torch,torch-graph \
    --out="$out/flarepp"
"$python" -m benchmarks.search --op=gather --shape=million_m128 --dtype=bfloat16,float32 --seconds=70 --out="$out/search"
"$python" -m benchmarks.search --op=flare_mixer --shape=million_m128 --dtype=bfloat16 --kernel=gather,scatter --seconds=50 \
    --out="$out/search_mixer"
