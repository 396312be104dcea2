// Package recovery has shards go on that have lost their majority for ever, from what is left of them, and says what may be missing.
//
// Invariants:
//
//  1. Nothing is done to a shard that has a leader, or of whose voters a majority answers with real replicas: it needs no help.
//  2. Nothing is done before an operator has declared every voter lost that does not answer, and none that is declared lost answers. That is looked at once
//     more right before they are given up, for one that has come back may be of a majority that acknowledges.
//  3. Those who are lost are fenced before a shard goes on without them: the directory gives them up first, and every node refuses their Raft messages
//     from then on (transport.Net.SetFenced). One that comes back learns of it from whoever reaches it, and stops its replicas.
//  4. Nothing is deleted. Messages that are in volumes and in no folder are entered where they were delivered to, if it is certain that they never were;
//     else they are listed.
//
// Steps of a recovery, by the node that was asked:
//
//  1. Survey. Every node says what it has of each shard; Judge says which shards need help and who has the best log of each.
//  2. The directory, if it needs help, goes on from its survivor (shard.Rescue). Its first command gives the lost ones up. Else that is proposed.
//  3. Each mailbox shard goes on from its survivor. Its first commands give all folders a new UIDVALIDITY, for clients may have seen more.
//  4. Volumes on disks that the directory does not know are entered, so that their mail can be read and nobody takes their numbers. What shards refer to in such
//     volumes that nobody has stays.
//  5. When the volumes that the lost ones had open are sealed, messages that arrived since shortly before a survivor's last entry are held against its state.
//     Until then the shard keeps what it entered in vain (package settle), which gets the place where its bytes were put to again.
//
// A crash leaves some of the steps done. Given again, the recovery does the rest: a shard that goes on already has a leader, and a message is entered under
// its delivery's request id, which the state machine remembers. Replicas on other nodes are made by package mover.
package recovery
