package mail

import (
	"fmt"
	"strings"
)

// template is what a brand or a service sends again and again, with holes for what changes.
type template struct {
	from   *party
	extra  string // header lines of its program
	style  string
	blocks []string // newsletters: kinds of blocks; notifications: sentences
	footer string
	issue  []string // texts of the issue that goes out at present
	sent   int
}

// style makes the rules that a page of HTML begins with.
func (g *Generator) style(rules int) string {
	var b strings.Builder
	b.WriteString("<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\" \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\r\n<html xmlns=\"http://www.w3.org/1999/xhtml\">\r\n<head>\r\n<meta http-equiv=\"Content-Type\" content=\"text/html; charset=utf-8\" />\r\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1.0\" />\r\n<style type=\"text/css\">\r\nbody, table, td, a { -webkit-text-size-adjust: 100%; -ms-text-size-adjust: 100%; }\r\nimg { border: 0; height: auto; line-height: 100%; outline: none; text-decoration: none; }\r\n")
	for range rules {
		fmt.Fprintf(&b, "%s.%s { %s: %dpx; color: #%s; font-family: %s, Helvetica, Arial, sans-serif; %s }\r\n", []string{"", "td", "a", "p", "@media only screen and (max-width: 600px) { td"}[g.rng.IntN(4)],
			invent(g.rng), []string{"padding", "font-size", "width", "line-height", "margin-top"}[g.rng.IntN(5)], g.rng.IntN(640), g.hex(6),
			[]string{"'Open Sans'", "Roboto", "Lato", "Georgia"}[g.rng.IntN(4)], []string{"text-align: center;", "display: block !important;", "font-weight: bold;", "border-collapse: collapse;"}[g.rng.IntN(4)])
	}
	b.WriteString("</style>\r\n</head>\r\n")
	return b.String()
}

// link has what tells the sender who clicked where.
func (g *Generator) link(t *template) string {
	return fmt.Sprintf("https://click.%s/e/c/%s/%s?upn=%s", t.from.domain, g.hex(16), g.hex(8), strings.NewReplacer("+", "-2B", "/", "-2F", "=", "-3D").Replace(g.token(40+g.rng.IntN(80))))
}

func (g *Generator) newBrand(i int) *template {
	c := g.newCompany(fmt.Sprintf("brand%d.example", i), i)
	t := &template{from: g.newParty(c, "newsletter", g.language(i%4 == 0)), style: g.style(10 + g.rng.IntN(90))}
	t.extra = fmt.Sprintf("List-Unsubscribe: <https://%s/unsubscribe>, <mailto:unsubscribe@%s>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nX-Mailer: Campaign Studio %d.%d\r\nPrecedence: bulk\r\n", c.domain, c.domain, g.rng.IntN(9), g.rng.IntN(40))
	for range 3 {
		t.blocks = append(t.blocks, fmt.Sprintf("<table role=\"presentation\" border=\"0\" cellpadding=\"0\" cellspacing=\"0\" width=\"%d\" style=\"border-collapse:collapse;background-color:#%s;\"><tr><td align=\"center\" valign=\"top\" style=\"padding:%dpx %dpx;\"><a href=\"%%s\" target=\"_blank\" style=\"color:#%s;text-decoration:none;\"><img src=\"https://img.%s/%%s.jpg\" width=\"%d\" alt=\"%%s\" style=\"display:block;max-width:100%%%%;\" /></a></td></tr><tr><td class=\"%s\" style=\"font-size:%dpx;line-height:%dpx;color:#%s;\">%%s</td></tr></table>\r\n",
			400+g.rng.IntN(240), g.hex(6), g.rng.IntN(30), g.rng.IntN(30), g.hex(6), c.domain, 100+g.rng.IntN(500), invent(g.rng), 11+g.rng.IntN(12), 14+g.rng.IntN(16), g.hex(6)))
	}
	t.footer = g.english.paragraph(3 + g.rng.IntN(5))
	return t
}

// newsletter is an issue for some reader: the text is the same for all readers of an issue, the links are not.
func (g *Generator) newsletter() Message {
	t := g.brands[g.rng.IntN(len(g.brands))]
	if t.sent%5 == 0 {
		t.issue = t.from.lang.paragraphs(6 + g.rng.IntN(26))
	}
	t.sent++
	var html, text strings.Builder
	html.WriteString(t.style + "<body style=\"margin:0;padding:0;\">\r\n")
	for i, p := range t.issue {
		fmt.Fprintf(&html, t.blocks[i%len(t.blocks)], g.link(t), t.from.lang.words[i], p[:min(len(p), 24)], p)
		fmt.Fprintf(&text, "%s\r\n%s\r\n\r\n", p, g.link(t))
	}
	fmt.Fprintf(&html, "<p class=\"footer\">%s <a href=\"%s\">Unsubscribe</a></p><img src=\"%s\" width=\"1\" height=\"1\" />\r\n</body>\r\n</html>\r\n", t.footer, g.link(t), g.link(t))
	body := g.body(t.from, "html", html.String())
	if t.sent%3 > 0 {
		body = g.multi("alternative", g.body(t.from, "plain", text.String()), body)
	}
	return g.finish("newsletter", t.from, []int{g.somebody()}, t.from.lang.title(5), t.extra, body)
}

func (g *Generator) newService(i int) *template {
	c := g.newCompany(fmt.Sprintf("service%d.example", i), i)
	t := &template{from: g.newParty(c, "no-reply", g.language(i%4 == 0)), style: g.style(6 + g.rng.IntN(10)), footer: g.english.paragraph(2)}
	t.extra = fmt.Sprintf("X-Auto-Response-Suppress: All\r\nAuto-Submitted: auto-generated\r\nX-Service-Instance: %s\r\n", invent(g.rng))
	t.blocks = t.from.lang.paragraphs(6)
	return t
}

// notification is a template with a few values.
func (g *Generator) notification() Message {
	t := g.services[g.rng.IntN(len(g.services))]
	to := g.somebody()
	number, amount := g.rng.IntN(1e9), fmt.Sprintf("%d.%02d", g.rng.IntN(3000), g.rng.IntN(100))
	var html, text strings.Builder
	fmt.Fprintf(&html, "%s<body bgcolor=\"#f6f6f6\">\r\n<table border=\"0\" cellpadding=\"0\" cellspacing=\"0\" width=\"100%%\">\r\n", t.style)
	for i, p := range t.blocks[:3+number%4] {
		fmt.Fprintf(&html, "<tr><td style=\"font-family:Helvetica,Arial,sans-serif;font-size:14px;padding:10px %dpx;\">%s <b>%d-%d</b> %s %s</td></tr>\r\n", 10+i, p, number, i, amount, g.clock.Format("2006-01-02 15:04:05"))
		fmt.Fprintf(&text, "%s %d-%d %s\r\n", p, number, i, amount)
	}
	fmt.Fprintf(&html, "<tr><td><a href=\"https://app.%s/n/%s?token=%s\">Open</a></td></tr>\r\n<tr><td>%s</td></tr></table>\r\n</body></html>\r\n", t.from.domain, g.hex(24), g.hex(32), t.footer)
	fmt.Fprintf(&text, "\r\nhttps://app.%s/n/%s?token=%s\r\n-- \r\n%s\r\n", t.from.domain, g.hex(24), g.hex(32), t.footer)
	body := g.multi("alternative", g.body(t.from, "plain", text.String()), g.body(t.from, "html", html.String()))
	return g.finish("notification", t.from, []int{to}, fmt.Sprintf("[%s] %s #%d", t.from.name, t.from.lang.words[number%40], number), t.extra, body)
}

// report is a bounce.
func (g *Generator) report() Message {
	to := g.somebody()
	who := g.people[to]
	c := g.people[g.somebody()].company
	from := &party{name: "Mail Delivery System", address: "MAILER-DAEMON@" + c.domain, domain: c.domain, charset: "utf-8", lang: g.english, company: c}
	lost := invent(g.rng) + "@" + c.domain
	text := fmt.Sprintf("This is the mail system at host %s.\r\n\r\nI'm sorry to have to inform you that your message could not\r\nbe delivered to one or more recipients. It's attached below.\r\n\r\nFor further assistance, please send mail to postmaster.\r\n\r\n                   The mail system\r\n\r\n<%s>: host mx.%s[%s] said: 550 5.1.1 <%s>:\r\n    Recipient address rejected: User unknown (in reply to RCPT TO command)\r\n", c.host, lost, c.domain, g.ip(), lost)
	status := fmt.Sprintf("Content-Description: Delivery report\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; %s\r\nX-Postfix-Queue-ID: %s\r\nX-Postfix-Sender: rfc822; %s\r\nArrival-Date: %s\r\n\r\nFinal-Recipient: rfc822; %s\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 <%s>: Recipient address rejected: User unknown\r\n",
		c.host, strings.ToUpper(g.hex(10)), who.address, g.clock.Format(dateForm), lost, lost)
	var head strings.Builder
	head.WriteString("Content-Description: Undelivered Message Headers\r\nContent-Type: text/rfc822-headers\r\n\r\n")
	g.trace(&head, who, []*party{from}, g.clock)
	g.heading(&head, who, []*party{from}, who.lang.title(4), g.clock)
	body := g.multi("report", g.body(from, "plain", text), status, head.String())
	return g.finish("report", from, []int{to}, "Undelivered Mail Returned to Sender", "Auto-Submitted: auto-replied\r\n", body)
}
