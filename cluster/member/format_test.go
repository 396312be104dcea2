package member

import (
	"testing"

	"hongyan/engine/codec/codectest"
)

// Nodes of neighbouring versions gossip with each other.
func TestFormats(t *testing.T) {
	codectest.Golden(t, "testdata/formats-v1.txt", []codectest.Sample{
		{Name: "meta", Value: &Meta{Region: "south", Roles: []string{"storage", "frontend"}, Version: "1.0", HTTP: "http://10.0.0.1:8080"}},
	})
}
