package wire

import (
	"fmt"
	"time"
)

// Limits of a request.
const (
	maxMethod = 128
	maxWait   = 24 * time.Hour
)

// Request opens a call or a stream: the method, how long the caller is going to wait, and for a call its argument.
type Request struct {
	Method string
	Wait   time.Duration // rounded up to milliseconds; the callee's context ends then
	Body   []byte
}

// EncodeRequest appends a request: version, wait in milliseconds, method, then the body to the end.
func EncodeRequest(b []byte, r Request) []byte {
	ms := (min(r.Wait, maxWait) + time.Millisecond - 1) / time.Millisecond
	b = append(b, Version)
	b = putUint(b, uint64(max(ms, 0)))
	b = append(putUint(b, uint64(len(r.Method))), r.Method...)
	return append(b, r.Body...)
}

// DecodeRequest reads what EncodeRequest wrote. The body shares b's memory.
func DecodeRequest(b []byte) (Request, error) {
	d := &decoder{b: b}
	if v := d.byte(); v != Version {
		d.fail("request version %d, want %d", v, Version)
	}
	ms := d.uint()
	method := d.bytes()
	switch {
	case ms > uint64(maxWait/time.Millisecond):
		d.fail("a wait of %d ms", ms)
	case len(method) == 0 || len(method) > maxMethod:
		d.fail("a method name of %d bytes", len(method))
	}
	if d.err != nil {
		return Request{}, fmt.Errorf("decode request: %w", d.err)
	}
	return Request{Method: string(method), Wait: time.Duration(ms) * time.Millisecond, Body: d.b}, nil
}
