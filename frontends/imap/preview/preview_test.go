package preview

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"hongyan/engine/message"
)

// of is the preview of a whole message.
func of(t testing.TB, raw string) string {
	t.Helper()
	sc := message.NewScanner()
	if _, err := io.WriteString(sc, raw); err != nil {
		t.Fatal(err)
	}
	p := Part(sc.Finish().Structure)
	if p == nil {
		return ""
	}
	start, end := Range(p)
	text, err := Text(p, strings.NewReader(raw[start:end]))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestPreview(t *testing.T) {
	multi := func(kind string, parts ...string) string {
		return "Content-Type: multipart/" + kind + "; boundary=x\r\n\r\n--x\r\n" + strings.Join(parts, "\r\n--x\r\n") + "\r\n--x--\r\n"
	}
	const plain, html = "Content-Type: text/plain\r\n\r\nplain", "Content-Type: text/html\r\n\r\n<p>rich</p>"
	for _, c := range []struct{ name, raw, want string }{
		{"plain", "Subject: x\r\n\r\n  Hello\r\n\tyou \r\n\r\nall\r\n", "Hello you all"},
		{"no body", "Subject: x\r\n\r\n", ""},
		{"only spaces", "Subject: x\r\n\r\n \r\n", ""},
		{"long", "A: b\r\n\r\n" + strings.Repeat("世 ", 500), strings.TrimSpace(strings.Repeat("世 ", 100))},
		{"long word", "A: b\r\n\r\n" + strings.Repeat("x", 500), strings.Repeat("x", 200)},
		{"charset", "Content-Type: text/plain; charset=gb2312\r\nContent-Transfer-Encoding: base64\r\n\r\nxOO6w6OsysC95w==\r\n", "你好，世界"},
		{"html", "Content-Type: text/html\r\n\r\n<html><head><title>t</title><style>p{}</style></head><body><p>A<b>b</b>&amp;c</p><p>d<br>e<script>f</script> g</body>", "Ab&c d e g"},
		{"padding", "Content-Type: text/html; charset=utf-8\r\n\r\n<div>Sale&nbsp;&zwnj;&#847;&nbsp;&shy; now</div>", "Sale now"},
		{"broken html", "Content-Type: text/html\r\n\r\n<p a=\"b", ""},
		{"endless tag", "Content-Type: text/html\r\n\r\nok <p " + strings.Repeat("a", 300_000), "ok"},
		{"plain of two", multi("alternative", html, plain), "plain"},
		{"first of two", multi("mixed", html, plain), "rich"},
		{"only html", multi("alternative", html), "rich"},
		{"attachment", multi("mixed", "Content-Disposition: attachment\r\nContent-Type: text/plain\r\n\r\nfile", plain), "plain"},
		{"no text", multi("mixed", "Content-Type: image/png\r\n\r\nxx"), ""},
		{"message inside", multi("mixed", "Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ninside"), "inside"},
		{"empty first", multi("mixed", "Content-Type: text/plain\r\n\r\n", html), "rich"},
	} {
		if got := of(t, c.raw); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestPreviewError(t *testing.T) {
	broken := errors.New("broken")
	for _, sub := range []string{"plain", "html"} {
		if _, err := Text(&message.Part{Type: "text", Subtype: sub}, iotest.ErrReader(broken)); !errors.Is(err, broken) {
			t.Error(sub, err)
		}
	}
}

func FuzzPreview(f *testing.F) {
	f.Add("Content-Type: text/html\r\n\r\n<p>a<style>b</style>")
	f.Fuzz(func(t *testing.T, raw string) {
		got := of(t, raw)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > maxChars || strings.ContainsAny(got, "\r\n\t\x00") || strings.TrimSpace(got) != got {
			t.Fatalf("%q", got)
		}
	})
}
