package imap

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/flate"
)

// Commands that come in one packet are answered in one.
func TestPipelining(t *testing.T) {
	k := newTalk(t)
	k.send("a NOOP\r\nb CAPABILITY\r\nc SELECT x\r\nd SEARCH ALL\r\ne NOOP\r\n")
	piece := make([]byte, 64<<10)
	n, err := k.r.Read(piece)
	if err != nil || !strings.Contains(string(piece[:n]), "e OK") {
		t.Errorf("%q %v", piece[:n], err)
	}
	k.send("f NOOP\r\ng APP")
	k.until("f OK") // the rest of the next command may be a long time coming
	k.send("END x {2}\r\n")
	k.until("+ ")
	k.send("hi\r\n")
	k.until("g OK")
}

func TestCompress(t *testing.T) {
	k := newTalk(t)
	k.send("a COMPRESS LZ4\r\n")
	k.until("a NO")
	k.send("b COMPRESS DEFLATE\r\n")
	k.until("b OK")
	z, err := flate.NewWriter(k.w, 6)
	if err != nil {
		t.Fatal(err)
	}
	k.r = bufio.NewReader(flate.NewReaderOpts(k.r, flate.WithPartialBlock()))
	k.w = flushed{z}
	for n := range 50 {
		body := strings.Repeat(fmt.Sprint("line ", n, "\r\n"), n*20+1)
		k.send(fmt.Sprintf("c%d APPEND x {%d}\r\n", n, len(body)))
		k.until("+ ")
		k.send(body + "\r\n")
		k.until(fmt.Sprintf("c%d OK", n))
		k.mail.appended.Reset()
		k.send(fmt.Sprintf("d%d CAPABILITY\r\n", n))
		if got := k.until(fmt.Sprintf("d%d OK", n)); strings.Contains(got, "COMPRESS") {
			t.Fatal("compression is offered twice")
		}
	}
	k.send("e COMPRESS DEFLATE\r\n")
	k.until("e NO [COMPRESSIONACTIVE]")
	out, _, _ := conversation(t, []byte("a COMPRESS DEFLATE\r\nb NOOP\r\n"))
	if strings.Contains(out, "a OK") || !strings.Contains(out, "* BYE") {
		t.Errorf("commands behind COMPRESS: %q", out)
	}
}

// flushed sends each write at once.
type flushed struct{ *flate.Writer }

func (f flushed) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err == nil {
		err = f.Flush()
	}
	return n, err
}

// What was sent before is a dictionary for what comes; any sequence of writes is read back.
func TestDeflater(t *testing.T) {
	var wire bytes.Buffer
	srv := stubServer(nil)
	d := &deflater{w: &wire, pool: srv.deflated}
	var want bytes.Buffer
	for n := range 200 {
		p := []byte(strings.Repeat(fmt.Sprint("* ", n, " FETCH (FLAGS ())\r\n"), n%37*30+1))
		if _, err := d.Write(p); err != nil {
			t.Fatal(err)
		}
		want.Write(p)
		if len(d.last) > dictionary {
			t.Fatalf("%d bytes are kept", len(d.last))
		}
	}
	sent := wire.Len()
	got, err := io.ReadAll(flate.NewReader(&wire))
	if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes of %d came back: %v", len(got), want.Len(), err)
	}
	if sent*4 > want.Len() {
		t.Errorf("%d bytes became %d", want.Len(), sent)
	}
}
