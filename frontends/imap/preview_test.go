package imap

import (
	"slices"
	"testing"

	"hongyan/cluster/client"
	"hongyan/cluster/clustertest"
)

func testPreview(t *testing.T, c *clustertest.Cluster) {
	st := serve(t, c, "preview", nil)
	st.appendMessage("INBOX", crlf("Subject: a\n\nHello \"you\"\n"))
	st.appendMessage("INBOX", crlf("Subject: b\nContent-Type: text/html; charset=utf-8\n\n<p>你好</p>\n"))
	st.appendMessage("INBOX", crlf("Subject: c\nContent-Type: image/png\n\nxx\n"))
	r := st.rawUser("INBOX")
	want := []string{`* 1 FETCH (PREVIEW "Hello \"you\"" FLAGS ())`, `* 2 FETCH (PREVIEW {6}`, "你好 FLAGS ())", `* 3 FETCH (PREVIEW "" FLAGS ())`}
	for _, items := range []string{"(PREVIEW FLAGS)", "(PREVIEW (LAZY) FLAGS)"} {
		r.expect("FETCH 1:3 "+items, want...)
	}
	r.expect("UID FETCH 3 PREVIEW", `* 3 FETCH (UID 3 PREVIEW "")`)
	r.ok("ENABLE UTF8=ACCEPT")
	r.expect("FETCH 2 (PREVIEW BODY.PEEK[1]<0.3> UID)", `* 2 FETCH (PREVIEW "你好" BODY[1]<0> {3}`, "<p> UID 2)")
	r.want("FETCH 1 PREVIEW (EAGER)", "BAD")
	r.want("SEARCH CHARSET UTF-8 SUBJECT b", "BAD")
	r.expect("SEARCH SUBJECT b", "* SEARCH 2")
	st.mail.odd = func(uid uint32) error {
		if uid == 1 {
			return client.ErrLost
		}
		return nil
	}
	lines := r.want("FETCH 1:3 PREVIEW", "NO [CORRUPTION]")
	if !slices.Contains(lines, `* 2 FETCH (PREVIEW "你好")`) || len(lines) != 3 {
		t.Errorf("%q", lines)
	}
}
