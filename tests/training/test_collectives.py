"""Tests of the count of collectives in HLO text."""

from training import collectives

PROGRAM = """
HloModule a_program

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %g = f32[4,8]{1,0} all-gather(%x), replica_groups={}, dimensions={0}
  ROOT %t = (s32[], f32[4]) tuple(%i, %y)
}

%condition (p: (s32[], f32[4])) -> pred[] {
  %limit = s32[]{:T(128)} constant(7)
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

%inner (p: bf16[3]) -> bf16[3] {
  ROOT %s = (bf16[3]{0}, bf16[6]{0}) all-gather-start(%p), dimensions={0}
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %r = (f32[10]{0}, bf16[2,3]{1,0:T(8,128)}) all-reduce(%a, %b), to_apply=%add
  %w = (s32[], f32[4]) while(%z), condition=%condition, body=%body
  %v = (s32[], f32[4]) while(%z), condition=%c, body=%body, \
backend_config={"known_trip_count":{"n":"2"}}
  %c = bf16[3]{0} call(%q), to_apply=%inner
  ROOT %p = f32[4]{0} collective-permute(%r), source_target_pairs={{0,1}}
}
"""


def test_collectives_in_loops_count_every_iteration():
    assert collectives.count(PROGRAM) == {
        "all-gather": (7 + 2 + 1, (7 + 2) * 4 * 32 + 2 * 6),
        "all-reduce": (1, 4 * 10 + 2 * 6),
        "collective-permute": (1, 4 * 4),
    }
