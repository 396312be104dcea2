package mail

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"mime/quotedprintable"
	"strings"

	"golang.org/x/text/encoding/simplifiedchinese"
)

// toGBK recodes a text of ours; what GBK lacks becomes a question mark.
func toGBK(s string) string {
	out, err := simplifiedchinese.GBK.NewEncoder().String(s)
	if err != nil {
		return strings.Map(func(r rune) rune {
			if r < 128 {
				return r
			}
			return '?'
		}, s)
	}
	return out
}

// body is a text part with its header lines, in the writer's charset and an encoding that suits it.
func (g *Generator) body(p *party, subtype, text string) string {
	charset := p.charset
	if charset == "gb2312" {
		text = toGBK(text)
	}
	encoding := "7bit"
	switch {
	case subtype == "html" || !p.lang.chinese && g.rng.IntN(3) == 0:
		encoding = "quoted-printable"
	case p.lang.chinese:
		encoding = []string{"base64", "base64", "quoted-printable", "8bit"}[g.rng.IntN(4)]
	}
	if subtype == "html" && p.lang.chinese && g.rng.IntN(2) == 0 {
		encoding = "base64"
	}
	head := fmt.Sprintf("Content-Type: text/%s; charset=\"%s\"\r\nContent-Transfer-Encoding: %s\r\n\r\n", subtype, charset, encoding)
	switch encoding {
	case "base64":
		return head + lines64([]byte(text))
	case "quoted-printable":
		var b bytes.Buffer
		w := quotedprintable.NewWriter(&b)
		w.Write([]byte(text)) // into memory: cannot fail
		w.Close()
		return head + b.String() + "\r\n"
	}
	return head + text + "\r\n"
}

// lines64 is base64 in lines of 76.
func lines64(b []byte) string {
	s := base64.StdEncoding.EncodeToString(b)
	var out strings.Builder
	out.Grow(len(s) + len(s)/38 + 2)
	for len(s) > 76 {
		out.WriteString(s[:76])
		out.WriteString("\r\n")
		s = s[76:]
	}
	out.WriteString(s)
	out.WriteString("\r\n")
	return out.String()
}

// multi puts parts, each with its header lines, into a multipart.
func (g *Generator) multi(subtype string, parts ...string) string {
	boundary := "----=_Part_" + g.hex(7) + "_" + g.hex(9) + "." + g.hex(13)
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/%s;\r\n\tboundary=\"%s\"\r\n\r\n", subtype, boundary)
	if subtype == "mixed" {
		b.WriteString("This is a multi-part message in MIME format.\r\n")
	}
	for _, p := range parts {
		fmt.Fprintf(&b, "--%s\r\n%s\r\n", boundary, p)
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.String()
}

// wrap breaks a paragraph into lines of about 72 bytes behind a prefix.
func wrap(prefix, text string) string {
	var b strings.Builder
	line := 0
	for _, w := range strings.SplitAfter(text, " ") {
		if line+len(w) > 72 {
			b.WriteString("\r\n")
			line = 0
		}
		if line == 0 {
			b.WriteString(prefix)
		}
		b.WriteString(w)
		line += len(w)
	}
	return b.String() + "\r\n"
}

// file is an attachment.
type file struct {
	name, kind string
	data       []byte
}

func (f *file) part(disposition string) string {
	return fmt.Sprintf("Content-Type: %s; name=\"%s\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: %s; filename=\"%s\"\r\n\r\n%s",
		f.kind, f.name, disposition, f.name, lines64(f.data))
}

// newFile makes an attachment of about n bytes.
func (g *Generator) newFile(n int) *file {
	name := strings.ToLower(g.english.title(1)) + "-" + fmt.Sprint(g.rng.IntN(1000))
	switch k := g.rng.IntN(100); {
	case k < 35:
		return &file{name + ".pdf", "application/pdf", g.pdf(n)}
	case k < 50:
		return &file{name + ".jpg", "image/jpeg", append([]byte("\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"), g.noise(n)...)}
	case k < 60:
		return &file{name + ".png", "image/png", g.png(n)}
	case k < 80:
		return &file{name + ".docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", g.zip(n)}
	case k < 92:
		return &file{name + ".xls", "application/vnd.ms-excel", g.sheet(n)}
	}
	return &file{name + ".csv", "text/csv", g.table(n)}
}

// pdf is objects of text around compressed streams.
func (g *Generator) pdf(n int) []byte {
	b := []byte("%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
	for i := 1; len(b) < n; i++ {
		s := min(2000+g.rng.IntN(14000), n)
		b = fmt.Appendf(b, "%d 0 obj\n<</Type /Page /Parent 3 0 R /Resources <</Font <</F1 5 0 R /F2 %d 0 R>> /ProcSet[/PDF/Text/ImageB/ImageC/ImageI]>> /MediaBox[0 0 595.32 841.92] /Contents %d 0 R /Group<</Type/Group/S/Transparency/CS/DeviceRGB>>>>\nendobj\n%d 0 obj\n<</Filter /FlateDecode /Length %d>>\nstream\n", i, i+4, i+1, i+1, s)
		b = append(b, g.noise(s)...)
		b = append(b, "\nendstream\nendobj\n"...)
	}
	b = fmt.Appendf(b, "xref\n0 %d\n", n/9000+1)
	for i := range n / 9000 {
		b = fmt.Appendf(b, "%010d 00000 n \n", i*9000+g.rng.IntN(9000))
	}
	return append(b, "trailer\n<</Size 99/Root 1 0 R/Info 9 0 R>>\nstartxref\n0\n%%EOF\n"...)
}

// png is chunks of a deflated picture.
func (g *Generator) png(n int) []byte {
	b := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x02\x00\x00\x00\x01\x80\x08\x06\x00\x00\x00")
	for len(b) < n {
		b = append(b, "\x00\x00\x20\x00IDAT"...)
		b = append(b, g.noise(8192)...)
	}
	return append(b[:max(n, 64)], "\x00\x00\x00\x00IEND\xaeB`\x82"...)
}

// zip is an office file: deflated XML and pictures with the names that these files have.
func (g *Generator) zip(n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		name := []string{"[Content_Types].xml", "_rels/.rels", "word/document.xml", "word/styles.xml", "word/theme/theme1.xml", "word/media/image1.png"}[min(i, 5)]
		b = append(b, "PK\x03\x04\x14\x00\x06\x00\x08\x00\x00\x00!\x00"...)
		b = append(b, g.noise(12)...)
		b = append(b, name...)
		b = append(b, g.noise([]int{360, 240, n / 3, 3800, 1700, n / 4}[min(i, 5)])...)
	}
	return b
}

// sheet is an older office file: words and numbers in 16-bit characters and records, with much padding.
func (g *Generator) sheet(n int) []byte {
	b := []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
	b = append(b, make([]byte, 504)...)
	for row := uint16(0); len(b) < n; row++ {
		for col := range byte(8) {
			b = append(b, 0xfd, 0, 10, 0, byte(row), byte(row>>8), col, 0, 15+col, 0)
			b = append(b, g.noise(2)...)
			b = append(b, 0, 0)
		}
		if row%4 == 0 {
			for _, r := range g.english.word() {
				b = append(b, byte(r), 0)
			}
		}
		if row%64 == 0 {
			b = append(b, make([]byte, 512)...)
		}
	}
	return b
}

// table is comma-separated rows.
func (g *Generator) table(n int) []byte {
	b := []byte("id,date,name,city,amount,state\r\n")
	for i := 1; len(b) < n; i++ {
		b = fmt.Appendf(b, "%d,2026-%02d-%02d,%s %s,%s,%d.%02d,%s\r\n", 100000+i, 1+g.rng.IntN(12), 1+g.rng.IntN(28), upper(g.english.word()), upper(g.english.word()),
			upper(g.english.word()), g.rng.IntN(5000), g.rng.IntN(100), []string{"open", "paid", "cancelled"}[g.rng.IntN(3)])
	}
	return b
}
