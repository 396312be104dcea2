package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestErrorKinds(t *testing.T) {
	cases := []struct {
		in   error
		is   error
		hint string
	}{
		{ErrSealed, ErrSealed, ""},
		{Errorf(Full, "volume %d", 7), ErrFull, ""},
		{fmt.Errorf("append: %w", &Error{Code: NotLeader, Message: "m", Hint: "b"}), ErrNotLeader, "b"},
		{fmt.Errorf("read: %w", context.DeadlineExceeded), ErrDeadline, ""},
		{context.Canceled, ErrCanceled, ""},
		{errors.New("odd"), ErrInternal, ""},
		{Errorf(Damaged, "volume 7"), ErrDamaged, ""},
	}
	for _, c := range cases {
		e := DecodeError(EncodeError(FromError(c.in)))
		if !errors.Is(e, c.is) || e.Hint != c.hint {
			t.Errorf("%v came over as %v", c.in, e)
		}
		if errors.Is(e, ErrExists) {
			t.Errorf("%v is ErrExists", e)
		}
		if !strings.Contains(e.Error(), c.is.(*Error).Code.String()) {
			t.Errorf("the text %q does not name the kind", e.Error())
		}
	}
	if FromError(nil) != nil {
		t.Error("no error became one")
	}
	if !errors.Is(ErrDeadline, context.DeadlineExceeded) || !errors.Is(ErrCanceled, context.Canceled) {
		t.Error("the context's errors are not recognised")
	}
	if errors.Is(ErrSealed, Errorf(Sealed, "volume 7")) {
		t.Error("a sentinel matches one particular error")
	}
}

func TestErrorTextIsBounded(t *testing.T) {
	e := DecodeError(EncodeError(Errorf(Limit, "%s", strings.Repeat("x", 1<<20))))
	if e.Code != Limit || len(e.Message) != maxErrorText {
		t.Errorf("code %v, %d bytes", e.Code, len(e.Message))
	}
}

func FuzzDecodeError(f *testing.F) {
	f.Add(EncodeError(Errorf(NotLeader, "m")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if e := DecodeError(b); e == nil || e.Code == 0 || e.Error() == "" {
			t.Fatalf("%+v", e)
		}
	})
}
