package message

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

func TestParseDate(t *testing.T) {
	for v, want := range map[string]string{
		"Mon, 2 Mar 2026 08:00:01 +0800":             "2026-03-02T00:00:01Z",
		"2 Mar 2026 08:00 -0500 (EST)":               "2026-03-02T13:00:00Z",
		"Mon, 02 Mar 26 08:00:00 GMT":                "2026-03-02T08:00:00Z",
		"02 Mar 99 08:00:00 EST":                     "1999-03-02T13:00:00Z",
		"2 Mar 102 08:00:00 UT":                      "2002-03-02T08:00:00Z",
		"Mon Mar  2 08:00:00 2026":                   "2026-03-02T08:00:00Z",
		"Mon Mar  2 08:00:00 PST 2026":               "2026-03-02T16:00:00Z",
		"Monday, 02-Mar-2026 08:00:00 GMT":           "2026-03-02T08:00:00Z",
		"2026-03-02T08:00:00Z":                       "2026-03-02T08:00:00Z",
		"2026-03-02T08:00:00.123+08:00":              "2026-03-02T00:00:00Z",
		"2026-03-02 08:00:00 +0000":                  "2026-03-02T08:00:00Z",
		"2026/3/2 8:00":                              "2026-03-02T08:00:00Z",
		"Mon, 2 Mar 2026 08:00:00 GMT+0800":          "2026-03-02T00:00:00Z",
		"Mon, 2 Mar 2026 08:00:00+0800":              "2026-03-02T00:00:00Z",
		"Mon, 2 March 2026 8:00:00 PM +0000":         "2026-03-02T20:00:00Z",
		"Mon, 2 Mar 2026 12:00 AM":                   "2026-03-02T00:00:00Z",
		"Mon, 2 Mar 2026 08:00:00 (a comment) +0100": "2026-03-02T07:00:00Z",
		"Mon,2 Mar 2026 08:00:00 +9999":              "2026-03-02T08:00:00Z",
		"2 Mar 2026":                                 "2026-03-02T00:00:00Z",
		"2 Mar 2026 99:99:99":                        "2026-03-02T00:00:00Z",
		"Mon, 2 Mar 2026 08:00:00 (":                 "2026-03-02T08:00:00Z",
		"":                                           "",
		"yesterday":                                  "",
		"32 Mar 2026 08:00:00":                       "",
		"2 Foo 2026 08:00:00":                        "",
		"2026-13-45T00:00:00Z":                       "",
		"::::: -- ++ T// 1/2/3/4/5 T1 0000-00-00":    "",
	} {
		got := ""
		if n := parseDate(v); n != 0 {
			got = time.Unix(n, 0).UTC().Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", v, got, want)
		}
	}
}

func TestDecodeHeader(t *testing.T) {
	gb, err := simplifiedchinese.GB18030.NewEncoder().String("鸿雁传书")
	if err != nil {
		t.Fatal(err)
	}
	for v, want := range map[string]string{
		"":                                      "",
		"plain text":                            "plain text",
		"=?utf-8?B?6bi/6ZuB?=":                  "鸿雁",
		"=?UTF-8?q?caf=C3=A9_au_lait?= x":       "café au lait x",
		"a =?utf-8?q?b?= =?utf-8?q?c?=  d":      "a bc  d",
		"a  =?utf-8?q?b?=\t=?gbk?b?ztI=?= d":    "a  b我 d",
		"=?utf-8?B?6bi/6Zs=?= =?utf-8?B?gQ==?=": "鸿雁", // cut inside a character
		"=?gb2312?B?ztI=?==?gb2312?B?ztI=?=":    "我我",
		"=?utf-8*zh-CN?Q?=E9=9B=81?=":           "雁",
		"=?utf-8?Q?two words?=":                 "two words",
		"=?utf-8?B?6bi/6ZuB":                    "=?utf-8?B?6bi/6ZuB",
		"=?utf-8?X?abc?=":                       "=?utf-8?X?abc?=",
		"=??Q?abc?=":                            "=??Q?abc?=",
		"=?utf-8?Q?bad=ZZ=?=":                   "bad=ZZ=",
		"=?utf-8?B?6bi/!6ZuB==?=":               "鸿雁",
		"=?no-such-charset?Q?abc?=":             "abc",
		"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=":    "日本",
		"=?big5?B?pKSk5Q==?=":                   "中文",
		"=?=?utf-8?q?x?=":                       "=?x",
		"\"=?utf-8?q?x?=\" <a@b>":               "\"x\" <a@b>",
		"folded\r\n text":                       "folded text",
		"caf\xe9 au lait":                       "café au lait",
		gb:                                      "鸿雁传书",
		"=?utf-8?Q?=FF?=":                       "\uFFFD",
		"鸿雁":                                    "鸿雁",
	} {
		if got := DecodeHeader(v); got != want || !utf8.ValidString(got) {
			t.Errorf("%q: got %q, want %q", v, got, want)
		}
	}
	start := processorTime(t)
	for _, piece := range []string{"=?", "=?a?q?", "=?a?b?x?= ", "\xff\xfe", "=?a?q?=?="} {
		DecodeHeader(strings.Repeat(piece, 1<<20/len(piece)))
	}
	if d := processorTime(t) - start; d > 3*time.Second {
		t.Errorf("hostile headers took %v", d)
	}
}

func TestTextReader(t *testing.T) {
	encode := func(s string, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const zh, ja = "鸿雁在云鱼在水，惆怅此情难寄。", "日本語のテキスト"
	text := func(charset string) *Part {
		return &Part{Type: "text", Params: Params{{Name: "charset", Value: charset}}}
	}
	with := func(p *Part, encoding string) *Part { p.Encoding = encoding; return p }
	for name, c := range map[string]struct {
		part       *Part
		body, want string
	}{
		"utf-8":            {text("UTF-8"), zh, zh},
		"gb2312":           {text("gb2312"), encode(simplifiedchinese.GBK.NewEncoder().String(zh)), zh},
		"gb18030":          {text("\"GB18030\""), encode(simplifiedchinese.GB18030.NewEncoder().String(zh)), zh},
		"hz":               {text("hz-gb-2312"), "~{<:Ky2;~}", "己所不"},
		"big5":             {text("Big5"), encode(traditionalchinese.Big5.NewEncoder().String("中文測試")), "中文測試"},
		"iso-2022-jp":      {text("ISO-2022-JP"), encode(japanese.ISO2022JP.NewEncoder().String(ja)), ja},
		"cp932":            {text("cp932"), encode(japanese.ShiftJIS.NewEncoder().String(ja)), ja},
		"latin":            {text("iso-8859-1"), "caf\xe9", "café"},
		"no charset":       {&Part{Type: "text"}, zh, zh},
		"no charset, gbk":  {text("us-ascii"), encode(simplifiedchinese.GBK.NewEncoder().String(zh)), zh},
		"no charset, west": {text("8bit"), "caf\xe9 au lait", "café au lait"},
		"unknown charset":  {text("klingon"), "Qapla'", "Qapla'"},
		"broken utf-8":     {text("utf-8"), "a\xffb", "a\uFFFDb"},
		"utf-16":           {text("utf-16"), "\xfe\xff\x9e\x3f", "鸿"},

		"base64":            {with(text("utf-8"), "base64"), "6bi/\r\n6ZuB\r\n", "鸿雁"},
		"base64, junk":      {with(text("utf-8"), "base64"), "6b i/!\r\n 6ZuB", "鸿雁"},
		"base64, unpadded":  {with(text("utf-8"), "base64"), "YWI", "ab"},
		"base64, joined":    {with(text("utf-8"), "base64"), "YQ==\nYg==", "ab"},
		"base64, one char":  {with(text("utf-8"), "base64"), "Y", ""},
		"base64, opaque":    {&Part{Type: "image", Encoding: "base64"}, "AP8=", "\x00\xff"},
		"quoted":            {with(text("utf-8"), "quoted-printable"), "=E9=B8=BF=\r\n=e9=9b=81=  \n.", "鸿雁."},
		"quoted, blanks":    {with(text("utf-8"), "quoted-printable"), "a b  \r\n\tc \t\n=20\nd ", "a b\r\n\tc\n \nd"},
		"quoted, broken":    {with(text("utf-8"), "quoted-printable"), "a=ZZ=3", "a=ZZ=3"},
		"quoted, end":       {with(text("utf-8"), "quoted-printable"), "a=", "a"},
		"quoted, gb18030":   {with(text("gb18030"), "quoted-printable"), "=CE=D2", "我"},
		"quoted, long tail": {with(text("utf-8"), "quoted-printable"), "a=" + strings.Repeat(" ", 70) + "\nb", "a=" + strings.Repeat(" ", 70-maxBlanks) + "\nb"},
	} {
		for kind, r := range map[string]io.Reader{
			"whole": strings.NewReader(c.body), "bytes": iotest.OneByteReader(strings.NewReader(c.body)),
		} {
			got, err := io.ReadAll(TextReader(c.part, r))
			if err != nil || string(got) != c.want {
				t.Errorf("%s, %s: got %q, %v, want %q", name, kind, got, err, c.want)
			}
		}
	}
}

// TestTextReaderReportsTheReader gives bodies that cannot be read: their error comes through.
func TestTextReaderReportsTheReader(t *testing.T) {
	lost := errors.New("lost the disk")
	for _, encoding := range []string{"", "base64", "quoted-printable"} {
		for _, charset := range []string{"", "utf-8", "gbk"} {
			p := &Part{Type: "text", Encoding: encoding, Params: Params{{Name: "charset", Value: charset}}}
			r := io.MultiReader(strings.NewReader(strings.Repeat("abcd", 2000)), iotest.ErrReader(lost))
			if _, err := io.ReadAll(TextReader(p, r)); !errors.Is(err, lost) {
				t.Errorf("%q %q: %v", encoding, charset, err)
			}
		}
	}
}

func TestParamsDecoded(t *testing.T) {
	for field, want := range map[string]string{
		`x; name="plain.txt"`:                                    "plain.txt",
		`x; name="=?utf-8?B?6bi/6ZuB?=.txt"`:                     "鸿雁.txt",
		`x; name*=UTF-8''%E9%B8%BF%E9%9B%81.txt`:                 "鸿雁.txt",
		`x; name*=gbk'zh'%CE%D2`:                                 "我",
		`x; name*0="a"; name*1="b"; name*2="c"`:                  "abc",
		`x; name*1*=%9B%81; name*0*=utf-8''%E9%B8%BF%E9; x=1`:    "鸿雁",
		`x; name*0*=utf-8''%E9%B8%BF; name*1="plain"; name*3=no`: "鸿plain",
		`x; name*=%ZZ`:                  "%ZZ",
		`x; name*=broken'%41`:           "A",
		`x; NAME = value ; name=second`: "value",
		`x;;; name=; y`:                 "",
		`x; name="a;b\"c"`:              `a;b"c`,
		`x; name="open; y=z`:            "open",
		`x; name='single'`:              "'single'",
	} {
		_, params := parseValue(field)
		if got, _ := params.Decoded("name"); got != want {
			t.Errorf("%s: got %q, want %q (%v)", field, got, want, params)
		}
	}
	if _, ok := Params(nil).Decoded("name"); ok {
		t.Error("found what is not there")
	}
}

func TestFields(t *testing.T) {
	raw := []byte("Received: x\r\nSubject: a\r\n b\r\nTo: one@b.test\r\nnot a field\r\nX-Odd: 1\r\nto : two@b.test\r\nFrom: x\r\n\r\nTo: body\r\n")
	s := scan(raw)
	header := raw[:s.Structure.BodyStart]
	for _, c := range []struct {
		names []string
		want  string
		ok    bool
	}{
		{[]string{"SUBJECT"}, "Subject: a\r\n b\r\n\r\n", true},
		{[]string{"To", "subject"}, "Subject: a\r\n b\r\nTo: one@b.test\r\nto : two@b.test\r\n\r\n", true},
		{[]string{"Cc", "X-Missing"}, "\r\n", true},
		{nil, "\r\n", true},
		{[]string{"From", "Received"}, "Received: x\r\nFrom: x\r\n\r\n", false},
		{[]string{"X-Odd"}, "X-Odd: 1\r\n\r\n", false},
	} {
		got, ok := s.Fields(c.names)
		if ok != c.ok || ok && string(got) != c.want {
			t.Errorf("%q: got %q, %v", c.names, got, ok)
		}
		if got := FilterHeader(header, c.names, false); string(got) != c.want {
			t.Errorf("%q: filtered %q", c.names, got)
		}
	}
	if got := FilterHeader(header, []string{"received", "TO", "x-odd"}, true); string(got) != "Subject: a\r\n b\r\nnot a field\r\nFrom: x\r\n\r\n" {
		t.Errorf("all others: %q", got)
	}
	if s.Headers[0].Name() != "Subject" || s.Headers[0].Value() != "a b" {
		t.Errorf("field %q: %q", s.Headers[0].Name(), s.Headers[0].Value())
	}
	if got, ok := scan([]byte("Subject: cut")).Fields([]string{"subject"}); !ok || string(got) != "Subject: cut\r\n\r\n" {
		t.Errorf("cut field: %q, %v", got, ok)
	}
	if _, ok := scan([]byte(manyNames(1000) + "\n")).Fields([]string{"subject"}); ok {
		t.Error("answered although too many names were skipped")
	}
}

func TestSections(t *testing.T) {
	raw := readFile(t, "testdata/structure/message-inside.eml")
	s := scan(raw)
	for _, c := range []struct {
		path    []int
		section Section
		want    string
	}{
		{nil, Body, string(raw)},
		{nil, Header, "From: a@b.test\nSubject: Fwd\nContent-Type: multipart/mixed; boundary=b\n\n"},
		{nil, Text, string(raw[71:])},
		{[]int{1}, Body, "see below"},
		{[]int{1}, MIME, "\n"},
		{[]int{2}, MIME, "Content-Type: message/rfc822\n\n"},
		{[]int{2}, Body, string(raw[120:354])},
		{[]int{2}, Header, string(raw[120:270])},
		{[]int{2}, Text, string(raw[270:354])},
		{[]int{2, 1}, Body, "inner one"},
		{[]int{2, 2}, MIME, "Content-Type: message/rfc822\n\n"},
		{[]int{2, 2}, Header, "Subject: deeper\n\n"},
		{[]int{2, 2, 1}, Body, "deepest body"},
	} {
		start, end, ok := s.Range(c.path, c.section)
		if !ok || string(raw[start:end]) != c.want {
			t.Errorf("%v, %d: got %d-%d, %v", c.path, c.section, start, end, ok)
		}
	}
	for _, c := range []struct {
		path    []int
		section Section
	}{
		{[]int{0}, Body}, {[]int{-1}, Body}, {[]int{3}, Body}, {[]int{1, 1}, Body}, {[]int{1}, Header}, {[]int{1}, Text},
		{[]int{2, 3}, Body}, {[]int{2, 2, 2}, Body}, {[]int{2, 2, 1, 1}, Body}, {nil, MIME}, {[]int{2, 1}, Header},
	} {
		if start, end, ok := s.Range(c.path, c.section); ok {
			t.Errorf("%v, %d: got %d-%d", c.path, c.section, start, end)
		}
	}
	plain := []byte("Subject: x\n\nbody")
	start, end, ok := scan(plain).Range([]int{1}, Body)
	if !ok || !bytes.Equal(plain[start:end], []byte("body")) {
		t.Errorf("part 1 of a message without parts: %d-%d, %v", start, end, ok)
	}
}

// Comments inside of an angle address are no part of it, a source route stands apart.
func TestAddressParts(t *testing.T) {
	s := scan([]byte("From: <a (x)@ (y) b.test> (real)\r\nTo: Jo <(c)x@y.test(d)>\r\nCc: <@a.test,@b.test:u@c.test>\r\n\r\n"))
	if cc := s.Envelope.Cc; len(cc) != 1 || cc[0] != (Address{Mailbox: "u", Host: "c.test", Route: "@a.test,@b.test"}) {
		t.Errorf("%+v", cc)
	}
	if f := s.Envelope.From; len(f) != 1 || f[0] != (Address{Name: "real", Mailbox: "a", Host: "b.test"}) {
		t.Errorf("%+v", f)
	}
	if to := s.Envelope.To; len(to) != 1 || to[0] != (Address{Name: "Jo", Mailbox: "x", Host: "y.test"}) {
		t.Errorf("%+v", to)
	}
}

// A field that is there and empty is told from one that is missing; of two fields the first counts that says something.
func TestBlankFields(t *testing.T) {
	for raw, want := range map[string]uint8{
		"Subject: a\r\n\r\n":                           0,
		"Subject:\r\nIn-Reply-To:  \r\n\r\n":           BlankSubject | BlankInReplyTo,
		"Date:\r\nMessage-ID:\r\n \r\n\r\n":            BlankDate | BlankMessageID,
		"Subject:\r\nSubject: b\r\n\r\n":               0,
		"Subject: b\r\nSubject:\r\n\r\n":               0,
		"Content-Type: text/plain\r\n\r\nSubject:\r\n": 0,
	} {
		s := scan([]byte(raw))
		again, err := Decode(mustEncode(t, s))
		if err != nil || s.Envelope.Blank != want || again.Envelope.Blank != want {
			t.Errorf("%q: %d, %v, want %d", raw, s.Envelope.Blank, err, want)
		}
	}
}
