package imap

import (
	"testing"

	"hongyan/cluster/clustertest"
)

// TestOnCluster runs every test that needs mailboxes on one real cluster, each with an account of its own.
func TestOnCluster(t *testing.T) {
	c := clustertest.StartNodes(t, clustertest.Indexed("south-china"), clustertest.Indexed("north-china"), clustertest.Indexed("overseas"))
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
		{"several messages", testMultiappend},
		{"replace", testReplace},
		{"save dates", testSaveDates},
		{"large messages", testLarge},
		{"one moment", testOneMoment},
		{"flags", testFlags},
		{"keywords", testKeywords},
		{"recent", testRecent},
		{"recent later", testRecentLater},
		{"read only", testReadOnly},
		{"copy and move", testCopyMove},
		{"copies of many messages", testCopyMany},
		{"updates", testUpdates},
		{"changes in parts", testParts},
		{"vanished messages", testVanished},
		{"silent store", testSilentStore},
		{"a store that is overtaken", testStoreOvertaken},
		{"stores sent at once", testStoreRun},
		{"stores sent at once, at random", testStoreRuns},
		{"idle", testIdle},
		{"notify", testNotify},
		{"notify of what is gone", testNotifyGone},
		{"notify of names", testNotifyNames},
		{"notify of own changes", testNotifyOwn},
		{"annotations", testMetadata},
		{"rights", testRights},
		{"shared mailboxes", testShared},
		{"rights that lack", testLacking},
		{"rights withdrawn", testWithdrawn},
		{"annotations of rights withdrawn", testWithdrawnNotes},
		{"notify of shared mailboxes", testNotifyShared},
		{"copies between accounts", testAcross},
		{"moves out of shared mailboxes", testMoveOut},
		{"search", testSearch},
		{"saved search", testSavedSearch},
		{"text search", testTextSearch},
		{"modification sequences", testCondstore},
		{"conditional store", testConditionalStore},
		{"resynchronization", testQresync},
		{"resynchronization at random", testResync},
		{"modification sequences of a library", testCondstoreLibrary},
		{"sort", testSort},
		{"thread", testThread},
		{"object ids", testObjectIDs},
		{"within", testWithin},
		{"preview", testPreview},
		{"partial", testPartial},
		{"contexts", testContexts},
		{"no contexts", testNoContexts},
		{"late contexts", testContextsLater},
		{"progress", testProgress},
		{"quota", testQuota},
		{"first folders", testFirstFolders},
		{"unavailable", testUnavailable},
		{"broken streams", testBrokenStreams},
		{"lost content", testLostContent},
		{"deleted mailbox", testDeletedMailbox},
		{"panic", testPanic},
		{"limits", testLimits},
		{"shutdown", testShutdown},
		{"client library", testClientLibrary},
		{"transcripts", testTranscripts},
		{"many messages", testMany},
		{"stress", testStress},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, c) })
	}
}
