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

// A rotation asks again, without another new key, until nothing is left.
func TestRotateKeys(t *testing.T) {
	left := []int{7, 3, 0}
	var asked []string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Node   string `json:"node"`
			NewKey bool   `json:"new_key"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Method+r.URL.Path != "POST/api/v1/keys/rotate" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		asked = append(asked, fmt.Sprintf("%s %v", body.Node, body.NewKey))
		fmt.Fprintf(w, `{"nodes": [{"node": "n", "keys": [{"key": "old", "files": %d}, {"key": "new", "files": 9}], "files_left": %d}]}`, left[0], left[0])
		if len(left) > 1 {
			left = left[1:]
		}
	}))
	defer api.Close()
	run := func(words ...string) (string, error) {
		var out bytes.Buffer
		asked = nil
		err := Run(t.Context(), append(words, "--server", api.URL, "--token", "x"), func(string) string { return "" }, &out)
		return out.String(), err
	}
	out, err := run("keys", "rotate", "--node", "n")
	if err != nil || fmt.Sprint(asked) != "[n true n false n false]" {
		t.Fatalf("asked %v: %v", asked, err)
	}
	if !strings.Contains(out, "old  0      not needed any more") || !strings.Contains(out, "new  9      newest") {
		t.Errorf("printed\n%s", out)
	}
	left = []int{4} // and it stays so: a file that cannot be written
	if out, err := run("keys", "rotate", "--no-new-key"); err == nil || fmt.Sprint(asked) != "[ false  false]" || !strings.Contains(out, "4 files are wrapped by older keys") {
		t.Errorf("asked %v, printed\n%s%v", asked, out, err)
	}
}

func TestKeysOfANodeThatFails(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"nodes": [{"node": "a", "index_in_the_clear": true, "plain_volumes": 2}, {"node": "b", "error": "is down"}]}`)
	}))
	defer api.Close()
	var out bytes.Buffer
	err := Run(t.Context(), []string{"keys", "--server", api.URL, "--token", "x"}, func(string) string { return "" }, &out)
	if err == nil || !strings.Contains(err.Error(), "b: is down") || !strings.Contains(out.String(), "2 volumes in the clear, index and logs in the clear") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
