package custody

import (
	"testing"

	"hongyan/engine/codec/codectest"
)

func TestFormats(t *testing.T) {
	codectest.Golden(t, "testdata/formats-v1.txt", []codectest.Sample{
		{Name: "request", Value: &Request{Rewrap: true, NewKey: true}},
		{Name: "report", Value: &Report{Node: "n", Keys: []Use{{Key: "k", Files: 3}}, Plain: 1, PlainRest: true, Left: 2, Error: "e"}},
	})
}
