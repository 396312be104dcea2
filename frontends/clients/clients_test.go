package clients

import "testing"

// TestClients runs one program after the other against one cluster.
func TestClients(t *testing.T) {
	w := start(t, 16)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *world)
	}{
		{"curl", testCurl},
		{"python", testPython},
		{"mbsync", testMbsync},
		{"fetchmail", testFetchmail},
		{"getmail", testGetmail},
		{"offlineimap", testOfflineIMAP},
		{"mutt", testMutt},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, w) })
	}
}
