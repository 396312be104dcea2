package imap

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/clustertest"
)

// testProgress: a client hears how far its command is. Here it is told at every opportunity.
func testProgress(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "progress", func(cfg *Config) { cfg.Limits.ProgressInterval = 1 })
	st.fill("INBOX", 3)
	r := st.rawUser("INBOX")
	st.mail.scan.Store(true)
	heard := func(tag string, of int) (lines []string) {
		for i := range of {
			lines = append(lines, fmt.Sprintf(`* OK [INPROGRESS ("%s" %d %d)] Still at it`, tag, i, of))
		}
		return lines
	}
	r.send("s SEARCH TEXT 2\r\n")
	if got := r.until("s"); !slices.Equal(got, append(heard("s", 3), "* SEARCH 2", "OK SEARCH completed")) {
		t.Errorf("%q", got)
	}
	r.send("o SORT (SUBJECT) UTF-8 ALL\r\n")
	if got := r.until("o"); !slices.Equal(got, append(heard("o", 3), "* SORT 1 2 3", "OK SORT completed")) {
		t.Errorf("%q", got)
	}
	r.send("h THREAD REFERENCES UTF-8 2:3\r\n")
	if got := r.until("h"); !slices.Equal(got, append(heard("h", 2), "* THREAD (2)(3)", "OK THREAD completed")) {
		t.Errorf("%q", got)
	}
}

// signals is a writer that says when it was written to.
type signals chan string

func (c signals) Write(p []byte) (int, error) {
	c <- string(p)
	return len(p), nil
}

// TestPatience: while the cluster is asked, the client hears that it is waited for, and a panic there is an error of the command.
func TestPatience(t *testing.T) {
	base, _, _ := pipe(t)
	srv := newServer(Config{Hostname: "test", Limits: Limits{ProgressInterval: time.Millisecond}}, stub{})
	s := newSession(srv, newConn(base, srv))
	defer s.close()
	heard, answer := make(signals), errors.New("answered")
	s.out.SetWriter(heard)
	s.pace = pace{tag: "b", next: time.Now()}
	heardTwice := make(chan struct{})
	go func() {
		defer close(heardTwice)
		for range 2 {
			if l := <-heard; l != "* OK [INPROGRESS (\"b\" NIL NIL)] Still at it\r\n" {
				t.Errorf("%q", l)
			}
		}
	}()
	if err := s.patiently(func() error { <-heardTwice; return answer }); !errors.Is(err, answer) {
		t.Error(err)
	}
	s.pace.next = time.Now().Add(time.Hour)
	if err := s.patiently(func() error { panic("in a question") }); err == nil || !strings.Contains(err.Error(), "in a question") || srv.Stats().Panics != 1 {
		t.Error(err)
	}
}

// TestSteps: a command in steps tells between them.
func TestSteps(t *testing.T) {
	base, _, _ := pipe(t)
	srv := newServer(Config{Hostname: "test", Limits: Limits{ProgressInterval: 1}}, stub{})
	s := newSession(srv, newConn(base, srv))
	defer s.close()
	heard := new(bytes.Buffer)
	s.out.SetWriter(heard)
	s.pace.tag = "m"
	all := roaring.New()
	all.AddRange(1, 26)
	n := uint64(0)
	err := s.steps(all, 10, func(some *roaring.Bitmap) error { n += some.GetCardinality(); return nil })
	if want := "* OK [INPROGRESS (\"m\" 10 25)] Still at it\r\n* OK [INPROGRESS (\"m\" 20 25)] Still at it\r\n"; err != nil || n != 25 || heard.String() != want {
		t.Errorf("%v, %d, %q", err, n, heard)
	}
}
