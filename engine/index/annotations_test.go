package index

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// notes are an account's annotations as text.
func notes(t *testing.T, s *Shard, account uint64) (out string) {
	t.Helper()
	v := s.View()
	err := v.AccountAnnotations(account, func(n *Annotation) error {
		out += fmt.Sprintf("%d %d %s %d %q; ", n.Mailbox, n.User, n.Name, n.Seq, n.Value)
		return nil
	})
	must(t, errors.Join(err, v.Close()))
	return out
}

func TestAnnotations(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	entry(t, s, 5, func(tx *Txn) {
		must(t, tx.EnsureAccount(7, 1000))
		must(t, tx.Annotate(7, 1, []Annotation{{Name: "/shared/a", Value: []byte("x")}, {User: 7, Name: "/private/a", Value: []byte{}}}))
		must(t, tx.Annotate(7, 0, []Annotation{{User: 7, Name: "/private/b", Value: []byte("y")}}))
	})
	entry(t, s, 6, func(tx *Txn) {
		must(t, tx.Annotate(7, 1, []Annotation{{Name: "/shared/a", Value: []byte("z")}, {User: 7, Name: "/private/a"}, {Name: "/shared/none"}}))
		for i, c := range []struct {
			box  uint32
			list []Annotation
			want error
		}{
			{99, []Annotation{{Name: "/shared/a", Value: []byte("x")}}, ErrNoMailbox},
			{1, []Annotation{{Name: "/shared/n", Value: []byte("x")}, {Name: "", Value: []byte("x")}}, ErrInvalidName},
			{1, []Annotation{{Name: "/shared/n", Value: []byte("x")}, {Name: "/Shared/a", Value: []byte("x")}}, ErrInvalidName},
			{1, []Annotation{{Name: "/shared/n", Value: []byte("x")}, {Name: "/shared/a", Value: make([]byte, MaxAnnotationBytes+1)}}, errLimit},
			{1, make([]Annotation, MaxAnnotationsAtOnce+1), errLimit},
		} {
			err := tx.Annotate(7, c.box, c.list)
			if limit := (*LimitError)(nil); !errors.Is(err, c.want) && !(c.want == errLimit && errors.As(err, &limit)) {
				t.Errorf("case %d: %v", i, err)
			}
		}
	})
	if got, want := notes(t, s, 7), `0 7 /private/b 5 "y"; 1 0 /shared/a 6 "z"; `; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	entry(t, s, 7, func(tx *Txn) {
		must(t, tx.RenameMailbox(7, "INBOX", "old", 1000)) // a copy goes with the messages
		must(t, tx.Annotate(7, 2, []Annotation{{Name: "/shared/a", Value: []byte("x")}}))
		must(t, tx.DeleteMailbox(7, "Drafts"))
		must(t, tx.Annotate(7, 3, []Annotation{{Name: "/shared/a", Value: []byte("x")}}))
		must(t, tx.RenameMailbox(7, "Sent", "out", 1000))
	})
	if got, want := notes(t, s, 7), `0 7 /private/b 5 "y"; 1 0 /shared/a 6 "z"; 3 0 /shared/a 7 "x"; 7 0 /shared/a 6 "z"; `; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var saved bytes.Buffer
	_, err := s.Save(&saved)
	must(t, err)
	other := openTest(t, vfs.NewMem())
	defer closeTest(t, other)
	must(t, other.Shard(1).Load(&saved))
	if got := notes(t, other.Shard(1), 7); got != notes(t, s, 7) {
		t.Errorf("loaded: %s", got)
	}
	// An account that moves takes them along, and leaves none.
	var pairs []Pair
	v := s.View()
	must(t, v.Account(7, func(key, value []byte) error {
		pairs = append(pairs, Pair{bytes.Clone(key), bytes.Clone(value)})
		return nil
	}))
	must(t, v.Close())
	there := db.Shard(2)
	entry(t, there, 1, func(tx *Txn) { must(t, tx.Adopt(7, pairs)) })
	if got := notes(t, there, 7); got != notes(t, s, 7) {
		t.Errorf("moved: %s", got)
	}
	entry(t, s, 8, func(tx *Txn) { must(t, tx.Expel(7)) })
	if got := notes(t, s, 7); got != "" {
		t.Errorf("left: %s", got)
	}
}

// errLimit stands for any *LimitError.
var errLimit = errors.New("limit")

func TestAnnotationLimits(t *testing.T) {
	db := openTest(t, vfs.NewMem())
	defer closeTest(t, db)
	s := db.Shard(1)
	entry(t, s, 1, func(tx *Txn) {
		must(t, tx.EnsureAccount(7, 1000))
		set := func(box uint32, n int) (err error) {
			return tx.Annotate(7, box, []Annotation{{Name: fmt.Sprintf("/shared/%d", n), Value: []byte("x")}})
		}
		limit := (*LimitError)(nil)
		for i := range MaxAnnotations {
			must(t, set(1, i))
		}
		if err := set(1, MaxAnnotations); !errors.As(err, &limit) || limit.Limit != MaxAnnotations {
			t.Error(err)
		}
		must(t, set(1, 0)) // replacing one takes no room
		for i := range MaxAccountNotes/MaxAnnotations - 1 {
			mb, err := tx.CreateMailbox(7, fmt.Sprint("box", i), "", 1000)
			must(t, err)
			for j := range MaxAnnotations {
				must(t, set(mb.ID, j))
			}
		}
		if err := set(2, 0); !errors.As(err, &limit) || limit.Limit != MaxAccountNotes {
			t.Error(err)
		}
	})
}
