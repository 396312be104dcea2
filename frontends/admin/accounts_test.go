package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A check goes on until all is looked at, prints what it came upon, and fails while something is left.
func TestCheckAccount(t *testing.T) {
	mended := false
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Repair bool    `json:"repair"`
			After  onwards `json:"after"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Method+r.URL.Path != "POST/api/v1/accounts/u@a.test/check" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		mended = mended || body.Repair
		if body.After.UID == 0 {
			fmt.Fprint(w, `{"folders": 2, "messages": 500, "found": [], "next": {"folder": 1, "uid": 500}}`)
			return
		}
		if mended && !body.Repair {
			fmt.Fprint(w, `{"messages": 2, "found": []}`)
			return
		}
		fmt.Fprintf(w, `{"messages": 2, "found": [{"folder": "INBOX", "uid": 501, "what": "there is no such volume", "proved": true, "mended": %v, "done": "found"}]}`, body.Repair)
	}))
	defer api.Close()
	run := func(words ...string) (string, error) {
		var out bytes.Buffer
		err := Run(t.Context(), append(words, "--server", api.URL, "--token", "x"), func(string) string { return "" }, &out)
		return out.String(), err
	}
	out, err := run("account", "check", "u@a.test")
	if err == nil || !strings.Contains(err.Error(), "1 contradictions; with --repair") || !strings.Contains(out, "u@a.test: 502 messages in 2 folders, 1 contradictions") ||
		!strings.Contains(out, "INBOX   501  proved  there is no such volume") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run("account", "check", "u@a.test", "--repair"); err != nil || !strings.Contains(out, "mended  there is no such volume: found") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run("account", "check", "u@a.test"); err != nil || out != "u@a.test: 502 messages in 2 folders, 0 contradictions\n" {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := run("account", "check"); err == nil {
		t.Error("no address, and no complaint")
	}
}
