package admin

import (
	"strings"
	"testing"

	"hongyan/cluster/recovery"
)

// TestRecoverSays names nodes whose volumes are not looked through, before and after.
func TestRecoverSays(t *testing.T) {
	var out strings.Builder
	plan := &recovery.Plan{Shards: []recovery.ShardPlan{{Shard: 3, State: recovery.Recover}}, Silent: []string{"north-1", "south-2"}, Lost: []string{"north-1"}}
	if err := printPlan(&out, plan); err != nil || !strings.Contains(out.String(), "\nsouth-2 need not be given up, and do not answer") {
		t.Errorf("%v: %s", err, &out)
	}
	out.Reset()
	job := &recovery.Job{Done: true, Notes: "south-2 does not answer: no volumes were entered that only it has. "}
	if err := printJob(&out, job); err != nil || !strings.Contains(out.String(), job.Notes) || !strings.Contains(out.String(), "Not everything was looked through") {
		t.Errorf("%v: %s", err, &out)
	}
	out.Reset()
	if err := printJob(&out, &recovery.Job{Done: true}); err != nil || out.String() != "SHARD  SURVIVOR  LAST-ENTRY  OF-TIME  PUT-BACK  EXPUNGED  OPEN  NOTES\nRecovered.\n" {
		t.Errorf("%v: %q", err, &out)
	}
}
