package mailbox

import (
	"testing"

	"hongyan/engine/index"
)

// do applies a command and gives its result, which the window of remembered requests must be able to hold: a result that
// it cannot hold would stop the shard on every replica.
func (r *replica) do(t *testing.T, c Command) *Result {
	t.Helper()
	body, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b := r.apply(t, body)[0]
	if len(b) > index.MaxResultBytes {
		t.Fatalf("a result of %d bytes", len(b))
	}
	result, err := DecodeResult(b)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// A delivery that a thousand accounts refuse says so to each, and still fits.
func TestManyRefusalsFit(t *testing.T) {
	r := newReplica(t)
	c := &Deliver{Message: Message{Summary: make([]byte, index.MaxSummaryBytes+1)}}
	for i := range 1000 {
		c.Accounts = append(c.Accounts, uint64(1+i))
	}
	if result := r.do(t, Command{Deliver: c}); len(result.Refused) != 1000 {
		t.Fatalf("%d refusals", len(result.Refused))
	}
}
