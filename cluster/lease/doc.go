// Package lease sees to it that of those who want an account for themselves, which POP3 sessions do (RFC 1939 section 4), one has it in the whole
// cluster.
//
// The leader of the account's shard says who that is. It keeps in memory who has which account, and nothing is written or put in a log: what is asked for
// this often and is over this soon would cost two commits a login. What a leader knows dies with its office, so a lease is short: Hold by the clock
// of who has it, from the moment at which it asked, and Term by the leader's, from the moment at which it answered. Both measure how long something takes, so
// clocks need not agree, only run at about the same pace: Term is a quarter more than Hold. Both are short, for when a region is gone nobody logs in before Term is over.
//
// The steps of taking one:
//
//  1. The node notes that a session of its own wants the account, and asks the leader. It asks again, under the same session number, until it is answered.
//  2. The leader has the account in its state, and a majority says after the question that it leads.
//  3. If it knows of another session, it asks that one's node. One that is gone there frees the account; one that is not, or does not answer, has it until its lease ends.
//  4. If it knows of none it notes this one. It may be new in office, or the account new in the shard: in the first Term of either it asks every node whether a
//     session there has the account, which counts, or wants it, which does not, so that of two that come at once one gets it. While a node does not answer nothing
//     is granted until Term is over: a node that is dead costs those who log in then that wait. Below feature.Brisk Term is longer: earlier programs' Hold is 8 s.
//  5. It answers.
//
// A node renews what its sessions have all 0.4 s, with one call for each shard that there are some of. A new leader takes a renewal for an answer to step 4,
// and the session counts on what it says if it comes while it has the account: then no other leader has given that away in between.
// A session that ends tells the leader, and nothing depends on that (step 3). What ran out while no leader answered is taken again, by the same calls or when
// the session next looks, if nobody has come between.
//
// Why no two sessions have an account at once. Let leader L grant it to X, which asked at t. By step 2 no later leader was in office at t.
//
//   - The same leader knows X until its own clock has gone Term past t, and X counts on Hold. If the account goes away and comes back within that time the leader forgets X, and it is
//     as if the account was new in the shard.
//   - A later leader, or that of another shard which the account has moved to since, came into office, or got the account, after t. For Term it grants nothing before
//     every node has answered, X's among them. X says that it has the account, or that it has not, and then takes no more what it asked for before it was asked (asked); what it
//     asks for later L cannot grant by step 2. When Term is over X's lease is as well.
//   - A node that was started anew has no sessions of before.
//
// A session that stops for long between a look at its lease and what it does then is not stopped from doing it: that rests on UIDs, see package pop3 of the frontends.
// A node whose program is older has no part in it: where one is asked as the leader each node is left to itself, and of its sessions nobody knows.
package lease
