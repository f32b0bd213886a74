"""Counting what a compiled program communicates: a text as compilers print it, and a program compiled here."""

import pytest

from benchmarks.collectives import Collective, collectives, total_bytes, total_runs

TEXT = """
HloModule jit_chunk, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%body (state: (s32[], f32[10])) -> (s32[], f32[10]) {
  %start = (f32[1,4,8]{2,1,0}, bf16[6]{0}, /*index=2*/pred[3]{0}) all-reduce-start(%a, %b, %c), to_apply=%add
  %kernel = f32[10]{0} custom-call(%a), custom_call_target="mixer"
  %tuple = (f32[10]{0}) tuple(%kernel)
  %fusion = f32[10]{0} fusion(%kernel), kind=kLoop, calls=%fused
  %done = (f32[1,4,8]{2,1,0}, bf16[6]{0}, pred[3]{0}) all-reduce-done(%start)
  ROOT %result = (s32[], f32[10]) tuple(%i, %fusion)
}

%condition (state: (s32[], f32[10])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

%wrapped (p: f32[8]) -> f32[4] {
  ROOT %scatter = f32[4]{0} reduce-scatter(%p), dimensions={0}, to_apply=%add
}

ENTRY %main (p: f32[10]) -> f32[10] {
  %gather = (f32[2,4]{1,0}, f32[8,4]{1,0}) all-gather-start(%p), dimensions={0}
  %gathered = f32[8,4]{1,0} all-gather-done(%gather)
  %async = ((f32[8]{0}), f32[4]{0}) async-start(%gathered), calls=%wrapped
  %waited = f32[4]{0} async-done(%async), calls=%wrapped
  %loop = (s32[], f32[10]{0}) while(%state), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"5"},"known_init_step":{"init":"0","step":"1"}}
  ROOT %out = f32[10]{0} get-tuple-element(%loop), index=1
}
"""


def test_sums_are_counted_with_the_rounds_of_loops():
    found = collectives(TEXT)
    assert sorted(found) == [
        Collective("all-gather", 4 * 8 * 4, 1, 0, 1),  # the loop does not need it
        Collective("all-reduce", 4 * 32 + 2 * 6 + 3, 5, 2, 2),
        Collective("reduce-scatter", 4 * 4, 1, None, 0),
    ]
    assert total_bytes(found) == 128 + 5 * 143 + 16
    assert total_runs(found) == {"all-gather": 1, "all-reduce": 5, "reduce-scatter": 1}


def test_loop_of_unknown_length():
    with pytest.raises(ValueError, match="start is in a loop of unknown length"):
        collectives(TEXT.replace("known_trip_count", "other"))


def test_text_that_is_no_program():
    with pytest.raises(ValueError, match="no ENTRY"):
        collectives("nothing")
