package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// samples has one of each message, every field set, by the name of its golden file.
func samples() map[string]any {
	head := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("north-china-1"), Addr: []byte("north-china-1")}
	return map[string]any{
		"append": &raft.AppendEntriesRequest{
			RPCHeader: head, Term: 300, PrevLogEntry: 1 << 40, PrevLogTerm: 299, LeaderCommitIndex: 77,
			Entries: []*raft.Log{
				{Index: 1<<40 + 1, Term: 300, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("ext"), AppendedAt: time.Unix(1_700_000_000, 123)},
				{Index: 1<<40 + 2, Term: 300, Type: raft.LogNoop},
			},
		},
		"append-reply":   &raft.AppendEntriesResponse{RPCHeader: head, Term: 300, LastLog: 1 << 40, Success: true, NoRetryBackoff: true},
		"vote":           &raft.RequestVoteRequest{RPCHeader: head, Term: 5, LastLogIndex: 6, LastLogTerm: 4, LeadershipTransfer: true},
		"vote-reply":     &raft.RequestVoteResponse{RPCHeader: head, Term: 5, Granted: true},
		"prevote":        &raft.RequestPreVoteRequest{RPCHeader: head, Term: 5, LastLogIndex: 6, LastLogTerm: 4},
		"prevote-reply":  &raft.RequestPreVoteResponse{RPCHeader: head, Term: 5, Granted: true},
		"timeout":        &raft.TimeoutNowRequest{RPCHeader: head},
		"timeout-reply":  &raft.TimeoutNowResponse{RPCHeader: head},
		"snapshot-reply": &raft.InstallSnapshotResponse{RPCHeader: head, Term: 9, Success: true},
		"beats":          &Beats{RPCHeader: head, List: []Beat{{Shard: 7, Term: 300}, {Shard: 1<<32 - 1, Term: 1 << 40}}},
		"beats-reply": &BeatAnswers{List: []BeatAnswer{
			{Term: 300, Last: 1 << 40, Heard: 77, Success: true, NoRetryBackoff: true},
			{Err: &Error{Code: Unavailable, Message: "not here"}},
			{Term: 301},
		}},
		"snapshot": &raft.InstallSnapshotRequest{
			RPCHeader: head, SnapshotVersion: 1, Term: 9, LastLogIndex: 8, LastLogTerm: 7,
			Configuration: []byte("conf"), ConfigurationIndex: 3, Size: 1 << 33,
		},
	}
}

func blank(msg any) any { return reflect.New(reflect.TypeOf(msg).Elem()).Interface() }

func encode(t testing.TB, msg any) []byte {
	t.Helper()
	b, err := EncodeRaft(nil, msg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Each message comes back as it was, and its bytes are those of the golden file: a change of the format
// that would confuse older nodes shows here.
func TestRaftMessages(t *testing.T) {
	for name, msg := range samples() {
		b := encode(t, msg)
		back := blank(msg)
		if err := DecodeRaft(b, back); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(back, msg) {
			t.Errorf("%s came back as %+v", name, back)
		}
		golden := filepath.Join("testdata", "raft", name+".hex")
		text := hex.EncodeToString(b) + "\n"
		if *update {
			if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != text {
			t.Errorf("%s: the format has changed\n got %s want %s", name, text, want)
		}
	}
}

func TestRaftDamage(t *testing.T) {
	for name, msg := range samples() {
		b := encode(t, msg)
		for i := range b {
			if err := DecodeRaft(b[:i], blank(msg)); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s cut at %d: %v", name, i, err)
			}
		}
		cases := map[string][]byte{
			"trailing byte":   append(bytes.Clone(b), 0),
			"another version": append([]byte{2}, b[1:]...),
			"another kind":    append([]byte{1, 0x70}, b[2:]...),
		}
		for what, damaged := range cases {
			if err := DecodeRaft(damaged, blank(msg)); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
	if _, err := EncodeRaft(nil, "text"); err == nil {
		t.Error("a string was encoded")
	}
	if err := DecodeRaft(nil, "text"); err == nil {
		t.Error("a string was decoded")
	}
}

func TestManyEntriesInFewBytes(t *testing.T) {
	b := putRaftHeader(nil, RaftAppend, raft.RPCHeader{})
	b = putUint(b, 1, 1, 1, 1)
	b = putUint(b, 1<<60)
	if err := DecodeRaft(b, new(raft.AppendEntriesRequest)); !errors.Is(err, ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

// What a peer sends in a frame of heartbeats is bounded by its size and makes sense in each part.
func TestBadBeats(t *testing.T) {
	beats := func(fields ...uint64) []byte {
		return putUint(putRaftHeader(nil, RaftBeats, raft.RPCHeader{}), fields...)
	}
	answers := func(b ...byte) []byte { return append([]byte{RaftVersion, RaftBeatsReply}, b...) }
	for _, c := range []struct {
		name string
		b    []byte
		msg  any
	}{
		{"many beats in few bytes", beats(1<<60, 1, 1), new(Beats)},
		{"one beat too many", beats(2, 1, 1, 1), new(Beats)},
		{"no such shard", beats(1, 1<<32, 1), new(Beats)},
		{"many answers in few bytes", answers(100, 0, 1, 1, 1), new(BeatAnswers)},
		{"unknown flags", answers(1, 8, 1, 1, 1), new(BeatAnswers)},
		{"success and failure", answers(1, 5, 2, 0), new(BeatAnswers)},
		{"a long error", append(answers(1, 4, 2), putBytes(nil, make([]byte, maxBeatError+1))...), new(BeatAnswers)},
	} {
		if err := DecodeRaft(c.b, c.msg); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	long := &BeatAnswers{List: []BeatAnswer{{Err: &Error{Code: Internal, Message: strings.Repeat("x", 10_000)}}}}
	var back BeatAnswers
	if err := DecodeRaft(encode(t, long), &back); err != nil || len(back.List[0].Err.Message) != maxBeatError {
		t.Errorf("a long error came back as %+v, %v", back, err)
	}
}

func TestDecodedBytesAreApart(t *testing.T) {
	b := encode(t, samples()["append"])
	var m raft.AppendEntriesRequest
	if err := DecodeRaft(b, &m); err != nil {
		t.Fatal(err)
	}
	_ = append(m.Entries[0].Data, "overwrites what follows"...)
	if string(m.Entries[0].Extensions) != "ext" {
		t.Error("an append to one entry's data reached its neighbour")
	}
}

func TestHeartbeat(t *testing.T) {
	beat := raft.AppendEntriesRequest{Term: 3}
	if !IsHeartbeat(&beat) {
		t.Error("a heartbeat was not recognised")
	}
	for name, change := range map[string]func(m *raft.AppendEntriesRequest){
		"no term":   func(m *raft.AppendEntriesRequest) { m.Term = 0 },
		"prev":      func(m *raft.AppendEntriesRequest) { m.PrevLogEntry = 1 },
		"prev term": func(m *raft.AppendEntriesRequest) { m.PrevLogTerm = 1 },
		"commit":    func(m *raft.AppendEntriesRequest) { m.LeaderCommitIndex = 1 },
		"entries":   func(m *raft.AppendEntriesRequest) { m.Entries = []*raft.Log{{}} },
	} {
		m := beat
		change(&m)
		if IsHeartbeat(&m) {
			t.Errorf("%s: taken for a heartbeat", name)
		}
	}
}

// Whatever is decoded encodes to what decodes to the same.
func FuzzRaft(f *testing.F) {
	for _, msg := range samples() {
		f.Add(encode(f, msg))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, msg := range samples() {
			first, second := blank(msg), blank(msg)
			if DecodeRaft(b, first) != nil {
				continue
			}
			if err := DecodeRaft(encode(t, first), second); err != nil || !reflect.DeepEqual(first, second) {
				t.Fatalf("%s: %+v became %+v, %v", name, first, second, err)
			}
		}
	})
}

func TestRequest(t *testing.T) {
	cases := []struct {
		in   Request
		wait time.Duration // as it arrives
	}{
		{Request{Method: "m"}, 0},
		{Request{Method: "replica.append", Wait: 1500 * time.Millisecond, Body: []byte("body")}, 1500 * time.Millisecond},
		{Request{Method: "m", Wait: time.Microsecond}, time.Millisecond},
		{Request{Method: "m", Wait: -time.Second}, 0},
		{Request{Method: "m", Wait: 1000 * time.Hour}, maxWait},
	}
	for _, c := range cases {
		out, err := DecodeRequest(EncodeRequest(nil, c.in))
		if err != nil || out.Method != c.in.Method || out.Wait != c.wait || !bytes.Equal(out.Body, c.in.Body) {
			t.Errorf("%+v arrived as %+v, %v", c.in, out, err)
		}
	}
	whole := EncodeRequest(nil, Request{Method: "method", Wait: time.Hour})
	for i := range whole {
		if _, err := DecodeRequest(whole[:i]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	for name, b := range map[string][]byte{
		"version": append([]byte{9}, whole[1:]...),
		"method":  EncodeRequest(nil, Request{Method: strings.Repeat("m", maxMethod+1)}),
		"wait":    append([]byte{Version}, putUint(nil, 1<<50)...),
	} {
		if _, err := DecodeRequest(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(EncodeRequest(nil, Request{Method: "method", Wait: time.Hour, Body: []byte("body")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := DecodeRequest(b)
		if err != nil {
			return
		}
		second, err := DecodeRequest(EncodeRequest(nil, first))
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("%+v became %+v, %v", first, second, err)
		}
	})
}
