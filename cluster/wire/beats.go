package wire

import "github.com/hashicorp/raft"

// minAnswer is the least number of bytes of a BeatAnswer: flags, and two fields of a byte.
const minAnswer = 3

// Beats are the heartbeats of many shards to one node. The header is the same for all: their leader is the node that sends them.
type Beats struct {
	raft.RPCHeader
	List []Beat
}

// Beat is one shard's heartbeat: an AppendEntries that says nothing but the term of its leader.
type Beat struct {
	Shard uint32
	Term  uint64
}

// GetRPCHeader gives the header as raft's own requests do.
func (m *Beats) GetRPCHeader() raft.RPCHeader { return m.RPCHeader }

// BeatAnswers are the answers to Beats, in their order.
type BeatAnswers struct {
	List []BeatAnswer
}

// BeatAnswer is what one shard's replica said, or why it said nothing.
type BeatAnswer struct {
	Err            *Error // nil, or the rest is zero
	Term           uint64
	Last           uint64 // entry in its log
	Heard          uint64 // the highest commit index that the replica has been told since it started
	Success        bool
	NoRetryBackoff bool
}

func encodeBeats(b []byte, m *Beats) []byte {
	b = putRaftHeader(b, RaftBeats, m.RPCHeader)
	b = putUint(b, uint64(len(m.List)))
	for _, beat := range m.List {
		b = putUint(b, uint64(beat.Shard), beat.Term)
	}
	return b
}

func decodeBeats(d *decoder, m *Beats) {
	m.RPCHeader = d.raftHeader(RaftBeats)
	n := d.uint()
	if n > uint64(len(d.b)/2) { // two numbers each
		d.fail("%d heartbeats in %d bytes", n, len(d.b))
		return
	}
	m.List = make([]Beat, n)
	for i := range m.List {
		shard := d.uint()
		if shard>>32 != 0 {
			d.fail("shard %d", shard)
			return
		}
		m.List[i] = Beat{Shard: uint32(shard), Term: d.uint()}
	}
}

func encodeBeatAnswers(b []byte, m *BeatAnswers) []byte {
	b = append(b, RaftVersion, RaftBeatsReply)
	b = putUint(b, uint64(len(m.List)))
	for _, a := range m.List {
		b = append(b, flags(a.Success, a.NoRetryBackoff, a.Err != nil))
		if a.Err != nil {
			b = putBytes(putUint(b, uint64(a.Err.Code)), []byte(a.Err.Message[:min(len(a.Err.Message), maxBeatError)]))
		} else {
			b = putUint(b, a.Term, a.Last, a.Heard)
		}
	}
	return b
}

// maxBeatError bounds the text of one shard's failure, so that those of a whole frame fit in one.
const maxBeatError = 128

func decodeBeatAnswers(d *decoder, m *BeatAnswers) {
	d.kind(RaftBeatsReply)
	n := d.uint()
	if n > uint64(len(d.b)/minAnswer) {
		d.fail("%d answers in %d bytes", n, len(d.b))
		return
	}
	m.List = make([]BeatAnswer, n)
	for i := range m.List {
		a := &m.List[i]
		f := d.flags(3)
		if f&4 == 0 {
			a.Success, a.NoRetryBackoff = f&1 != 0, f&2 != 0
			a.Term, a.Last, a.Heard = d.uint(), d.uint(), d.uint()
			continue
		}
		if f != 4 {
			d.fail("an answer that is a failure too")
			return
		}
		a.Err = &Error{Code: Code(d.small())}
		text := d.bytes()
		if len(text) > maxBeatError {
			d.fail("an error of %d bytes", len(text))
			return
		}
		a.Err.Message = string(text)
	}
}
