package transport

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"hongyan/cluster/wire"
)

func message(kind uint8, payload string) []byte {
	return append(append(binary.LittleEndian.AppendUint32(nil, uint32(len(payload))), kind), payload...)
}

func FuzzReadMessage(f *testing.F) {
	f.Add(message(messageData, "payload"))
	f.Add(message(messageEnd, string(wire.EncodeError(wire.ErrSealed))))
	f.Add(message(messageOpen, string(wire.EncodeRequest(nil, wire.Request{Method: "m", Wait: time.Second}))))
	f.Add(binary.LittleEndian.AppendUint32(nil, 1<<31))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, payload, err := readMessage(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		if !bytes.HasPrefix(b, message(kind, string(payload))) {
			t.Fatalf("kind %d with %d bytes was not in the input", kind, len(payload))
		}
		if end := endOf(payload); end == nil {
			t.Fatal("an end without a reason")
		}
	})
}

func TestMessageOverTheLimit(t *testing.T) {
	b := binary.LittleEndian.AppendUint32(nil, MaxMessage+1)
	if _, _, err := readMessage(bufio.NewReader(bytes.NewReader(append(b, messageData)))); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("got %v", err)
	}
	if _, _, err := readMessage(bufio.NewReader(bytes.NewReader(message(messageData, "abc")[:6]))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}
