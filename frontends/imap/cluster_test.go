package imap

import (
	"testing"

	"hongyan/cluster/clustertest"
)

// TestOnCluster runs every test that needs mailboxes on one real cluster, each with an account of its own.
func TestOnCluster(t *testing.T) {
	c := clustertest.Start(t, "south-china", "north-china", "overseas")
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *clustertest.Cluster)
	}{
		{"clear text", testClearText},
		{"logins", testLogins},
		{"mailboxes", testMailboxes},
		{"list", testList},
		{"names", testNames},
		{"sections", testSections},
		{"many sections", testManySections},
		{"structure", testStructure},
		{"append", testAppend},
		{"large messages", testLarge},
		{"flags", testFlags},
		{"read only", testReadOnly},
		{"copy and move", testCopyMove},
		{"updates", testUpdates},
		{"changes in parts", testParts},
		{"vanished messages", testVanished},
		{"silent store", testSilentStore},
		{"idle", testIdle},
		{"search", testSearch},
		{"saved search", testSavedSearch},
		{"sort", testSort},
		{"thread", testThread},
		{"object ids", testObjectIDs},
		{"within", testWithin},
		{"preview", testPreview},
		{"partial", testPartial},
		{"unavailable", testUnavailable},
		{"broken streams", testBrokenStreams},
		{"lost content", testLostContent},
		{"deleted mailbox", testDeletedMailbox},
		{"panic", testPanic},
		{"limits", testLimits},
		{"shutdown", testShutdown},
		{"client library", testClientLibrary},
		{"many messages", testMany},
		{"stress", testStress},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, c) })
	}
}
