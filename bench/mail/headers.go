package mail

import (
	"encoding/base64"
	"fmt"
	"mime"
	"strings"
	"time"
)

// party is somebody who writes or gets mail.
type party struct {
	name, address, domain, charset string
	lang                           *language
	company                        *company
}

// company is a place where people work: its people share a mail system, a signature and a logo.
type company struct {
	domain, host, footer string
	logo                 []byte
	large                bool // its mail comes by a large provider with long trace lines
}

func (p *party) String() string { return encodeWord(p.name, p.charset) + " <" + p.address + ">" }

// encodeWord puts what is not ASCII into RFC 2047's form.
func encodeWord(s, charset string) string {
	if charset == "gb2312" {
		return mime.BEncoding.Encode(charset, toGBK(s))
	}
	return mime.BEncoding.Encode("UTF-8", s)
}

const dateForm = "Mon, 02 Jan 2006 15:04:05 -0700"

func (g *Generator) hex(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "0123456789abcdef"[g.rng.IntN(16)]
	}
	return string(b)
}

func (g *Generator) noise(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 8 {
		v := g.rng.Uint64()
		for j := i; j < min(i+8, n); j++ {
			b[j], v = byte(v), v>>8
		}
	}
	return b
}

// token is n random bytes in base64, as signatures and identifiers have them.
func (g *Generator) token(n int) string { return base64.StdEncoding.EncodeToString(g.noise(n)) }

func (g *Generator) ip() string {
	return fmt.Sprintf("%d.%d.%d.%d", 11+g.rng.IntN(200), g.rng.IntN(256), g.rng.IntN(256), 1+g.rng.IntN(254))
}

// fold breaks a value at most every 64 characters.
func fold(s string) string {
	var b strings.Builder
	for len(s) > 64 {
		b.WriteString(s[:64] + "\r\n\t ")
		s = s[64:]
	}
	return b.String() + s
}

// trace writes the lines that servers put in front.
func (g *Generator) trace(b *strings.Builder, from *party, to []*party, at time.Time) {
	rcpt := to[0].address
	host := "mx" + fmt.Sprint(1+g.rng.IntN(4)) + "." + to[0].company.domain
	fmt.Fprintf(b, "Return-Path: <%s>\r\nDelivered-To: %s\r\n", from.address, rcpt)
	hop := at
	line := func(sender, by, with string) {
		fmt.Fprintf(b, "Received: from %s (%s [%s])\r\n\tby %s (Postfix) with %s id %s\r\n\tfor <%s>; %s\r\n", sender, sender, g.ip(), by, with,
			strings.ToUpper(g.hex(10)), rcpt, hop.Format(dateForm))
		hop = hop.Add(-time.Duration(g.rng.IntN(4)) * time.Second)
	}
	line(from.company.host, host, "ESMTPS")
	if from.company.large {
		g.provider(b, from, rcpt, hop)
	}
	line("localhost", from.company.host, "ESMTP")
	if g.rng.IntN(3) == 0 {
		line("app-"+g.hex(6)+".internal."+from.domain, from.company.host, "ESMTPSA")
	}
	if g.rng.IntN(2) == 0 {
		fmt.Fprintf(b, "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=%s; s=mail%d;\r\n\tt=%d; h=from:to:subject:date:message-id:mime-version:content-type;\r\n\tbh=%s;\r\n\tb=%s\r\n",
			from.domain, g.rng.IntN(3), at.Unix(), g.token(32), fold(g.token(256)))
	}
	fmt.Fprintf(b, "Authentication-Results: %s;\r\n\tdkim=pass header.d=%s header.s=mail;\r\n\tspf=pass (%s: domain of %s designates %s as permitted sender) smtp.mailfrom=%s;\r\n\tdmarc=pass (policy=none) header.from=%s\r\n",
		host, from.domain, host, from.address, g.ip(), from.address, from.domain)
}

// provider writes what a large provider adds: sealed chains and anti-spam reports.
func (g *Generator) provider(b *strings.Builder, from *party, rcpt string, at time.Time) {
	site := strings.ToUpper(g.hex(2)) + "2PR0" + strings.ToUpper(g.hex(2)) + "MB" + fmt.Sprint(1000+g.rng.IntN(9000))
	fmt.Fprintf(b, "ARC-Seal: i=1; a=rsa-sha256; s=arcselector10001; d=provider.example; cv=none;\r\n b=%s\r\n", fold(g.token(256)))
	fmt.Fprintf(b, "ARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=provider.example;\r\n s=arcselector10001;\r\n h=From:Date:Subject:Message-ID:Content-Type:MIME-Version:X-MS-Exchange-AntiSpam-MessageData-ChunkCount:X-MS-Exchange-AntiSpam-MessageData-0:X-MS-Exchange-AntiSpam-MessageData-1;\r\n bh=%s;\r\n b=%s\r\n",
		g.token(32), fold(g.token(256)))
	fmt.Fprintf(b, "ARC-Authentication-Results: i=1; mx.provider.example 1; spf=pass\r\n smtp.mailfrom=%s; dmarc=pass action=none\r\n header.from=%s; dkim=pass header.d=%s; arc=none\r\n", from.domain, from.domain, from.domain)
	for range 2 {
		fmt.Fprintf(b, "Received: from %s.eurprd02.prod.provider.example (2603:10a6:%s::%d)\r\n by %s.apcprd01.prod.provider.example (2603:1096:%s::%d) with\r\n Microsoft SMTP Server (version=TLS1_2,\r\n cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id 15.20.%d.%d; %s\r\n",
			site, g.hex(3), g.rng.IntN(30), site, g.hex(3), g.rng.IntN(30), 7000+g.rng.IntN(900), g.rng.IntN(30), at.Format(dateForm))
	}
	fmt.Fprintf(b, "X-MS-Exchange-Organization-ExpirationStartTime: %s\r\nX-MS-Exchange-Organization-ExpirationInterval: 1:00:00:00.0000000\r\nX-MS-Exchange-Organization-Network-Message-Id: %s-%s-%s\r\nX-EOPAttributedMessage: 0\r\nX-MS-Exchange-Organization-MessageDirectionality: Originating\r\nX-MS-PublicTrafficType: Email\r\nX-MS-TrafficTypeDiagnostic: %s:EE_|%s:EE_\r\nX-MS-Office365-Filtering-Correlation-Id: %s-%s-%s\r\nX-MS-Exchange-AtpMessageProperties: SA|SL\r\nX-MS-Exchange-Organization-SCL: -1\r\nX-Microsoft-Antispam: BCL:0;ARA:13230040|%d|%d|366016;\r\nX-Forefront-Antispam-Report: CIP:%s;CTRY:;LANG:en;SCL:-1;SRV:;IPV:NLI;SFV:NSPM;H:%s;PTR:;CAT:NONE;SFS:(13230040)(%d)(%d);DIR:INT;\r\n",
		at.Format("02 Jan 2006 15:04:05.0000"), g.hex(8), g.hex(4), g.hex(12), site, site, g.hex(8), g.hex(4), g.hex(12),
		g.rng.IntN(1<<30), g.rng.IntN(1<<30), g.ip(), rcpt, g.rng.IntN(1<<30), g.rng.IntN(1<<30))
	fmt.Fprintf(b, "X-MS-Exchange-AntiSpam-MessageData-ChunkCount: 1\r\nX-MS-Exchange-AntiSpam-MessageData-0: %s\r\n", fold(g.token(300+g.rng.IntN(900))))
}

// heading writes the lines that the sender's program puts in front.
func (g *Generator) heading(b *strings.Builder, from *party, to []*party, subject string, at time.Time) (id string) {
	id = g.hex(8) + "." + g.hex(12) + "@" + from.domain
	list := make([]string, len(to))
	for i, p := range to {
		list[i] = p.String()
	}
	fmt.Fprintf(b, "Date: %s\r\nFrom: %s\r\nTo: %s\r\nMessage-ID: <%s>\r\nSubject: %s\r\nMIME-Version: 1.0\r\n",
		at.Format(dateForm), from, strings.Join(list, ",\r\n "), id, encodeWord(subject, from.charset))
	return id
}
