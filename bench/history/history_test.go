package history

import (
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	const user = "u@example.test"
	raw := []byte("Message-ID: <1>\r\n\r\nhello\r\n")
	traced := append([]byte("Received: from here\r\n\tby there\r\nReturn-Path: <a@b>\r\n"), raw...)
	at := func(uid uint32, id string, b []byte) Message { return Message{ID: id, UID: uid, Raw: b} }
	tests := []struct {
		name  string
		acked bool
		tries int
		first []Message // an earlier reading
		found []Message
		want  string
	}{
		{"there", true, 1, nil, []Message{at(1, "<1>", traced)}, ""},
		{"lost", true, 1, nil, nil, "u@example.test: lost: <1>"},
		{"not owed and not there", false, 1, nil, nil, ""},
		{"not owed but there", false, 1, nil, []Message{at(1, "<1>", raw)}, ""},
		{"twice after two attempts", true, 2, nil, []Message{at(1, "<1>", raw), at(2, "<1>", raw)}, ""},
		{"twice after one", true, 1, nil, []Message{at(1, "<1>", raw), at(2, "<1>", raw)}, "doubled: <1> is there 2 times"},
		{"changed", true, 1, nil, []Message{at(1, "<1>", append([]byte("X: y\r\n"), raw...))}, "changed: <1>"},
		{"cut short", true, 1, nil, []Message{at(1, "<1>", raw[:9])}, "changed: <1>"},
		{"foreign", true, 1, nil, []Message{at(1, "<1>", raw), at(2, "<2>", raw)}, "foreign: <2>"},
		{"order", true, 2, nil, []Message{at(2, "<1>", raw), at(1, "<1>", raw)}, "order: UID 1 follows 2"},
		{"same UID twice", true, 2, nil, []Message{at(2, "<1>", raw), at(2, "<1>", raw)}, "order: UID 2 follows 2"},
		{"renamed", false, 1, []Message{at(1, "<1>", raw)}, []Message{at(1, "<1>", raw[:9])}, "renamed: UID 1"},
		{"lost later", true, 1, []Message{at(1, "<1>", raw)}, nil, "lost"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := New()
			for range tt.tries {
				h.Try(user, "<1>", raw)
			}
			if tt.acked {
				h.Acknowledge(user, "<1>")
			}
			if tt.first != nil {
				if errs := h.Check(Mailbox{user, 7, tt.first}); len(errs) > 0 {
					t.Fatal(errs)
				}
			}
			errs := h.Check(Mailbox{user, 7, tt.found})
			if tt.want == "" && len(errs) > 0 || tt.want != "" && (len(errs) == 0 || !strings.Contains(errs[0].Error(), tt.want)) {
				t.Errorf("got %v, want %q", errs, tt.want)
			}
		})
	}
}

func TestUIDValidityStays(t *testing.T) {
	h := New()
	h.Check(Mailbox{"u", 7, nil})
	if errs := h.Check(Mailbox{"u", 8, nil}); len(errs) != 1 || !strings.Contains(errs[0].Error(), "UIDVALIDITY was 7 and is 8") {
		t.Errorf("got %v", errs)
	}
}

func TestWithoutTrace(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"Received: a", ""},
		{"Received: a\r\n b\r\n\tc\r\nSubject: d\r\n", "Subject: d\r\n"},
		{"RETURN-PATH: <>\nreceived: a\n\nbody", "\nbody"},
		{"Subject: d\r\nReceived: a\r\n", "Subject: d\r\nReceived: a\r\n"},
		{"no colon at all", "no colon at all"},
	}
	for _, tt := range tests {
		if got := string(WithoutTrace([]byte(tt.in))); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
}
