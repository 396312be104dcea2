package imap

import (
	"reflect"
	"testing"

	"hongyan/engine/message"
)

// Values in pieces are told whole (RFC 2231 section 6), and nothing of pieces that do not go together is lost.
func TestWholeParams(t *testing.T) {
	type list = message.Params
	p := func(name, value string) message.Param { return message.Param{Name: name, Value: value} }
	for _, c := range []struct {
		name      string
		got, want list
	}{
		{"none", nil, nil},
		{"plain", list{p("a", "1"), p("b", "2")}, list{p("a", "1"), p("b", "2")}},
		{"pieces", list{p("url*0", "ftp://"), p("url*1", "x.test/%20")}, list{p("url", "ftp://x.test/%20")}},
		{"the RFC's example", list{p("title*0*", "us-ascii'en'This%20is%20"), p("title*1*", "%2A%2A "), p("title*2", "isn't 5% it!")},
			list{p("title*", "us-ascii'en'This%20is%20%2A%2A isn't 5%25 it!")}},
		{"behind the others", list{p("n*0", "a"), p("charset", "utf-8"), p("n*1", "b")}, list{p("charset", "utf-8"), p("n", "ab")}},
		{"whole and encoded", list{p("filename*", "utf-8''a"), p("filename", "a")}, list{p("filename", "a"), p("filename*", "utf-8''a")}},
		{"a piece is missing", list{p("n*0", "a"), p("n*2", "c")}, list{p("n*2", "c"), p("n", "a")}},
		{"no first one", list{p("n*1", "b")}, list{p("n*1", "b")}},
		{"no number", list{p("n*x", "b"), p("n*01", "c"), p("*0", "d")}, list{p("n*x", "b"), p("n*01", "c"), p("*0", "d")}},
	} {
		if got := wholeParams(c.got); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
