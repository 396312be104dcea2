// Package relocate moves accounts from one shard to another while their owners read, write and get mail. It runs at the node that leads the directory.
//
// The old shard serves the account while its keys are copied (engine/index/place.go). The first copy is a comparison: the account's keys in a view of
// the old shard and in one of the new shard are read side by side, and what differs is imported. So it may be broken off and begun again anywhere. Each
// copy after it reads what has changed since (engine/index/since.go), so that a mailbox of a million messages is frozen no longer than a small one; small
// accounts, which most are, are compared again instead, which asks both shards once and not five times.
// The steps of one account:
//
//  1. Claim: the directory gives whoever works on the move a fence, above all before. Both shards refuse what an earlier one still says. Accounts that come next
//     are claimed together.
//  2. Arrive: the new shard takes keys of the account, and shows them to nobody.
//  3. Copy, until little differs.
//  4. Freeze: the old shard takes no more changes of the account. Who has some waits; readers do not.
//  5. Copy what has changed since. Both hold the same now, down to UIDs, UIDVALIDITY and modseqs.
//  6. Release: the old shard sends everybody on to the new one, with the entry that has all of it, so that nobody sees there less than he has seen
//     here. Nobody can have the account for a moment.
//  7. Activate: the new shard has the account.
//  8. The directory enters the account's new shard and home.
//  9. Drop: the old shard removes what it still has. What remains is a word about where the account went. Nobody waits for this, so several accounts take it together.
//
// Invariants:
//
//   - At most one shard takes changes of an account, or shows it: the new one is activated after the old one has given it away.
//   - A frozen account is thawed only by who knows that the old shard has not given it away: in the same run before 6 was tried, or when the shard says so.
//   - What the new shard has is complete when the old one gives the account away, and an old shard that has is never asked for it again.
//   - The old shard's references are dropped only after 8 was entered, and the new shard's were there before: package collect counts the entries of 8.
//
// Accounts that go the same way take their steps together (convoy), in one log entry from feature.Bundles on, for most of what a small one costs is commits and their fsyncs.
//
// All state is in the directory and the two shards: after a crash at any moment the next leader goes through the steps again, and those that were taken
// say so. An account is frozen for the time of a small copy and five commits; if the leader dies meanwhile, until the next one has come to it, who
// looks after such accounts first.
package relocate
