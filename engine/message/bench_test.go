package message

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// typical is a message of about 10 KiB as a mail program writes it: a text, an HTML version, and an attachment.
func typical() []byte {
	var b strings.Builder
	for i := range 4 {
		fmt.Fprintf(&b, "Received: from relay%d.example.test (relay%d.example.test [192.0.2.%d])\r\n\tby mx%d.example.test with ESMTPS id abcdef%d\r\n\tfor <mei@example.test>; Mon, 2 Mar 2026 08:00:0%d +0800\r\n", i, i, i, i, i, i)
	}
	b.WriteString("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.test; s=k1;\r\n\tb=" + strings.Repeat("abcdefghij", 30) + "\r\n" +
		"From: =?utf-8?B?5p2O6Zu3?= <li@example.test>\r\nTo: Mei <mei@example.test>, \"Wang, Fang\" <wang@example.test>\r\n" +
		"Cc: team@example.test\r\nSubject: =?utf-8?B?5YWz5LqO6YKu5Lu257O757uf?=\r\nDate: Mon, 2 Mar 2026 08:00:00 +0800\r\n" +
		"Message-ID: <20260302080000.1234@example.test>\r\nIn-Reply-To: <1@example.test>\r\nReferences: <0@example.test>\r\n <1@example.test>\r\n" +
		"MIME-Version: 1.0\r\nUser-Agent: Example 1.0\r\nContent-Type: multipart/mixed; boundary=\"----=_outer\"\r\n\r\n" +
		"------=_outer\r\nContent-Type: multipart/alternative; boundary=\"----=_inner\"\r\n\r\n" +
		"------=_inner\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	b.WriteString(strings.Repeat("=E9=B8=BF=E9=9B=81=E4=BC=A0=E4=B9=A6 a line of text in between\r\n", 40))
	b.WriteString("------=_inner\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	b.WriteString(strings.Repeat("<p class=3D\"x\">=E9=B8=BF=E9=9B=81</p><span>another line</span>\r\n", 40))
	b.WriteString("------=_inner--\r\n------=_outer\r\nContent-Type: application/pdf; name=\"a.pdf\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"a.pdf\"\r\n\r\n")
	b.WriteString(strings.Repeat(strings.Repeat("QUJDRA==", 9)+"ABCD\r\n", 40))
	b.WriteString("------=_outer--\r\n")
	return []byte(b.String())
}

func BenchmarkScanTypical(b *testing.B) {
	raw := typical()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		scan(raw)
	}
}

func BenchmarkScanAndEncodeTypical(b *testing.B) {
	raw := typical()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := scan(raw).Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeTypical(b *testing.B) {
	enc, err := scan(typical()).Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(enc)), "bytes")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(enc); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkScanBody writes long bodies in pieces of 32 KiB.
func BenchmarkScanBody(b *testing.B) {
	lines := strings.Repeat(strings.Repeat("x", 76)+"\r\n", 400)
	for _, c := range []struct{ name, head, body string }{
		{"plain", "From: a@b.test\r\n\r\n", lines},
		{"part", "Content-Type: multipart/mixed; boundary=abc\r\n\r\n--abc\r\n\r\n", lines},
		{"dashes", "Content-Type: multipart/mixed; boundary=abc\r\n\r\n--abc\r\n\r\n", strings.Repeat("--ab\r\n", 5000)},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := NewScanner()
			if _, err := s.Write([]byte(c.head)); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(c.body)))
			for b.Loop() {
				if _, err := s.Write([]byte(c.body)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTextReader(b *testing.B) {
	raw := []byte(strings.Repeat(strings.Repeat("QUJDRA", 12)+"ABCD\r\n", 4000))
	p := &Part{Type: "text", Encoding: "base64", Params: Params{{Name: "charset", Value: "gb18030"}}}
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := io.Copy(io.Discard, TextReader(p, bytes.NewReader(raw))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOutlineTypical reads what a search needs, and an envelope as sorting does.
func BenchmarkOutlineTypical(b *testing.B) {
	enc, err := scan(typical()).Encode()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		read func(o *Outline) bool
	}{
		{"subject", func(o *Outline) bool { _, ok := o.Fields([]string{"Subject"}); return ok }},
		{"envelope", func(o *Outline) bool { _, ok := o.Envelope(); return ok }},
	} {
		b.Run(c.name, func(b *testing.B) {
			var o Outline
			b.ReportAllocs()
			for b.Loop() {
				if !o.Read(enc) || !c.read(&o) {
					b.Fatal("not read")
				}
			}
		})
	}
}
