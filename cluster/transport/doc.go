// Package transport owns all traffic between nodes: one mutual-TLS port on each, and on it
// calls, streams, Raft and gossip.
//
// Every connection begins with a TLS 1.3 handshake in which both ends show certificates of the
// cluster's authority. The dialler checks that the certificate names the node it wanted; the listener checks that
// it names a peer in its table. ALPN (RFC 7301) says what the connection carries:
//
//	hongyan-rpc/1       calls and pings, frames of package wire; one persistent connection per direction
//	hongyan-stream/1    message streams over hashicorp/yamux, so that bulk never delays a call
//	hongyan-raft/1      Raft of all shards, frames that carry the shard's number
//	hongyan-raftbulk/1  one snapshot per connection
//	hongyan-packet/1    gossip packets, as frames
//	hongyan-gossip/1    gossip streams, one per connection
//	hongyan-self/1      the process's name, for the node itself (twin.go)
//
// Liveness. Each node keeps its calls connection to every peer open and pings over it. The peer is up from the
// first answer until the connection breaks or a ping has had no answer for two seconds; then every connection
// with it is closed, so whatever waited on it fails at once. While a peer is down, calls and streams to it fail
// at once with wire.ErrUnavailable: the redial in the background is the only thing that probes it.
//
// Peers come and go (SetPeers). Who is not in the peer table is refused at the handshake, is down and in doubt, and cannot be called. A peer
// taken out ends with all its connections, in both directions; one that enters later under the same id is another and inherits nothing.
//
// Invariants:
//
//  1. No call, send, receive or handler outlives its deadline by more than the time its own code needs.
//     Deadlines travel as remaining time, so clocks need not agree.
//  2. What a peer can make this node hold is bounded: connections, handlers in flight, bytes per message, bytes queued.
//  3. A reader of a connection never waits for a handler, a disk or another connection's peer.
//  4. Calls to the node itself take the same path through encoding, deadlines and limits, without the sockets.
//
// Nothing here touches a disk besides reading the certificates; a crash leaves nothing behind. Formats are
// drawn in docs/formats/wire.md.
package transport
