package client

import (
	"testing"
	"testing/synctest"
)

// TestLoginsAtOnce has a login wait for its turn while another one with the same password is found to be right: it is not hashed again, which a hash that is none would tell.
func TestLoginsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hash, password = "no hash", "secret"
		l := newLogins()
		for range cap(l.slots) {
			l.slots <- struct{}{}
		}
		type answer struct {
			good bool
			err  error
		}
		answers := make(chan answer)
		go func() {
			good, err := l.matches(t.Context(), hash, password)
			answers <- answer{good, err}
		}()
		synctest.Wait()
		l.remember(l.proof(hash, password))
		<-l.slots
		if got := <-answers; !got.good || got.err != nil {
			t.Errorf("%v, %v", got.good, got.err)
		}
		if good, err := l.matches(t.Context(), hash, "another"); good || err == nil {
			t.Errorf("another password: %v, %v", good, err)
		}
	})
}
