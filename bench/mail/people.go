package mail

import (
	"fmt"
	"strings"
)

// thread is a conversation of two.
type thread struct {
	a, b    int
	subject string
	last    string   // id of the latest message
	refs    []string // ids of all
	texts   []quote  // the latest first
}

type quote struct {
	who, when string
	lines     []string
}

// converse goes on with a thread, or begins one.
func (g *Generator) converse() *thread {
	if len(g.threads) > 50 && g.rng.IntN(4) > 0 {
		t := g.threads[g.rng.IntN(len(g.threads))]
		t.a, t.b = t.b, t.a
		return t
	}
	t := &thread{a: g.somebody(), b: g.somebody()}
	t.subject = g.people[t.a].lang.title(3)
	if len(g.threads) < 400 {
		g.threads = append(g.threads, t)
	} else {
		g.threads[g.rng.IntN(len(g.threads))] = t
	}
	return t
}

// reply is the next message of a conversation, above what it answers.
func (g *Generator) reply() Message {
	t := g.converse()
	from := g.people[t.a]
	lines := from.lang.paragraphs(1 + g.rng.IntN(5))
	subject, extra := t.subject, "X-Mailer: Microsoft Outlook 16.0\r\nThread-Index: "+g.token(22)+"\r\n"
	if len(t.refs) > 0 {
		subject = map[bool]string{false: "Re: ", true: "答复: "}[from.lang.chinese] + subject
		extra += fmt.Sprintf("In-Reply-To: <%s>\r\nReferences: <%s>\r\n", t.last, strings.Join(t.refs, ">\r\n <"))
	}
	text, html := g.letter(from, lines), g.outlook(from, lines)
	for i, q := range t.texts {
		text += "\r\n" + quoteText(q, i+1)
		html += quoteHTML(q)
	}
	html += "</div></body></html>\r\n"
	body := g.multi("alternative", g.body(from, "plain", text), g.body(from, "html", html))
	if g.rng.IntN(3) == 0 { // with the company's logo
		logo := file{name: "image001.png", kind: "image/png", data: from.company.logo}
		body = g.multi("related", body, logo.part("inline"))
	}
	m := g.finish("reply", from, []int{t.b}, subject, extra, body)
	t.last = g.hex(20) + "@" + from.domain
	t.refs = append(t.refs, t.last)
	t.texts = append([]quote{{from.name, g.clock.Format("Mon, Jan 2, 2006 at 15:04"), lines}}, t.texts...)
	if len(t.texts) > 6 {
		t.texts, t.refs = t.texts[:6], t.refs[len(t.refs)-6:]
	}
	return m
}

// letter is a plain text with the signature of its writer.
func (g *Generator) letter(from *party, lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(wrap("", l) + "\r\n")
	}
	fmt.Fprintf(&b, "-- \r\n%s\r\n%s\r\n%s\r\n", from.name, from.address, wrap("", from.company.footer))
	return b.String()
}

// outlook is the beginning of a letter in HTML as the commonest program writes it.
func (g *Generator) outlook(from *party, lines []string) string {
	var b strings.Builder
	b.WriteString("<html xmlns:v=\"urn:schemas-microsoft-com:vml\" xmlns:o=\"urn:schemas-microsoft-com:office:office\" xmlns:w=\"urn:schemas-microsoft-com:office:word\" xmlns:m=\"http://schemas.microsoft.com/office/2004/12/omml\" xmlns=\"http://www.w3.org/TR/REC-html40\">\r\n<head>\r\n<meta http-equiv=\"Content-Type\" content=\"text/html; charset=utf-8\">\r\n<meta name=\"Generator\" content=\"Microsoft Word 15 (filtered medium)\">\r\n<style><!--\r\n/* Font Definitions */\r\n@font-face\r\n\t{font-family:\"Cambria Math\";\r\n\tpanose-1:2 4 5 3 5 4 6 3 2 4;}\r\n@font-face\r\n\t{font-family:Calibri;\r\n\tpanose-1:2 15 5 2 2 2 4 3 2 4;}\r\n/* Style Definitions */\r\np.MsoNormal, li.MsoNormal, div.MsoNormal\r\n\t{margin:0cm;\r\n\tfont-size:11.0pt;\r\n\tfont-family:\"Calibri\",sans-serif;}\r\na:link, span.MsoHyperlink\r\n\t{mso-style-priority:99;\r\n\tcolor:#0563C1;\r\n\ttext-decoration:underline;}\r\n.MsoChpDefault\r\n\t{mso-style-type:export-only;}\r\n@page WordSection1\r\n\t{size:612.0pt 792.0pt;\r\n\tmargin:72.0pt 72.0pt 72.0pt 72.0pt;}\r\ndiv.WordSection1\r\n\t{page:WordSection1;}\r\n--></style>\r\n</head>\r\n<body lang=\"EN-US\" link=\"#0563C1\" vlink=\"#954F72\" style=\"word-wrap:break-word\">\r\n<div class=\"WordSection1\">\r\n")
	for _, l := range lines {
		fmt.Fprintf(&b, "<p class=\"MsoNormal\">%s<o:p></o:p></p>\r\n<p class=\"MsoNormal\"><o:p>&nbsp;</o:p></p>\r\n", l)
	}
	fmt.Fprintf(&b, "<p class=\"MsoNormal\"><b>%s</b><o:p></o:p></p>\r\n<p class=\"MsoNormal\"><span style=\"font-size:8.0pt;color:gray\">%s<o:p></o:p></span></p>\r\n", from.name, from.company.footer)
	return b.String()
}

func quoteText(q quote, depth int) string {
	prefix := strings.Repeat(">", depth) + " "
	var b strings.Builder
	fmt.Fprintf(&b, "%sOn %s %s wrote:\r\n", prefix[1:], q.when, q.who)
	for _, l := range q.lines {
		b.WriteString(wrap(prefix, l) + prefix + "\r\n")
	}
	return b.String()
}

func quoteHTML(q quote) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<div style=\"border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt 0cm 0cm 0cm\">\r\n<p class=\"MsoNormal\"><b>From:</b> %s<br>\r\n<b>Sent:</b> %s<o:p></o:p></p>\r\n</div>\r\n", q.who, q.when)
	for _, l := range q.lines {
		fmt.Fprintf(&b, "<p class=\"MsoNormal\">%s<o:p></o:p></p>\r\n", l)
	}
	return b.String()
}

// post is a message to a mailing list.
func (g *Generator) post() Message {
	list := g.lists[g.rng.IntN(len(g.lists))]
	writer := g.people[g.somebody()]
	to := []int{g.somebody()}
	for len(to) < 2+g.rng.IntN(3) {
		to = append(to, g.somebody())
	}
	extra := fmt.Sprintf("X-BeenThere: %[1]s@%[2]s\r\nPrecedence: list\r\nList-Id: <%[1]s.%[2]s>\r\nList-Unsubscribe: <https://%[2]s/mailman/options/%[1]s>,\r\n <mailto:%[1]s-request@%[2]s?subject=unsubscribe>\r\nList-Archive: <https://%[2]s/pipermail/%[1]s/>\r\nList-Post: <mailto:%[1]s@%[2]s>\r\nList-Help: <mailto:%[1]s-request@%[2]s?subject=help>\r\nErrors-To: %[1]s-bounces@%[2]s\r\nSender: \"%[1]s\" <%[1]s-bounces@%[2]s>\r\nUser-Agent: Mozilla Thunderbird\r\n",
		list.name, list.domain)
	lines := writer.lang.paragraphs(2 + g.rng.IntN(10))
	text := g.letter(writer, lines) + fmt.Sprintf("_______________________________________________\r\n%s mailing list\r\n%s@%s\r\nhttps://%s/mailman/listinfo/%s\r\n", list.name, list.name, list.domain, list.domain, list.name)
	from := *writer
	from.company = list.company
	return g.finish("list", &from, to, "["+list.name+"] "+writer.lang.title(4), extra, g.body(&from, "plain", text))
}

// attachment is a short letter with files.
func (g *Generator) attachment() Message {
	from := g.people[g.somebody()]
	lines := from.lang.paragraphs(1 + g.rng.IntN(3))
	parts := []string{g.multi("alternative", g.body(from, "plain", g.letter(from, lines)), g.body(from, "html", g.outlook(from, lines)+"</div></body></html>\r\n"))}
	for range 1 + g.rng.IntN(3)*g.rng.IntN(2) {
		var f *file
		if len(g.files) > 20 && g.rng.IntN(6) == 0 {
			f = g.files[g.rng.IntN(len(g.files))]
		} else {
			f = g.newFile(g.logNormal(60e3, 1, 2e3, 8e6))
			if len(g.files) < 60 {
				g.files = append(g.files, f)
			} else {
				g.files[g.rng.IntN(len(g.files))] = f
			}
		}
		parts = append(parts, f.part("attachment"))
	}
	to := []int{g.somebody()}
	for g.rng.IntN(2) == 0 && len(to) < 5 {
		to = append(to, g.somebody())
	}
	return g.finish("attachment", from, to, from.lang.title(3), "X-Mailer: Microsoft Outlook 16.0\r\n", g.multi("mixed", parts...))
}

// invitation is a meeting.
func (g *Generator) invitation() Message {
	from := g.people[g.somebody()]
	to := g.somebody()
	text := from.lang.paragraph(3)
	at := g.clock.AddDate(0, 0, 1+g.rng.IntN(20))
	calendar := fmt.Sprintf("BEGIN:VCALENDAR\r\nPRODID:-//Calendar//Events 1.0//EN\r\nVERSION:2.0\r\nCALSCALE:GREGORIAN\r\nMETHOD:REQUEST\r\nBEGIN:VTIMEZONE\r\nTZID:Asia/Shanghai\r\nBEGIN:STANDARD\r\nTZOFFSETFROM:+0800\r\nTZOFFSETTO:+0800\r\nTZNAME:CST\r\nDTSTART:19700101T000000\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\nBEGIN:VEVENT\r\nDTSTART;TZID=Asia/Shanghai:%s\r\nDTEND;TZID=Asia/Shanghai:%s\r\nORGANIZER;CN=%s:mailto:%s\r\nUID:%s\r\nATTENDEE;CUTYPE=INDIVIDUAL;ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=TRUE;CN=%s:mailto:%s\r\nDESCRIPTION:%s\r\nSEQUENCE:0\r\nSTATUS:CONFIRMED\r\nSUMMARY:%s\r\nTRANSP:OPAQUE\r\nBEGIN:VALARM\r\nACTION:DISPLAY\r\nTRIGGER:-P0DT0H15M0S\r\nEND:VALARM\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
		at.Format("20060102T150405"), at.Format("20060102T160405"), from.name, from.address, g.hex(52), g.people[to].name, g.people[to].address, text, from.lang.title(3))
	body := g.multi("alternative", g.body(from, "plain", g.letter(from, []string{text})), g.body(from, "calendar; method=REQUEST", calendar))
	return g.finish("invitation", from, []int{to}, "Invitation: "+from.lang.title(3), "", body)
}
