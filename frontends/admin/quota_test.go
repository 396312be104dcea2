package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hongyan/cluster/client"
)

func TestQuotaCommands(t *testing.T) {
	var asked []string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+r.URL.Path)
		if r.Method == "PATCH" {
			var c client.QuotaChange
			if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
				t.Error(err)
			}
			b, err := json.Marshal(c)
			if err != nil {
				t.Error(err)
			}
			asked = append(asked, string(b))
			fmt.Fprint(w, "{}")
			return
		}
		if strings.Contains(r.URL.Path, "@") {
			fmt.Fprint(w, `{"account": {"address": "a@x.test", "bytes": 1024, "own": true, "used_bytes": 7, "used_messages": 3}}`)
			return
		}
		fmt.Fprint(w, `{"domain": {"name": "x.test", "bytes": 1024, "total_bytes": 4096, "allotted_bytes": 2048, "permanent": true}}`)
	}))
	defer api.Close()
	for _, c := range []struct {
		words, asked, printed string
	}{
		{"quota show a@x.test", "GET/api/v1/quotas/a@x.test", "a@x.test  7           1024   3              any       account"},
		{"quota show x.test", "GET/api/v1/quotas/x.test", "x.test  1024        any            2048            4096         -                  any             552"},
		{"quota show x.test --json", "GET/api/v1/quotas/x.test", `"allotted_bytes": 2048`},
		{"quota set x.test --bytes 10G --total-messages none --when-full 452",
			`PATCH/api/v1/quotas/x.test {"bytes":10737418240,"messages":null,"follow":false,"total_bytes":null,"total_messages":0,"permanent":false} GET/api/v1/quotas/x.test`, "552"},
		{"quota set a@x.test --follow", `PATCH/api/v1/quotas/a@x.test {"bytes":null,"messages":null,"follow":true,"total_bytes":null,"total_messages":null,"permanent":null} GET/api/v1/quotas/a@x.test`, "account"},
	} {
		var out bytes.Buffer
		asked = nil
		err := Run(t.Context(), append(strings.Fields(c.words), "--server", api.URL, "--token", "x"), func(string) string { return "" }, &out)
		if err != nil || strings.Join(asked, " ") != c.asked || !strings.Contains(out.String(), c.printed) {
			t.Errorf("%s: asked %q, %v, printed\n%s", c.words, asked, err, out.String())
		}
	}
	for _, words := range []string{"quota show", "quota set x.test", "quota set x.test --bytes 0", "quota set x.test --bytes 2000000T", "quota set x.test --bytes -1",
		"quota set x.test --bytes 5X", "quota set x.test --when-full 451", "quota set --bytes 5"} {
		asked = nil
		if err := Run(t.Context(), append(strings.Fields(words), "--server", api.URL, "--token", "x"), func(string) string { return "" }, new(bytes.Buffer)); err == nil || asked != nil {
			t.Errorf("%s: %v, asked %q", words, err, asked)
		}
	}
}
