package lab

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// metrics scrapes a cluster that works: the metrics keep Prometheus' conventions, name nobody, count what happened, and
// every one is explained to operators.
func metrics(t *testing.T, r *crashRun) {
	manual, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	r.send(500*time.Millisecond, func() {})
	r.verify("")
	proposals := 0
	for _, n := range r.cluster.Nodes {
		text := get(t, n.HTTP+"/metrics")
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		for _, a := range append(r.cluster.Accounts, Account{Address: Domain}, Account{Address: "127.0.0.1"}) {
			if strings.Contains(text, a.Address) {
				t.Errorf("%s is in the metrics", a.Address)
			}
		}
		for _, m := range regexp.MustCompile(`(?m)^# TYPE (hongyan_\w+)`).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(string(manual), "`"+m[1]+"`") {
				t.Errorf("docs/operations.md does not explain %s", m[1])
			}
		}
		for _, line := range []string{`hongyan_node_ready 1`, `hongyan_shard_leader_known{shard="0"} 1`, `hongyan_shard_stopped{shard="0"} 0`,
			fmt.Sprintf(`hongyan_peer_up{peer="%s",region="%s"} 1`, peerOf(r.cluster, n).ID, peerOf(r.cluster, n).Region)} {
			if !strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("node %s: no line %q", n.ID, line)
			}
		}
		for _, family := range []string{"smtp_messages_total", "imap_commands_total", "pop3_sessions", "login_seconds", "shard_leader", "volume_append_seconds",
			"index_disk_bytes", "peer_rtt_seconds", "connections", "disk_free_bytes", "build_info",
			"volume_append_failures_total"} { // there, and on a starved machine not always 0: appends that fail are made again elsewhere
			if !strings.Contains(text, "\n# TYPE hongyan_"+family+" ") {
				t.Errorf("node %s: no metric hongyan_%s", n.ID, family)
			}
		}
		for _, which := range []string{"peer", "clients"} {
			if !strings.Contains(text, "\nhongyan_certificate_expiry_seconds{certificate=\""+which+"\"} 3.1") { // ten years
				t.Errorf("node %s: when the certificate for %s ends is not said", n.ID, which)
			}
		}
		if !strings.Contains(text, `hongyan_shard_proposals_total{result="ok"} 0`) {
			proposals++
		}
	}
	if proposals == 0 {
		t.Error("no leader counted a proposal")
	}
}

// peerOf is another node than n.
func peerOf(c *Cluster, n Member) Member {
	if c.Nodes[0].ID == n.ID {
		return c.Nodes[1]
	}
	return c.Nodes[0]
}

func get(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", url, res.StatusCode, err)
	}
	return string(b)
}
