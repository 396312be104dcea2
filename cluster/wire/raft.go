package wire

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// RaftVersion is the first byte of every Raft message. Only its own version is read: nodes that
// speak another one are told apart before a log entry could be misread.
const RaftVersion = 1

// The second byte of every Raft message, and the kind of the frame that carries it.
const (
	RaftAppend          uint8 = 1
	RaftVote            uint8 = 2
	RaftPreVote         uint8 = 3
	RaftTimeoutNow      uint8 = 4
	RaftInstall         uint8 = 5
	RaftBeats           uint8 = 6
	RaftAppendReply     uint8 = 0x81
	RaftVoteReply       uint8 = 0x82
	RaftPreVoteReply    uint8 = 0x83
	RaftTimeoutNowReply uint8 = 0x84
	RaftInstallReply    uint8 = 0x85
	RaftBeatsReply      uint8 = 0x86
	RaftError           uint8 = 0xff // in place of a reply; the payload is an Error
)

// minEntry is the least number of bytes of a log entry: five numbers and a type.
const minEntry = 6

// EncodeRaft appends the encoding of msg, a pointer to one of hashicorp/raft's requests or replies, or to our own Beats or BeatAnswers.
// Numbers are varints (encoding/binary), byte strings are preceded by their length, flags are one byte. Fields that
// only protocol versions before 2 used (leader, candidate, peers; now the header and the configuration say so) are left out.
func EncodeRaft(b []byte, msg any) ([]byte, error) {
	switch m := msg.(type) {
	case *raft.AppendEntriesRequest:
		return encodeAppend(b, m), nil
	case *raft.AppendEntriesResponse:
		b = putRaftHeader(b, RaftAppendReply, m.RPCHeader)
		b = putUint(b, m.Term, m.LastLog)
		return append(b, flags(m.Success, m.NoRetryBackoff)), nil
	case *raft.RequestVoteRequest:
		b = putRaftHeader(b, RaftVote, m.RPCHeader)
		b = putUint(b, m.Term, m.LastLogIndex, m.LastLogTerm)
		return append(b, flags(m.LeadershipTransfer)), nil
	case *raft.RequestVoteResponse:
		b = putRaftHeader(b, RaftVoteReply, m.RPCHeader)
		return append(putUint(b, m.Term), flags(m.Granted)), nil
	case *raft.RequestPreVoteRequest:
		b = putRaftHeader(b, RaftPreVote, m.RPCHeader)
		return putUint(b, m.Term, m.LastLogIndex, m.LastLogTerm), nil
	case *raft.RequestPreVoteResponse:
		b = putRaftHeader(b, RaftPreVoteReply, m.RPCHeader)
		return append(putUint(b, m.Term), flags(m.Granted)), nil
	case *raft.TimeoutNowRequest:
		return putRaftHeader(b, RaftTimeoutNow, m.RPCHeader), nil
	case *raft.TimeoutNowResponse:
		return putRaftHeader(b, RaftTimeoutNowReply, m.RPCHeader), nil
	case *raft.InstallSnapshotRequest:
		b = putRaftHeader(b, RaftInstall, m.RPCHeader)
		b = putUint(b, uint64(m.SnapshotVersion), m.Term, m.LastLogIndex, m.LastLogTerm, m.ConfigurationIndex, uint64(m.Size))
		return putBytes(b, m.Configuration), nil
	case *raft.InstallSnapshotResponse:
		b = putRaftHeader(b, RaftInstallReply, m.RPCHeader)
		return append(putUint(b, m.Term), flags(m.Success)), nil
	case *Beats:
		return encodeBeats(b, m), nil
	case *BeatAnswers:
		return encodeBeatAnswers(b, m), nil
	}
	return b, fmt.Errorf("no Raft encoding for %T", msg)
}

// DecodeRaft reads one message into msg, a pointer to the type that is expected. Byte strings, the
// entries' data among them, share b's memory. Errors wrap ErrMalformed.
func DecodeRaft(b []byte, msg any) error {
	d := &decoder{b: b}
	switch m := msg.(type) {
	case *raft.AppendEntriesRequest:
		decodeAppend(d, m)
	case *raft.AppendEntriesResponse:
		m.RPCHeader = d.raftHeader(RaftAppendReply)
		m.Term, m.LastLog = d.uint(), d.uint()
		f := d.flags(2)
		m.Success, m.NoRetryBackoff = f&1 != 0, f&2 != 0
	case *raft.RequestVoteRequest:
		m.RPCHeader = d.raftHeader(RaftVote)
		m.Term, m.LastLogIndex, m.LastLogTerm = d.uint(), d.uint(), d.uint()
		m.LeadershipTransfer = d.flags(1) != 0
	case *raft.RequestVoteResponse:
		m.RPCHeader = d.raftHeader(RaftVoteReply)
		m.Term = d.uint()
		m.Granted = d.flags(1) != 0
	case *raft.RequestPreVoteRequest:
		m.RPCHeader = d.raftHeader(RaftPreVote)
		m.Term, m.LastLogIndex, m.LastLogTerm = d.uint(), d.uint(), d.uint()
	case *raft.RequestPreVoteResponse:
		m.RPCHeader = d.raftHeader(RaftPreVoteReply)
		m.Term = d.uint()
		m.Granted = d.flags(1) != 0
	case *raft.TimeoutNowRequest:
		m.RPCHeader = d.raftHeader(RaftTimeoutNow)
	case *raft.TimeoutNowResponse:
		m.RPCHeader = d.raftHeader(RaftTimeoutNowReply)
	case *raft.InstallSnapshotRequest:
		decodeInstall(d, m)
	case *raft.InstallSnapshotResponse:
		m.RPCHeader = d.raftHeader(RaftInstallReply)
		m.Term = d.uint()
		m.Success = d.flags(1) != 0
	case *Beats:
		decodeBeats(d, m)
	case *BeatAnswers:
		decodeBeatAnswers(d, m)
	default:
		return fmt.Errorf("no Raft encoding for %T", msg)
	}
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d trailing bytes", len(d.b))
	}
	if d.err != nil {
		return fmt.Errorf("decode %T: %w", msg, d.err)
	}
	return nil
}

// entryOverhead is about what an entry takes beside its data and extensions.
const entryOverhead = 32

func encodeAppend(b []byte, m *raft.AppendEntriesRequest) []byte {
	size := 128
	for _, e := range m.Entries {
		size += entryOverhead + len(e.Data) + len(e.Extensions)
	}
	b = slices.Grow(b, size)
	b = putRaftHeader(b, RaftAppend, m.RPCHeader)
	b = putUint(b, m.Term, m.PrevLogEntry, m.PrevLogTerm, m.LeaderCommitIndex)
	b = putUint(b, uint64(len(m.Entries)))
	for _, e := range m.Entries {
		b = putUint(b, e.Index, e.Term)
		b = append(b, uint8(e.Type))
		at := int64(0)
		if !e.AppendedAt.IsZero() {
			at = e.AppendedAt.UnixNano()
		}
		b = binary.AppendVarint(b, at)
		b = putBytes(putBytes(b, e.Data), e.Extensions)
	}
	return b
}

func decodeAppend(d *decoder, m *raft.AppendEntriesRequest) {
	m.RPCHeader = d.raftHeader(RaftAppend)
	m.Term, m.PrevLogEntry, m.PrevLogTerm, m.LeaderCommitIndex = d.uint(), d.uint(), d.uint(), d.uint()
	n := d.uint()
	if n > uint64(len(d.b)/minEntry) {
		d.fail("%d entries in %d bytes", n, len(d.b))
		return
	}
	if n == 0 {
		m.Entries = nil
		return
	}
	logs := make([]raft.Log, n) // one allocation: raft keeps them together anyway
	m.Entries = make([]*raft.Log, n)
	for i := range logs {
		e := &logs[i]
		m.Entries[i] = e
		e.Index, e.Term = d.uint(), d.uint()
		e.Type = raft.LogType(d.byte())
		if at := d.int(); at != 0 {
			e.AppendedAt = time.Unix(0, at)
		}
		e.Data, e.Extensions = d.bytes(), d.bytes()
	}
}

func decodeInstall(d *decoder, m *raft.InstallSnapshotRequest) {
	m.RPCHeader = d.raftHeader(RaftInstall)
	m.SnapshotVersion = raft.SnapshotVersion(d.small())
	m.Term, m.LastLogIndex, m.LastLogTerm, m.ConfigurationIndex = d.uint(), d.uint(), d.uint(), d.uint()
	m.Size = int64(d.uint())
	m.Configuration = d.bytes()
	if m.Size < 0 {
		d.fail("negative size")
	}
}

// IsHeartbeat recognises the AppendEntries that raft sends only to be heard: it carries nothing that
// would need the disk, and is answered ahead of those that do.
func IsHeartbeat(m *raft.AppendEntriesRequest) bool {
	return m.Term != 0 && m.PrevLogEntry == 0 && m.PrevLogTerm == 0 && len(m.Entries) == 0 && m.LeaderCommitIndex == 0
}
